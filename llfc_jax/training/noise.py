"""Where children leave their trunk: noise on the weights, which twins differ by, and layers begun anew."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
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


def renewed(params: PyTree, others: PyTree, layers: Sequence[str]) -> PyTree:
    """Parameters with some layers' of another network.

    Args:
        params: of one.
        others: of the other, of the same structure.
        layers: what lies in them is theirs: parts of a dotted path, such as `dense4`.

    Raises:
        UserError: nothing lies in one of them.

    Example:
        >>> renewed({"body": {"bias": 1}, "head": [2]}, {"body": {"bias": 3}, "head": [4]}, ["head"])
        {'body': {'bias': 1}, 'head': [4]}
    """
    paths = [_dotted(path) for path, _ in jax.tree.leaves_with_path(params)]
    for layer in layers:
        if not any(_lies_in(path, layer) for path in paths):
            raise UserError(f"expected layers of the network, such as in {paths[0]}; found {layer!r}")

    def chosen(path: tuple[Any, ...], own: Any, other: Any) -> Any:
        return other if any(_lies_in(_dotted(path), layer) for layer in layers) else own

    return jax.tree.map_with_path(chosen, params, others)


def _dotted(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _lies_in(path: str, layer: str) -> bool:
    return f".{layer}." in f".{path}."
