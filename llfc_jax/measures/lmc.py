"""Linear mode connectivity: loss and error along the path, and the barrier."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from llfc_jax.measures.evaluation import Scores, add_scores, losses_and_mistakes, means, no_scores
from llfc_jax.measures.fold import Fold, Moments, Point, add_moments, by_value, no_moments, variance
from llfc_jax.measures.measure import TEST, TRAIN, Measure, Options
from llfc_jax.path.interpolation import alpha_grid, lerp
from llfc_jax.path.traversal import Planned


def measure(options: Options) -> Measure:
    """`{alphas, test, train}`."""
    alphas = alpha_grid(options.num_alphas)
    return Measure(
        name="lmc",
        folds=lambda program: {"curves": Planned(lmc(), alphas)},
        entry=lambda found: {"alphas": alphas} | {split: own["curves"] for split, own in found.folds.items()},
        splits=(TEST, TRAIN),
        along_corrected=True,
        labelled=True,
    )


class Curves(NamedTuple):
    """What theta_alpha scored, and by how much more than the chord between A and B, sample by sample."""

    scores: Scores
    loss_excess: Moments
    error_excess: Moments


@by_value
def lmc() -> Fold:
    """Loss (nats) and error (fraction) of theta_alpha, with both conventions of the barrier.

    Also the standard deviation over samples of what a sample's loss and error exceed their chord by. All
    three networks see the same samples, so this (over the root of their number) is how uncertain a barrier
    is, where the deviations of the losses themselves would say far too much.
    """
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
    return float(np.max(excess(alphas, values)))


def excess(alphas: ArrayLike, values: ArrayLike) -> np.ndarray:
    """L(theta_alpha) - ((1 - alpha) L(theta_A) + alpha L(theta_B)) at every alpha, in float64.

    Example:
        >>> excess([0.0, 0.5, 1.0], [1.0, 4.0, 3.0]).tolist()
        [0.0, 2.0, 0.0]
    """
    x, y = np.asarray(alphas, np.float64), np.asarray(values, np.float64)
    return y - ((1 - x) * y[0] + x * y[-1])


def midpoint_gap(alphas: Sequence[float], values: Sequence[float]) -> float:
    """L(theta_1/2) - (L(theta_A) + L(theta_B)) / 2, the number that Git Re-Basin's code prints.

    Example:
        >>> midpoint_gap([0.0, 0.5, 1.0], [1.0, 1.5, 3.0])
        -0.5
    """
    middle = list(alphas).index(0.5)
    return float(values[middle] - (values[0] + values[-1]) / 2)


def _init(point: Point) -> Curves:
    del point
    return Curves(no_scores(), no_moments(), no_moments())


def _update(state: Curves, point: Point) -> Curves:
    theta, a, b = (losses_and_mistakes(view.logits, point.labels) for view in (point.theta, point.a, point.b))
    (losses, mistakes), (chord_losses, chord_mistakes) = theta, lerp(a, b, point.alpha)
    return Curves(
        scores=add_scores(state.scores, losses, mistakes, point.mask),
        loss_excess=add_moments(state.loss_excess, losses - chord_losses, point.mask),
        error_excess=add_moments(state.error_excess, mistakes - chord_mistakes, point.mask),
    )


def _finalize(state: Curves, alphas: tuple[float, ...]) -> dict[str, Any]:
    excesses = {"loss": state.loss_excess, "error": state.error_excess}
    result: dict[str, Any] = {"examples": int(state.scores.examples[0])}
    for name, values in means(state.scores).items():
        result[name] = values.tolist()
        result[f"{name}_barrier"] = barrier(alphas, values)
        result[f"{name}_midpoint_gap"] = midpoint_gap(alphas, values)
        result[f"{name}_excess_std"] = np.sqrt(variance(excesses[name])).tolist()
    return result
