"""Loss and error of one network on one split."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Moments, add_moments, no_moments
from llfc_jax.types import Array, Batch, Variables

ApplyFn = Callable[[Variables, Array], Array]
"""Variables, images -> logits."""


class Scores(NamedTuple):
    """Cross-entropy and mistakes seen so far; mistakes are counted, so that errors are exact."""

    loss: Moments
    mistakes: Array
    """int32."""
    undefined: Array
    """How many samples had a logit that is NaN, int32."""
    examples: Array
    """int32."""


def evaluate(apply: ApplyFn, variables: Variables, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean cross-entropy (nats) and error (fraction).

    Args:
        apply: variables, images -> logits, in evaluation mode; pure. Give the same function again and nothing
            is compiled again.
        variables: the network.
        batches: of one shape.
    """
    found = jax.device_get([_scores(apply, variables, batch) for batch in batches])
    each = [(scores.loss.mean, *scores[1:]) for scores in found]
    loss, mistakes, undefined, examples = (np.array(column) for column in zip(*each, strict=True))
    error = mistakes.sum() / examples.sum() if not undefined.any() else math.nan
    return float(np.average(loss.astype(np.float64), weights=examples)), float(error)


def no_scores() -> Scores:
    """Nothing seen yet."""
    return Scores(no_moments(), *(jnp.zeros((), jnp.int32) for _ in range(3)))


def add_scores(scores: Scores, losses: Array, mistakes: Array, mask: Array) -> Scores:
    """Add one batch: what `losses_and_mistakes` returns, and the (n,) mask (0 for padding)."""
    seen = mask > 0

    def count(which: Array) -> Array:
        return jnp.sum(seen & which, dtype=jnp.int32)

    return Scores(
        loss=add_moments(scores.loss, losses, mask),
        mistakes=scores.mistakes + count(mistakes > 0),
        undefined=scores.undefined + count(jnp.isnan(mistakes)),
        examples=scores.examples + count(seen),
    )


def add_logits(scores: Scores, logits: Array, labels: Array, mask: Array) -> Scores:
    """Add one batch: (n, classes) logits, (n,) labels and mask (0 for padding)."""
    losses, mistakes = losses_and_mistakes(logits, labels)
    return add_scores(scores, losses, mistakes, mask)


def means(scores: Scores) -> dict[str, Any]:
    """Mean `loss` (nats) and `error` (fraction), in float64 over whatever axes the scores have."""
    error = np.asarray(scores.mistakes, np.float64) / np.maximum(scores.examples, 1)
    return {
        "loss": np.asarray(scores.loss.mean, np.float64),
        "error": np.where(scores.undefined == 0, error, np.nan),
    }


@jax.jit
def losses_and_mistakes(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Cross-entropy (nats), and 1 for a mistake, else 0; both NaN where a logit is.

    The loss is log(1 + sum_{j != y} exp(z_j - z_y)), whose digits stay when it is tiny; log sum exp(z) - z_y
    ends at 1e-7.

    Args:
        logits: (n, classes).
        labels: (n,).

    Returns:
        Both (n,), float32.
    """
    logits = logits.astype(jnp.float32)
    others = jnp.arange(logits.shape[-1])[None] != labels[:, None]
    ahead = logits - jnp.take_along_axis(logits, labels[:, None], axis=-1)
    losses = jax.nn.softplus(jax.nn.logsumexp(ahead, axis=-1, where=others))
    unknown = jnp.isnan(logits).any(-1)
    mistakes = jnp.where(logits.argmax(-1) == labels, 0.0, 1.0)
    return jnp.where(unknown, jnp.nan, losses), jnp.where(unknown, jnp.nan, mistakes)


def cross_entropy(apply: ApplyFn, variables: Variables, batch: Batch) -> Array:
    """Mean cross-entropy (nats) of one batch, padding left out."""
    losses, _ = losses_and_mistakes(apply(variables, batch.images), batch.labels)
    return jnp.vdot(losses, batch.mask) / batch.mask.sum()


@partial(jax.jit, static_argnums=0)
def _scores(apply: ApplyFn, variables: Variables, batch: Batch) -> Scores:
    return add_logits(no_scores(), apply(variables, batch.images), batch.labels, batch.mask)
