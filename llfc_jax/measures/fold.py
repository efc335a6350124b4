"""What a measure does to data: a fold over batches, at one point of the path.

In optax's manner a fold is a NamedTuple of pure functions. Each sees one batch at one alpha; the pass in
`llfc_jax.path.traversal` maps them over the alphas and streams the batches, so that none ever holds
more than one batch of features, whatever the number of samples.

What folds are made of is jitted: it is traced and lowered once for all layers and alphas that are alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.program.flat import Values
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array, Features, PyTree, Variables


class View(NamedTuple):
    """A network and what it makes of one batch."""

    variables: Variables
    logits: Array
    """(n, classes)."""
    features: Features
    """f^(l)(theta; x) of every node whose samples are told apart, (n, ...)."""
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
    labels: Array
    """(n,) int32."""
    mask: Array
    """(n,) float32: 1 for a sample, 0 for padding."""


class Fold(NamedTuple):
    """A fold over batches."""

    init: Callable[[Point], PyTree]
    """Shapes of a point -> the empty state (a pytree of arrays)."""
    update: Callable[[PyTree, Point], PyTree]
    """State, point -> state. Traced under jit and vmap."""
    finalize: Callable[[PyTree, tuple[float, ...]], Any]
    """States stacked over alphas (NumPy), the alphas -> the result as plain dicts, lists and floats."""


def repeat(state: PyTree, times: int) -> PyTree:
    """An empty state for each of many things that are measured alike, along a new first axis."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (times, *leaf.shape)), state)


class Moments(NamedTuple):
    """Weighted count, mean and sum of squared deviations of a stream of numbers.

    Merged by the formula of Chan, Golub & LeVeque (1979), which doesn't cancel where a sum of squares would.
    """

    weight: Array
    mean: Array
    squares: Array


def no_moments() -> Moments:
    """Moments of nothing."""
    return Moments(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


@jax.jit
def add_moments(moments: Moments, values: Array, weights: Array) -> Moments:
    """Moments joined with those of `values` (n,), weighted by `weights` (n,); weight 0 hides a value."""
    values = jnp.where(weights > 0, values, 0)
    weight = weights.sum()
    mean = _ratio(jnp.sum(weights * values), weight)
    squares = jnp.sum(weights * jnp.square(values - mean))
    total = moments.weight + weight
    share = _ratio(weight, total)
    shift = mean - moments.mean
    return Moments(
        weight=total,
        mean=moments.mean + shift * share,
        squares=moments.squares + squares + jnp.square(shift) * moments.weight * share,
    )


def variance(moments: Moments) -> np.ndarray:
    """Population variance, in float64; NaN of nothing."""
    weight, squares = (np.asarray(leaf, np.float64) for leaf in (moments.weight, moments.squares))
    return np.where(weight > 0, squares / np.where(weight > 0, weight, 1), np.nan)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return numerator / jnp.where(denominator > 0, denominator, 1)
