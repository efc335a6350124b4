"""Features by name, whatever a framework calls them, in the order in which a network computes them."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from llfc_jax.errors import UserError, kind_of
from llfc_jax.types import Array, Features, PyTree, Variables


@dataclasses.dataclass(frozen=True)
class NamedFeatures:
    """`apply_with_features` with the names of `named_features`.

    Equal for equal functions, so that jit doesn't compile it again.
    """

    apply_with_features: Callable[[Variables, Any], tuple[Array, PyTree]]

    def __call__(self, variables: Variables, inputs: Any) -> tuple[Array, Features]:
        found = self.apply_with_features(variables, inputs)
        if not isinstance(found, tuple | list) or len(found) != 2:  # an array of two rows is no pair
            raise UserError(f"apply_with_features: expected (logits, features); found {kind_of(found)}")
        logits, features = found
        return logits, named_features(features)


@dataclasses.dataclass(frozen=True)
class WithoutFeatures:
    """`apply` as a function that has no features to show; equal for equal functions."""

    apply: Callable[[Variables, Any], Array]

    def __call__(self, variables: Variables, inputs: Any) -> tuple[Array, Features]:
        return self.apply(variables, inputs), {}


@dataclasses.dataclass(frozen=True)
class OneOutput:
    """A function with features, of whose outputs one entry is taken; equal for equal functions."""

    features_fn: Callable[[Variables, Any], tuple[PyTree, Features]]
    output: str | int

    def __call__(self, variables: Variables, inputs: Any) -> tuple[PyTree, Features]:
        outputs, features = self.features_fn(variables, inputs)
        return entry_of(outputs, self.output), features


def chosen(
    features_fn: Callable[[Variables, Any], tuple[PyTree, Features]], output: str | int | None
) -> Callable[[Variables, Any], tuple[PyTree, Features]]:
    """The function, of whose outputs one entry is taken if one is named."""
    return features_fn if output is None else OneOutput(features_fn, output)


def entry_of(outputs: PyTree, output: str | int) -> PyTree:
    """An entry of what a network returns, by its key, name or index.

    Raises:
        UserError: there is none; names those that there are.

    Example:
        >>> entry_of({"logits": 1, "loss": 2}, "logits"), entry_of((1, 2), 1)
        (1, 2)
    """
    entries: dict[Any, PyTree] = dict(enumerate(outputs)) if isinstance(outputs, list | tuple) else {}
    if isinstance(outputs, Mapping):
        entries = dict(outputs)
    elif hasattr(outputs, "_asdict"):
        entries |= outputs._asdict()
    elif dataclasses.is_dataclass(outputs):
        entries = {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    if output not in entries:
        known = ", ".join(map(repr, entries)) or kind_of(outputs)
        raise UserError(f"output: expected an entry of what apply returns, {known}; found {output!r}")
    return entries[output]


def named_features(tree: PyTree) -> Features:
    """The arrays of a nested pytree by their paths.

    Of what Linen's `capture_intermediates` and NNX's `capture` return, it drops the output of the whole
    network, `__call__`, and the index of a method that was called once.

    Example:
        >>> x = jax.numpy.zeros((2, 3))
        >>> list(named_features({"relu": x, "block": {"Dense_0": {"__call__": (x,)}}}))
        ['block/Dense_0', 'relu']
    """
    if "flax.nnx" in sys.modules:  # else the tree is none of its states, and its import takes long
        nnx = sys.modules["flax.nnx"]
        tree = nnx.to_pure_dict(tree) if isinstance(tree, nnx.State) else tree
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
    if len(leaves) > 1:  # the output of the whole, besides that of its last part
        leaves = {name: leaf for name, leaf in leaves.items() if name not in ("__call__", "__call__/0")}
    return {_short(name, leaves): leaf for name, leaf in leaves.items()}


def _short(name: str, names: Features) -> str:
    if name.endswith("/0") and f"{name[:-1]}1" not in names:
        name = name[:-2]
    return name.replace("/__call__", "")
