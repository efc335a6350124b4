"""Linear mode connectivity: loss and error along the path, and the barrier."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from llfc_jax.measures.evaluation import losses_and_mistakes
from llfc_jax.measures.fold import Fold, Moments, Point, add_moments, no_moments
from llfc_jax.measures.measure import TEST, TRAIN, Measure, Options
from llfc_jax.path.interpolation import alpha_grid
from llfc_jax.path.traversal import Planned
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, test, train}`."""
    alphas = alpha_grid(options.num_alphas)
    return Measure(
        name="lmc",
        folds=lambda program: {"curves": Planned(lmc(), alphas)},
        entry=lambda found: {"alphas": alphas} | {split: own["curves"] for split, own in found.folds.items()},
        splits=(TEST, TRAIN),
        along_corrected=True,
    )


class Curves(NamedTuple):
    """Cross-entropy and mistakes seen so far."""

    loss: Moments
    error: Moments


def lmc() -> Fold:
    """Loss (nats) and error (fraction) of theta_alpha, with both conventions of the barrier."""
    return Fold(init=_init, update=_update, finalize=_finalize)


def barrier(alphas: Sequence[float], values: Sequence[float]) -> float:
    """How far the path rises above its chord (Frankle et al. 2020; LLFC, section 2).

    max over alpha of L(theta_alpha) - ((1 - alpha) L(theta_A) + alpha L(theta_B)).

    Args:
        alphas: sorted, from 0 to 1.
        values: loss or error at each alpha.

    Returns:
        The barrier in the unit of `values`; 0 at least, since both ends lie on the chord.

    Example:
        >>> barrier([0.0, 0.5, 1.0], [1.0, 4.0, 3.0])
        2.0
    """
    x, y = np.asarray(alphas), np.asarray(values)
    return float(np.max(y - ((1 - x) * y[0] + x * y[-1])))


def midpoint_gap(alphas: Sequence[float], values: Sequence[float]) -> float:
    """L(theta_1/2) - (L(theta_A) + L(theta_B)) / 2, the number that Git Re-Basin's code prints.

    Example:
        >>> midpoint_gap([0.0, 0.5, 1.0], [1.0, 1.5, 3.0])
        -0.5
    """
    middle = list(alphas).index(0.5)
    return float(values[middle] - (values[0] + values[-1]) / 2)


def no_curves() -> Curves:
    """Nothing seen yet."""
    return Curves(no_moments(), no_moments())


def add_logits(state: Curves, logits: Array, labels: Array, mask: Array) -> Curves:
    """Add one batch: (n, classes) logits, (n,) labels and mask (0 for padding)."""
    losses, mistakes = losses_and_mistakes(logits, labels)
    return Curves(add_moments(state.loss, losses, mask), add_moments(state.error, mistakes, mask))


def _init(point: Point) -> Curves:
    del point
    return no_curves()


def _update(state: Curves, point: Point) -> Curves:
    return add_logits(state, point.theta.logits, point.labels, point.mask)


def _finalize(state: Curves, alphas: tuple[float, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, moments in state._asdict().items():
        values = np.asarray(moments.mean, np.float64).tolist()
        result[name] = values
        result[f"{name}_barrier"] = barrier(alphas, values)
        result[f"{name}_midpoint_gap"] = midpoint_gap(alphas, values)
    return result
