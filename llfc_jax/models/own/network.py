"""A network of the user's own as a `Model`, whatever framework it is written in."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.bridges.entries import chosen, entries
from llfc_jax.corrections.batchnorm import recompute, running_statistics
from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError, kind_of
from llfc_jax.models.own.file import FIELD, Origin, at_fault
from llfc_jax.types import Array, Features, Params, PRNGKey, PyTree, Variables

OUTPUT = "config.model.output"
"""The field that says which output is the logits."""


class Entry(NamedTuple):
    """An array as the network's framework saves it."""

    leaf: str
    """Its path in the variables."""
    axes: tuple[int, ...]
    """Axis of the leaf -> axis of the array; several arrays may be of one leaf."""


class Definition(Protocol):
    """What there is to know of a network in one framework."""

    @property
    def framework(self) -> str:
        """Its name."""

    @property
    def variables(self) -> PyTree:
        """Of `jax.ShapeDtypeStruct`s."""

    @property
    def trainable(self) -> frozenset[str]:
        """Paths of the leaves that training optimises."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Name in a file -> array."""

    def draw(self, key: PRNGKey) -> Variables:
        """Variables before training."""

    def outputs(self, variables: Variables, inputs: Array) -> tuple[Any, Features]:
        """In evaluation mode, with the features that have names."""

    def train(self, variables: Variables, inputs: Array, key: PRNGKey | None) -> tuple[Any, dict[str, Array]]:
        """Outputs in training mode, and path -> leaf after it: of all that change, or of more."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OwnNetwork:
    """A `Model`. What its code raises is one line with the place in the file."""

    origin: Origin
    definition: Definition
    num_classes: int
    output: str | None = None
    """Which of several arrays that it returns is the logits."""
    convolutional: bool = False
    moved: frozenset[str] = frozenset()
    """Paths of what `apply_train` changes."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Nobody has named them."""
        return ()

    @property
    def unmoved_statistics(self) -> tuple[str, ...]:
        """Of modules that are never called, or called as in evaluation."""
        paths = [path for path in by_path(self.definition.variables) if path not in self.definition.trainable]
        return tuple(sorted(running_statistics(paths).keys() - running_statistics(self.moved).keys()))

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Name in a file -> array."""
        return self.definition.entries

    def shapes(self, inputs: Any = None) -> PyTree:
        """Of all variables; its inputs have one shape."""
        del inputs
        return self.definition.variables

    def draw(self, key: PRNGKey, inputs: Array) -> Variables:
        """Variables before training, in the framework's own manner.

        Raises:
            UserError: the code fails, or makes another network than before.
        """
        del inputs
        with self._watched():
            drawn = self.definition.draw(key)
        self._check_same(drawn)
        return drawn

    def apply(self, variables: Variables, inputs: Array) -> Array:
        """Logits in evaluation mode."""
        return self.apply_with_features(variables, inputs)[0]

    def apply_with_features(self, variables: Variables, inputs: Array) -> tuple[Array, Features]:
        """The same with what submodules return, where they are PyTorch's."""
        with self._watched():
            outputs, features = self.definition.outputs(variables, inputs)
        return self._logits(outputs, len(inputs)), features

    def apply_train(
        self, variables: Variables, inputs: Array, key: PRNGKey | None
    ) -> tuple[Array, dict[str, Array]]:
        """Logits in training mode, and what else changes, by path."""
        with self._watched():
            outputs, after = self.definition.train(variables, inputs, key)
        before = by_path(variables)
        changes = {path: leaf for path, leaf in after.items() if leaf is not before[path]}
        return self._logits(outputs, len(inputs)), changes

    def parameters(self, variables: Variables) -> Params:
        """Path -> what training optimises."""
        return {path: leaf for path, leaf in by_path(variables).items() if path in self.definition.trainable}

    def updated(self, variables: Variables, params: Params, changes: PyTree) -> Variables:
        """Variables with other parameters, and with what `apply_train` said has changed."""
        leaves = {**by_path(variables), **params, **changes}
        return jax.tree.unflatten(jax.tree.structure(variables), leaves.values())

    def recompute(self, preprocess: Callable[[Any], Array]) -> Correction | None:
        """Of all pairs of a mean and a variance that training updates."""

        def apply_train(variables: Variables, inputs: Any) -> tuple[Array, dict[str, Array]]:
            return self.apply_train(variables, preprocess(inputs), None)

        return recompute(apply_train) if running_statistics(self.moved) else None

    def _watched(self) -> Any:
        return at_fault(self.origin.written, self.origin.path)

    def _logits(self, outputs: Any, n: int) -> Array:
        """The outputs, or the one of them that was asked for, if that is what they are.

        Raises:
            UserError: says what they are else.
        """
        found = entries(outputs, lambda value: isinstance(value, jax.Array))
        outputs = found[chosen(found, self.output, OUTPUT)] if found else outputs
        expected = f"expected logits ({n}, {self.num_classes}), for the classes of the data"
        if not isinstance(outputs, jax.Array):
            raise UserError(f"{FIELD}={self.origin.written}: {expected}; found {kind_of(outputs)}")
        real = jnp.issubdtype(outputs.dtype, jnp.floating)
        if not real or outputs.ndim < 2 or outputs.shape[0] != n or outputs.shape[-1] != self.num_classes:
            kind = f"{kind_of(outputs)}" if real else f"an array of {outputs.dtype}"
            raise UserError(f"{FIELD}={self.origin.written}: {expected}; found {kind}")
        return outputs

    def _check_same(self, drawn: Variables) -> None:
        expected, found = by_path(self.definition.variables), by_path(drawn)
        for path in [*expected, *found]:
            one, other = (np.shape(tree[path]) if path in tree else "none" for tree in (expected, found))
            if one != other:
                raise UserError(
                    f"{FIELD}={self.origin.written}: expected the same network each time it is made; "
                    f"found {path} of shape {other}, before {one}"
                )


def by_path(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def as_saved(variables: PyTree) -> dict[str, Entry]:
    """The entries of a pytree that is saved as it is."""
    return {path: Entry(path, tuple(range(leaf.ndim))) for path, leaf in by_path(variables).items()}
