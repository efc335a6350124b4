"""Linear mode connectivity: loss and error along the path, and the barrier."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import numpy as np

from llfc_jax.measures.evaluation import LossFn, Scores, add_scores, means, no_scores, scores_of_logits
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import TEST, TRAIN, Measure, Options
from llfc_jax.path.chord import excess
from llfc_jax.path.interpolation import alpha_grid
from llfc_jax.path.moments import Moments, add_moments
from llfc_jax.path.traversal import Planned
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, test, train}`."""
    alphas = alpha_grid(options.num_alphas)
    return Measure(
        name="lmc",
        folds=lambda program: {"curves": Planned(lmc(options.loss_fn), alphas)},
        entry=lambda found: {"alphas": alphas} | {split: own["curves"] for split, own in found.folds.items()},
        splits=(TEST, TRAIN),
        along_corrected=True,
        labelled=True,
    )


class Curves(NamedTuple):
    """What theta_alpha scored, and by how much more than the chord between A and B."""

    scores: Scores
    examples: np.ndarray | int = 0
    excess: Moments = Moments()
    """Of `loss` and, where there is one, of `error`, (alphas, scores, 2).

    With m_i labels in example i, whose mean excess is x_i, the excess is the ratio sum m_i x_i / sum m_i:
    the mean of the x_i weighted by m_i. What its variance is made of is weighted by m_i^2.
    """


@by_value
def lmc(loss_fn: LossFn | None = None) -> Tally:
    """Loss (nats) and error (fraction) of theta_alpha, with both conventions of the barrier.

    Means are over labels. How uncertain a barrier is, is a matter of examples: tokens of one sequence are of
    one text and not drawn one by one, so that their number would promise far too much. The standard deviation
    is that of the ratio estimator with sequences for clusters, in units of one example (Cochran 1977,
    section 6.3): std^2 / n = sum m_i^2 (x_i - excess)^2 / (sum m_i)^2, and with one label each simply that of
    what an example exceeds its chord by. All three networks see the same examples, so this is small where
    the deviations of the losses themselves would say far too much.

    Args:
        loss_fn: outputs, labels -> (n, ...) losses, in place of cross-entropy; there is no error then.
    """

    def look(point: Point) -> tuple[Array, Scores]:
        return point.alpha, scores_of_logits(point.theta.logits, point.labels, point.mask, loss_fn)

    return Tally(look, _add, _finalize, Curves(no_scores(loss_fn)))


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


def midpoint_gap(alphas: Sequence[float], values: Sequence[float]) -> float:
    """L(theta_1/2) - (L(theta_A) + L(theta_B)) / 2, the number that Git Re-Basin's code prints.

    Example:
        >>> midpoint_gap([0.0, 0.5, 1.0], [1.0, 1.5, 3.0])
        -0.5
    """
    middle = list(alphas).index(0.5)
    return float(values[middle] - (values[0] + values[-1]) / 2)


@np.errstate(all="ignore")  # losses that are no numbers show
def _add(state: Curves, seen: tuple[np.ndarray, Scores]) -> Curves:
    """Add one batch: the alphas, from 0 to 1, and the scores of each example at each of them."""
    alphas, scores = seen
    labels = np.asarray(scores.labels, np.float64)
    sums = [values for values in (scores.loss, scores.mistakes) if values is not None]
    over = np.stack([excess(alphas[:, None], own / np.maximum(labels, 1)) for own in sums], axis=1)
    weights = np.stack([labels, np.square(labels)], axis=1)
    return Curves(
        scores=add_scores(state.scores, scores),
        examples=state.examples + (labels > 0).sum(-1),
        excess=add_moments(state.excess, over[:, :, None], weights[:, None]),
    )


def _std(excess: Moments, examples: np.ndarray) -> np.ndarray:
    """Whose square over the number of examples is the variance of the excess; moments (alphas, 2)."""
    labels, squared = (jax.tree.map(lambda own, at=at: own[:, at], excess) for at in (0, 1))
    around = squared.squares + squared.weight * np.square(squared.mean - labels.mean)
    per_example = labels.weight / np.maximum(examples, 1)
    return np.sqrt(around / np.maximum(examples, 1)) / np.where(per_example > 0, per_example, 1)


def _finalize(state: Curves, alphas: tuple[float, ...]) -> dict[str, Any]:
    examples, labels = int(np.asarray(state.examples)[0]), int(state.scores.labels[0])
    result: dict[str, Any] = {"examples": examples} | ({"labels": labels} if labels > examples else {})
    for which, (name, values) in enumerate(means(state.scores).items()):
        result[name] = values.tolist()
        result[f"{name}_barrier"] = barrier(alphas, values)
        result[f"{name}_midpoint_gap"] = midpoint_gap(alphas, values)
        over = jax.tree.map(itemgetter((slice(None), which)), state.excess)
        result[f"{name}_excess_std"] = _std(over, np.asarray(state.examples)).tolist()
    if "error" in result and labels > examples:
        with np.errstate(over="ignore"):
            result["perplexity"] = np.exp(result["loss"]).tolist()
    return result
