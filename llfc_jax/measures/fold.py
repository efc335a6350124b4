"""What a measure does to data: a fold over batches, at one point of the path.

In optax's manner a fold holds pure functions. Each sees one batch at one alpha; the pass in
`llfc_jax.path.traversal` maps them over the alphas and streams the batches, so that none ever holds
more than one batch of features, whatever the number of samples.

What folds are made of is jitted: it is traced and lowered once for all layers and alphas that are alike.
"""

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp

from llfc_jax.path.masks import of_samples
from llfc_jax.program.flat import Values
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array, Features, PyTree, Variables

_Arguments = ParamSpec("_Arguments")


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


@dataclass(frozen=True, eq=False)
class Fold:
    """A fold over batches; for one that equals an earlier one nothing is compiled again."""

    init: Callable[[Point], PyTree]
    """Shapes of a point -> the empty state (a pytree of arrays)."""
    update: Callable[[PyTree, Point], PyTree]
    """State, point -> state. Traced under jit and vmap."""
    finalize: Callable[[PyTree, tuple[float, ...]], Any]
    """States stacked over alphas (NumPy), the alphas -> the result as plain dicts, lists and floats."""
    made_by: tuple[Hashable, ...] = ()
    """What made it of what, see `by_value`; else a fold equals those of the same three functions."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fold) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Hashable, ...]:
        return self.made_by or (self.init, self.update, self.finalize)


def by_value(make: Callable[_Arguments, Fold]) -> Callable[_Arguments, Fold]:
    """The same function, whose folds are equal where its arguments are.

    For functions of nothing but their arguments, which are hashable, or mappings of what is.

    Example:
        >>> @by_value
        ... def scaled(factor):
        ...     return Fold(lambda point: 0, lambda state, point: factor * state, lambda state, alphas: state)
        >>> scaled(2) == scaled(2), scaled(2) == scaled(3)
        (True, False)
    """

    @functools.wraps(make)
    def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Fold:
        given = (*args, *sorted(kwargs.items()))
        frozen = (tuple(x.items()) if isinstance(x, Mapping) else x for x in given)
        return replace(make(*args, **kwargs), made_by=(make, *frozen))

    return made


def repeat(state: PyTree, times: int) -> PyTree:
    """An empty state for each of many things that are measured alike, along a new first axis."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (times, *leaf.shape)), state)
