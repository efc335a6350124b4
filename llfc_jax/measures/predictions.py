"""What theta_alpha predicts, against A, B and the ensemble of the two."""

from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.measures.evaluation import (
    Scores,
    add_scores,
    check_cross_entropy,
    losses_and_mistakes,
    means,
    no_scores,
    scores_of,
)
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.path.traversal import Planned
from llfc_jax.types import Array

OTHERS = ("a", "b", "ensemble")

QUANTITIES = {
    "disagreement_a": "disagreement with A",
    "disagreement_b": "disagreement with B",
    "disagreement_ensemble": "disagreement with the ensemble",
    "kl_a": "KL from A (nats)",
    "kl_b": "KL from B (nats)",
    "kl_ensemble": "KL from the ensemble (nats)",
}


def measure(options: Options) -> Measure:
    """`{alphas, disagreement_a, ..., kl_a, ..., ensemble_loss, ensemble_error}`, parallel to the alphas."""
    check_cross_entropy("predictions", options.loss_fn)
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        return {"alphas": alphas, **found.folds[TEST]["outputs"]}

    return Measure(
        name="predictions",
        folds=lambda program: {"outputs": Planned(predictions(), alphas)},
        entry=entry,
        labelled=True,
        quantities=QUANTITIES,
    )


@by_value
def predictions() -> Tally:
    """Disagreement (fraction of samples) and KL(other || theta_alpha) (nats) with A, B and their ensemble.

    The ensemble predicts (1 - alpha) p_A + alpha p_B. Where its error is far below that of theta_alpha, what
    the path loses is no matter of what the two networks know.
    """

    def look(point: Point) -> dict[str, Scores]:
        views = (point.theta, point.a, point.b)
        theta, a, b = (jax.nn.log_softmax(view.logits.astype(jnp.float32)) for view in views)
        shares = (jnp.log1p(-point.alpha), jnp.log(point.alpha))
        ensemble = jnp.logaddexp(a + shares[0], b + shares[1])
        scored = {
            name: (divergence(other, theta), disagreement(theta, other))
            for name, other in zip(OTHERS, (a, b, ensemble), strict=True)
        }
        scored["outcome"] = losses_and_mistakes(ensemble, point.labels)
        return {name: scores_of(*own, point.mask) for name, own in scored.items()}

    def finalize(state: dict[str, Scores], alphas: tuple[float, ...]) -> dict[str, list[float]]:
        del alphas
        outcome, *others = (means(state[name]) for name in ("outcome", *OTHERS))
        named = {"ensemble_loss": outcome["loss"], "ensemble_error": outcome["error"]}
        for name, own in zip(OTHERS, others, strict=True):
            named |= {f"disagreement_{name}": own["error"], f"kl_{name}": own["loss"]}
        return {name: values.tolist() for name, values in named.items()}

    return Tally(look, add_scores, finalize, dict.fromkeys((*OTHERS, "outcome"), no_scores()))


def disagreement(x: Array, y: Array) -> Array:
    """1 where the largest entry is another, else 0; NaN where an entry is."""
    unknown = jnp.isnan(x).any(-1) | jnp.isnan(y).any(-1)
    return jnp.where(unknown, jnp.nan, jnp.where(x.argmax(-1) == y.argmax(-1), 0.0, 1.0))


def divergence(p: Array, q: Array) -> Array:
    """KL(p || q) of log-probabilities (..., classes), in nats.

    Example:
        >>> p = jnp.log(jnp.array([0.5, 0.5]))
        >>> round(float(divergence(p, jnp.log(jnp.array([0.25, 0.75])))), 4)
        0.1438
    """
    return jnp.sum(jnp.where(p > -jnp.inf, jnp.exp(p) * (p - q), 0), axis=-1)
