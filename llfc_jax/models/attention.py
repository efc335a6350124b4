"""Causal attention with grouped queries and rotary positions: what language models have beside a ViT's."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from llfc_jax.types import Array

BASE = 10_000.0
"""Of the wavelengths of rotary positions."""


def rotate(x: Array, positions: Array) -> Array:
    """Rotary positions: turns each pair of units by an angle in proportion to the position.

    Units i and i + d/2 are a pair, turned by p / BASE^(2i/d) (Su et al. 2021, equation 34, in the order of
    units that GPT-NeoX and Llama have). Scalar products of two turned vectors depend on the difference of
    their positions alone.

    Args:
        x: (n, t, heads, d), d even.
        positions: (t,).

    Returns:
        Of the shape of x.
    """
    half = x.shape[-1] // 2
    frequencies = BASE ** (-jnp.arange(half) / half)
    angles = (positions[:, None] * frequencies[None]).astype(x.dtype)[None, :, None]
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


class CausalAttention(nn.Module):
    """Each token reads itself and those before it: (n, t, c) -> (n, t, c).

    Attributes:
        heads: of the queries; divides c.
        kv_heads: of the keys and values, each for `heads / kv_heads` queries (Ainslie et al. 2023).
        rotary: whether queries and keys are turned by their positions.
        bias: whether the four linear layers have one.
        out_deviation: standard deviation of the last kernel at initialisation.
    """

    heads: int
    kv_heads: int
    rotary: bool
    bias: bool
    out_deviation: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        n, length, channels = x.shape
        size, group = channels // self.heads, self.heads // self.kv_heads
        linear = partial(nn.DenseGeneral, use_bias=self.bias, kernel_init=nn.initializers.normal(0.02))
        query = linear((self.heads, size), name="query")(x)
        key, value = (linear((self.kv_heads, size), name=name)(x) for name in ("key", "value"))
        if self.rotary:
            query, key = (rotate(part, jnp.arange(length)) for part in (query, key))
        query = query.reshape(n, length, self.kv_heads, group, size)
        scores = jnp.einsum("nqkgd,nskd->nkgqs", query, key) / size**0.5
        seen = jnp.tril(jnp.ones((length, length), bool))[None, None, None]
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        read = jnp.einsum("nkgqs,nskd->nqkgd", weights, value).reshape(n, length, self.heads, size)
        deviation = nn.initializers.normal(self.out_deviation)
        return linear(channels, axis=(-2, -1), kernel_init=deviation, name="out")(read)
