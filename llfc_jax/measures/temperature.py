"""The temperature that suits theta_alpha: how much of a barrier is confidence alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.evaluation import (
    Scores,
    add_scores,
    check_cross_entropy,
    means,
    no_scores,
    scores_of_logits,
)
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.lmc import barrier
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.path.traversal import Planned
from llfc_jax.types import Array

INVERSES = np.geomspace(2.0**-10, 2.0**22, 257)
"""Inverse temperatures that are tried, an eighth of an octave apart.

Halfway between networks of d layers that don't know each other, logits are 2^d times too small.
"""


def measure(options: Options) -> Measure:
    """`{alphas, temperature, loss, recalibrated_loss, barrier, recalibrated_barrier}`.

    The temperature of each theta_alpha is the one with the least loss on test data, and that is the
    recalibrated loss: one number fitted to n examples takes about 1/(2n) nats off it. On training data that
    networks know by heart the best temperature is 0, which ruins what they say of other data.
    """
    check_cross_entropy("temperature", options.loss_fn)
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        losses = found.folds[TEST]["losses"]
        fitted = [best_inverse(one) for one in losses]
        plain = [loss_at(one, 1.0) for one in losses]
        after = [loss_at(one, inverse) for one, inverse in zip(losses, fitted, strict=True)]
        return {
            "alphas": alphas,
            "temperature": [1 / inverse for inverse in fitted],
            "loss": plain,
            "recalibrated_loss": after,
            "barrier": barrier(alphas, plain),
            "recalibrated_barrier": barrier(alphas, after),
        }

    return Measure(
        name="temperature",
        folds=lambda program: {"losses": Planned(losses_by_temperature(), alphas)},
        entry=entry,
        along_corrected=True,
        labelled=True,
        quantities={
            "temperature": "temperature",
            "loss": "loss (nats)",
            "recalibrated_loss": "loss, recalibrated (nats)",
        },
    )


@by_value
def losses_by_temperature() -> Tally:
    """Mean cross-entropy (nats) of softmax(beta z) for every beta in `INVERSES` (Guo et al. 2017).

    One number rescues a network whose features have collapsed in scale but not in direction, which is why
    wide networks that weren't aligned are connected up to a temperature (Ito et al. 2025, arXiv 2510.08023).

    Returns:
        The measure; its result is (alphas, inverse temperatures).
    """

    def look(point: Point) -> Scores:
        def at(inverse: Array) -> Scores:
            logits = inverse * point.theta.logits.astype(jnp.float32)
            return scores_of_logits(logits, point.labels, point.mask)

        return jax.lax.map(at, jnp.asarray(INVERSES, jnp.float32))

    def finalize(state: Scores, alphas: tuple[float, ...]) -> np.ndarray:
        del alphas
        return means(state)["loss"]

    return Tally(look, add_scores, finalize, no_scores())


def best_inverse(losses: np.ndarray) -> float:
    """Where losses at `INVERSES` are least: the vertex of the parabola through the three lowest, in log beta.

    Example:
        >>> round(best_inverse((np.log(INVERSES) - 0.3) ** 2), 6) == round(float(np.exp(0.3)), 6)
        True
    """
    if np.isnan(losses).any():
        return float("nan")
    best = int(np.argmin(losses))
    if best in (0, len(losses) - 1):
        return float(INVERSES[best])
    before, here, after = losses[best - 1 : best + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(INVERSES[best] * (INVERSES[1] / INVERSES[0]) ** shift)


def loss_at(losses: np.ndarray, inverse: float) -> float:
    """Between tried temperatures by the parabola through the three nearest, in log beta: right to 1e-4."""
    if np.isnan(inverse):
        return float("nan")
    place = np.log(inverse / INVERSES[0]) / np.log(INVERSES[1] / INVERSES[0])
    centre = int(np.clip(round(place), 1, len(losses) - 2))
    before, here, after = losses[centre - 1 : centre + 2]
    step = place - centre
    return float(here + step * (after - before) / 2 + step**2 * (before - 2 * here + after) / 2)
