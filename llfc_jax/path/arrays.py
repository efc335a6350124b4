"""Arrays of any framework, and lists of numbers, as arrays of NumPy or JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, first_line, kind_of
from llfc_jax.types import Array, PyTree


def as_arrays(tree: PyTree, where: str) -> PyTree:
    """The same pytree of arrays of NumPy or JAX, whichever framework they come from.

    Args:
        tree: of arrays; of lists of numbers, too, each of which is one array.
        where: what an error calls the tree.

    Raises:
        UserError: something in it is no array of numbers, or has integers too large for JAX's type.

    Example:
        >>> as_arrays({"tokens": [[1, 2], [3, 4]]}, "inputs")["tokens"].shape
        (2, 2)
    """
    return jax.tree.map(lambda leaf: _as_array(leaf, where), tree, is_leaf=_is_array_in_lists)


def is_array(value: Any) -> bool:
    """Whether a value is an array, of whichever framework."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_array_in_lists(node: Any) -> bool:
    """Whether lists hold nothing but numbers, which are no batch of anything by themselves."""
    leaves = jax.tree.leaves(node) if isinstance(node, list | tuple) else []
    return bool(leaves) and all(isinstance(leaf, int | float) for leaf in leaves)


def _as_array(leaf: Any, where: str) -> Array | np.ndarray | jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return leaf
    if hasattr(leaf, "detach"):  # PyTorch's, wherever it lies and whether or not it has a gradient
        leaf = leaf.detach().cpu()
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:  # rows of several lengths, or types that NumPy lacks
        raise UserError(f"{where}: expected an array of numbers; found {first_line(error)}") from error
    if not jnp.issubdtype(array.dtype, np.number) and array.dtype != bool:
        found = kind_of(leaf) if array.dtype == object else array.dtype
        raise UserError(f"{where}: expected an array of numbers; found {found}")
    kept = jnp.result_type(array)
    if np.issubdtype(array.dtype, np.integer) and array.size:
        limits, least, most = np.iinfo(kept), array.min(), array.max()
        if least < limits.min or most > limits.max:
            raise UserError(f"{where}: expected integers that {kept} holds; found {least} to {most}")
        array = array.astype(kept)
    return array
