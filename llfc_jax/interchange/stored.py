"""What a file holds, before anything but names, shapes and types has been read of it."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.types import PyTree

Arrays = dict[str, np.ndarray]


class Stored(NamedTuple):
    """An array in a file, which may claim to be of any size; it is read when it is wanted."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy's name of the type, or the format's own where NumPy has none."""
    read: Callable[[], np.ndarray]
    """Raises UserError."""

    @property
    def is_floating(self) -> bool:
        """Whether it can be a weight."""
        try:
            return bool(jnp.issubdtype(jnp.dtype(self.dtype), jnp.floating))
        except TypeError:
            return False


class File(NamedTuple):
    """What a file holds."""

    stored: dict[str, Stored]
    """Name -> array, in the order of the file, or in natural order where the format keeps none.

    Names are the paths of nested mappings, joined by slashes."""
    format: str
    sha256: str
    metadata: Mapping[str, Any]
    """Of one of our own checkpoints; else empty."""
    ordered: bool
    """Whether the order is that in which the arrays were written."""
    roots: Mapping[str, str]
    """Name -> path of the state dict that it is in, with the slash after it; not for trees, which are one."""
    no_arrays: tuple[str, ...] = ()
    """What else is in the file."""

    @property
    def arrays(self) -> Arrays:
        """All of them, read."""
        return {name: one.read() for name, one in self.stored.items()}


def in_memory(array: Any) -> Stored:
    """An array that is read already."""
    array = np.asarray(array)
    return Stored(array.shape, str(array.dtype), lambda: array)


def unreadable(shape: tuple[int, ...], dtype: str, line: str) -> Stored:
    """An array that a file claims, and that can't be had: `line` says why to who asks for it."""

    def refuse() -> np.ndarray:
        raise UserError(line)

    return Stored(shape, dtype, refuse)


def flatten(tree: PyTree) -> Arrays:
    """Name -> array, a name being the path in the tree.

    Example:
        >>> flatten({"params": {"dense": {"bias": np.zeros(2)}}})
        {'params/dense/bias': array([0., 0.])}
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def in_natural_order(stored: Mapping[str, Stored]) -> dict[str, Stored]:
    """By name, numbers in it by value: `Dense_2` before `Dense_10`."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]

    return {name: stored[name] for name in sorted(stored, key=key)}
