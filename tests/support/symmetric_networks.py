"""Small networks with symmetries beyond permutations."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH = 8


def normal(*shape):
    rng = np.random.default_rng([*shape])
    return jax.device_put(np.float32(rng.normal(size=shape) / np.sqrt(shape[0])))


def hidden(function):
    """One hidden layer."""
    return lambda w, x: function(x @ w["in"] + w["bias"]) @ w["out"]


def rms_norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def layer_norm(x):
    return rms_norm(x - x.mean(-1, keepdims=True))


def stream(norm):
    """A stream that a block reads through a norm with a scale, and adds to."""

    def apply(w, x):
        x = x @ w["in"]
        x = x + jax.nn.gelu((norm(x) * w["scale"]) @ w["read"]) @ w["write"]
        return norm(x) @ w["out"]

    return apply


def attention(w, x):
    """Two heads over the samples as positions."""
    queries, keys, values = (jnp.einsum("nd,dhe->nhe", x, w[name]) for name in ("q", "k", "v"))
    scores = jax.nn.softmax(jnp.einsum("nhe,mhe->hnm", queries, keys), -1)
    return jnp.einsum("hnm,mhe,heo->no", scores, values, w["o"])


SHALLOW = {"in": normal(5, WIDTH), "bias": normal(WIDTH), "out": normal(WIDTH, 3)}
DEEP = {
    "in": normal(5, WIDTH),
    "scale": jax.device_put(1 + np.asarray(normal(WIDTH)) / 4),
    "read": normal(WIDTH, 9),
    "write": normal(9, WIDTH),
    "out": normal(WIDTH, 3),
}
HEADS = {name: normal(5, 2, 4) for name in "qkv"} | {"o": normal(2, 4, 5)}
GATED = {"gate": normal(5, WIDTH), "in": normal(5, WIDTH), "out": normal(WIDTH, 3)}
X = normal(6, 5)
