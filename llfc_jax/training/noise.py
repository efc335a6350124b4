"""Noise on the weights of a network: what twins differ by."""

import jax
import jax.numpy as jnp

from llfc_jax.types import Array, PRNGKey, PyTree


def perturbed(key: PRNGKey, params: PyTree, noise: float) -> PyTree:
    """Add normal noise: theta + noise * rms(theta) * e, the root mean square that of each array.

    In units of the array's own size every layer is moved alike, and an array of zeros stays one; 0 leaves
    all as it is, bit for bit.

    Example:
        >>> before = {"kernel": jnp.full((100, 100), 3.0), "bias": jnp.zeros(4)}
        >>> after = perturbed(jax.random.key(0), before, noise=0.1)
        >>> print(f"{jnp.std(after['kernel'] - before['kernel']):.2f}", after["bias"].tolist())
        0.30 [0.0, 0.0, 0.0, 0.0]
    """
    if noise == 0:
        return params
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))

    def moved(key: PRNGKey, leaf: Array) -> Array:
        size = jnp.sqrt(jnp.mean(jnp.square(leaf)))
        return leaf + noise * size * jax.random.normal(key, leaf.shape, leaf.dtype)

    return jax.tree.unflatten(structure, [moved(*one) for one in zip(keys, leaves, strict=True)])
