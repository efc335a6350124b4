"""What a measure does to data: a fold over batches, at one point of the path.

In optax's manner a fold holds pure functions. Each sees one batch at one alpha; the pass in
`llfc_jax.path.traversal` maps them over the alphas and streams the batches, so that none ever holds
more than one batch of features, whatever the number of samples.

There are two kinds. A `Fold` keeps its state on the devices. A `Tally` takes a few numbers of each sample
from there, and adds them up on the host: a program that adds so few takes seconds to compile, where NumPy
takes microseconds.

What they are made of is jitted: it is traced and lowered once for all layers and alphas that are alike.
"""

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from llfc_jax.path.masks import of_samples
from llfc_jax.program.flat import Values
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array, Features, PyTree, Variables

_Arguments = ParamSpec("_Arguments")
_Kind = TypeVar("_Kind", bound="_ByValue")


class View(NamedTuple):
    """A network and what it makes of one batch."""

    variables: Variables
    logits: PyTree
    """(n, ..., classes), or whatever the network returns."""
    features: Features
    """f^(l)(theta; x) of every node whose samples are told apart, (n, ...); zero at hidden positions."""
    values: Values
    """All values of the flat program."""


class Point(NamedTuple):
    """One batch, seen by the networks theta_alpha, A and B."""

    program: Program
    alpha: Array
    """Scalar in [0, 1]."""
    theta: View
    a: View
    b: View
    labels: PyTree
    """(n,) int32; (n, T, ...) for sequences, or what a loss of one's own takes."""
    mask: Array
    """(n,) float32: 1 for a sample, 0 for padding; or (n, T, ...): 1 for each position that counts."""

    @property
    def samples(self) -> Array:
        """(n,): 1 for a sample of which anything counts."""
        return of_samples(self.mask)


@dataclass(frozen=True, eq=False, kw_only=True)
class _ByValue:
    """What equals another that was made alike; for an equal one nothing is compiled again."""

    made_by: tuple[Hashable, ...] = ()
    """What made it of what, see `by_value`; else it equals what has the same functions."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Hashable, ...]:
        return self.made_by or tuple(vars(self)[one.name] for one in fields(self) if one.compare)


@dataclass(frozen=True, eq=False)
class Fold(_ByValue):
    """A fold over batches, on the devices."""

    init: Callable[[Point], PyTree]
    """Shapes of a point -> the empty state (a pytree of arrays)."""
    update: Callable[[PyTree, Point], PyTree]
    """State, point -> state. Traced under jit and vmap."""
    finalize: Callable[[PyTree, tuple[float, ...]], Any]
    """States stacked over alphas (NumPy), the alphas -> the result as plain dicts, lists and floats."""


@dataclass(frozen=True, eq=False)
class Tally(_ByValue):
    """A fold over what is looked at in each batch, on the host and in NumPy."""

    look: Callable[[Point], PyTree]
    """Point -> a few numbers of each sample, or fewer. Traced under jit and vmap."""
    add: Callable[[PyTree, PyTree], PyTree]
    """State, what was looked at (NumPy, the alphas along a first axis) -> state."""
    finalize: Callable[[PyTree, tuple[float, ...]], Any]
    """The state, the alphas -> the result as plain dicts, lists and floats."""
    empty: PyTree = field(compare=False)
    """The state before the first batch, of numbers that go with any shape."""


def by_value(make: Callable[_Arguments, _Kind]) -> Callable[_Arguments, _Kind]:
    """The same function, whose folds and tallies are equal where its arguments are.

    For functions of nothing but their arguments, which are hashable, or mappings of what is.

    Example:
        >>> @by_value
        ... def scaled(factor):
        ...     return Fold(lambda point: 0, lambda state, point: factor * state, lambda state, alphas: state)
        >>> scaled(2) == scaled(2), scaled(2) == scaled(3)
        (True, False)
    """

    @functools.wraps(make)
    def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Kind:
        given = (*args, *sorted(kwargs.items()))
        frozen = (tuple(x.items()) if isinstance(x, Mapping) else x for x in given)
        return replace(make(*args, **kwargs), made_by=(make, *frozen))

    return made


def repeat(state: PyTree, times: int) -> PyTree:
    """An empty state for each of many things that are measured alike, along a new first axis."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (times, *leaf.shape)), state)
