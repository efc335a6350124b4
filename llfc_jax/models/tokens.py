"""The layers that make a sequence of tokens of an image or a text, and read it."""

import flax.linen as nn
import jax.numpy as jnp

from llfc_jax.types import Array


class Tokens(nn.Module):
    """A map as a sequence: (n, h, w, c) -> (n, h w, c)."""

    def __call__(self, x: Array) -> Array:
        return x.reshape(x.shape[0], -1, x.shape[-1])


class ClassToken(nn.Module):
    """One more token in front, the same for all images: (n, t, c) -> (n, t + 1, c)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        token = self.param("token", nn.initializers.zeros, (1, 1, x.shape[-1]))
        return jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, x.shape[-1])), x], axis=1)


class Position(nn.Module):
    """Adds a learned vector to each token, another one at each place."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return x + self.param("embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]))


class FirstToken(nn.Module):
    """What the class token has become: (n, t, c) -> (n, c)."""

    def __call__(self, x: Array) -> Array:
        return x[:, 0]


class Embedding(nn.Module):
    """A learned vector for each kind of token: (n, t) whole numbers, of whatever type -> (n, t, c)."""

    tokens: int
    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        table = self.param("embedding", nn.initializers.normal(0.02), (self.tokens, self.features))
        return jnp.take(table, x.astype(jnp.int32), axis=0)


class TiedHead(nn.Module):
    """Logits by the vectors of an `Embedding`, whose variables it takes: (n, t, c) -> (n, t, tokens)."""

    tokens: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        table = self.param("embedding", nn.initializers.normal(0.02), (self.tokens, x.shape[-1]))
        return jnp.einsum("ntc,vc->ntv", x, table)
