"""What a module is called with: arrays that follow the batch, and settings that stay."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.bridges.any_batch import Affine, at
from llfc_jax.bridges.reading import Call
from llfc_jax.bridges.state_dict import to_array
from llfc_jax.bridges.torch_import import import_torch
from llfc_jax.errors import UserError
from llfc_jax.types import Array


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Inputs:
    """The structure of a module's inputs."""

    tree: Any
    names: tuple[str, ...]
    """Of the arrays, for messages."""
    examples: tuple[Array, ...]
    settings: dict[str, Any]
    """Keyword arguments that are no arrays."""

    @property
    def batch_size(self) -> int:
        """Of the example: the leading axis of its first array."""
        return self.examples[0].shape[0] if self.examples[0].ndim else 0

    def call(self, leaves: Sequence[Any]) -> Call:
        """How to call the module with these arrays."""
        inputs = jax.tree.unflatten(self.tree, leaves)
        if isinstance(inputs, dict):
            return Call((), {**inputs, **self.settings})
        return Call(inputs if isinstance(inputs, tuple) else (inputs,), {})

    def shapes(self, n: int) -> list[jax.ShapeDtypeStruct]:
        """The arrays for a batch of n: the leading axes that are the batch's in the example follow."""
        return [
            jax.ShapeDtypeStruct(
                (n, *x.shape[1:]) if x.ndim and x.shape[0] == self.batch_size else x.shape, x.dtype
            )
            for x in self.examples
        ]


def read_inputs(example_inputs: Any) -> Inputs:
    """The structure of example inputs: an array, a tuple of arguments, or a mapping of keyword arguments.

    Raises:
        UserError: something among them is no array, and no keyword argument of its own.
    """
    settings = {}
    if isinstance(example_inputs, Mapping):
        settings = {
            key: value
            for key, value in example_inputs.items()
            if not any(map(_is_array, jax.tree.leaves(value)))
        }
        example_inputs = {key: value for key, value in example_inputs.items() if key not in settings}
    elif isinstance(example_inputs, list):
        example_inputs = tuple(example_inputs)
    paths, tree = jax.tree.flatten_with_path(example_inputs)
    names = tuple(_name(path) for path, _ in paths)
    for name, (_, leaf) in zip(names, paths, strict=True):
        if not _is_array(leaf):
            raise UserError(f"from_torch: {name}: expected an array; found {type(leaf).__name__}")
    if not paths:
        raise UserError("from_torch: example_inputs: expected an array at least; found none")
    arrays = tuple(_as_array(name, leaf) for name, (_, leaf) in zip(names, paths, strict=True))
    return Inputs(tree, names, arrays, settings)


def arrays_of(
    inputs: Any, expected: Inputs, shapes: Sequence[Any], why_fixed: str
) -> tuple[int, list[Array]]:
    """The batch size and the arrays of inputs.

    Args:
        inputs: of the structure of the example.
        expected: the example.
        shapes: of a batch of any size, with `Affine` sizes, or of one.
        why_fixed: why it is one, for the message.

    Raises:
        UserError: the structure, a shape or a kind of numbers is another.
    """
    if isinstance(inputs, Mapping):
        inputs = {key: value for key, value in inputs.items() if key not in expected.settings}
    elif isinstance(inputs, list):
        inputs = tuple(inputs)
    leaves, tree = jax.tree.flatten(inputs)
    if tree != expected.tree:
        found = ", ".join(_name(path) for path, _ in jax.tree.leaves_with_path(inputs)) or "nothing"
        raise UserError(f"inputs: expected {', '.join(expected.names)}, as in the example; found {found}")
    arrays = [_as_array(name, leaf) for name, leaf in zip(expected.names, leaves, strict=True)]
    n = arrays[0].shape[0] if arrays[0].ndim else 0
    for name, array, shape, example in zip(expected.names, arrays, shapes, expected.examples, strict=True):
        if array.shape != at(shape, n):
            pattern = ", ".join("n" if isinstance(size, Affine) else str(size) for size in shape)
            hint = f" ({why_fixed})" if why_fixed else ""
            raise UserError(
                f"{name}: expected shape ({pattern}); found {array.shape}{hint}: read the module again with "
                "example inputs of this shape"
            )
        if _kind(array) != _kind(example):
            raise UserError(f"{name}: expected {example.dtype}, as in the example; found {array.dtype}")
    return n, [array.astype(example.dtype) for array, example in zip(arrays, expected.examples, strict=True)]


def _is_array(leaf: Any) -> bool:
    torch, _ = import_torch()
    return isinstance(leaf, np.ndarray | np.generic | jax.Array) or torch.is_tensor(leaf)


def _as_array(name: str, leaf: Any) -> Array:
    if isinstance(leaf, jax.Array):
        return leaf
    torch, _ = import_torch()
    return to_array(torch, name, leaf) if torch.is_tensor(leaf) else jnp.asarray(leaf)


def _kind(array: Array) -> str:
    return "f" if jnp.issubdtype(array.dtype, jnp.floating) else array.dtype.kind.replace("u", "i")


def _name(path: Any) -> str:
    inner = jax.tree_util.keystr(path, simple=True, separator=".")
    return f"inputs {inner}" if inner else "inputs"
