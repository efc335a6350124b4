"""Loss and error of one network on one split.

The mean over all labels that count: with labels (n, T) and a mask, over the tokens of all batches together,
each once, however they are spread over sequences and batches. So batches join as sums and counts.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, kind_of
from llfc_jax.path.masks import spread
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Batch, PyTree, Variables

ApplyFn = Callable[[Variables, Any], Array]
"""Variables, inputs -> logits."""

LossFn = Callable[[PyTree, PyTree], Array]
"""Outputs, labels -> (n, ...) losses, one for each label: what is measured instead of cross-entropy."""


class Scores(NamedTuple):
    """Sums over the labels that count: of each example on the devices, of all examples on the host."""

    loss: Any
    labels: Any
    """How many."""
    mistakes: Any
    """How many; NaN where a logit is; None where the loss is none of logits and classes."""


def evaluate(apply: ApplyFn, variables: Variables, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean cross-entropy (nats) and error (fraction).

    Args:
        apply: variables, inputs -> logits, in evaluation mode; pure. Give the same function again and nothing
            is compiled again.
        variables: the network.
        batches: of one shape.
    """
    seen = [_scores(apply, variables, batch) for batch in batches]
    found = means(reduce(add_scores, sharding.fetch(seen), no_scores()))
    return float(found["loss"]), float(found["error"])


def no_scores(loss_fn: LossFn | None = None) -> Scores:
    """Nothing seen yet."""
    return Scores(0.0, 0.0, 0.0 if loss_fn is None else None)


def scores_of(losses: Array, mistakes: Array | None, mask: Array) -> Scores:
    """The scores of each example of a batch, (n,): of what `scored` returns, and its mask."""
    mask = spread(mask, losses.shape)

    def total(values: Array) -> Array:
        return jnp.where(mask > 0, values, 0).sum(range(1, values.ndim))

    labels = total(jnp.ones_like(losses))
    return Scores(total(losses), labels, None if mistakes is None else total(mistakes))


def scores_of_logits(logits: PyTree, labels: PyTree, mask: Array, loss_fn: LossFn | None = None) -> Scores:
    """The same of (n, ..., classes) logits, (n, ...) labels, and the mask of samples or labels."""
    return scores_of(*scored(logits, labels, loss_fn), mask)


def add_scores(scores: PyTree, batch: PyTree) -> Any:
    """Scores so far, or a pytree of them, with those of each example of a batch, (..., n)."""
    return jax.tree.map(lambda seen, new: seen + np.asarray(new, np.float64).sum(-1), scores, batch)


def means(scores: Scores) -> dict[str, Any]:
    """Mean `loss` (nats), and `error` (fraction) where there is one, over whatever axes the scores have."""
    sums = {"loss": scores.loss} | ({} if scores.mistakes is None else {"error": scores.mistakes})
    return {name: np.asarray(total) / np.maximum(scores.labels, 1) for name, total in sums.items()}


def logits_shape(outputs: PyTree, n: int | None = None) -> tuple[int, ...]:
    """(n, ..., classes): the shape of what cross-entropy and errors are taken of.

    Args:
        outputs: shapes of what the network returns.
        n: how many samples there are, if it is known.

    Raises:
        UserError: it is no array of real numbers with a sample and a class axis.
    """
    if not isinstance(outputs, jax.ShapeDtypeStruct):
        keys = f" of {', '.join(map(repr, outputs))}" if isinstance(outputs, Mapping) else ""
        raise UserError(
            "apply: expected an array of logits, or `output` to say which entry they are; "
            f"found {kind_of(outputs)}{keys}"
        )
    if len(outputs.shape) < 2 or n not in (None, outputs.shape[0]):
        raise UserError(f"apply: expected logits ({n or 'n'}, ..., classes); found shape {outputs.shape}")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise UserError(f"apply: expected real logits; found {outputs.dtype}")
    return outputs.shape


def check_cross_entropy(measure: str, loss_fn: LossFn | None) -> None:
    """Check that logits are there for a measure that asks what they say of classes.

    Raises:
        UserError: the loss is one of the caller's own.
    """
    if loss_fn is not None:
        raise UserError(
            f"measures: expected none that needs logits beside a loss of one's own; found {measure!r}"
        )


def scored(outputs: PyTree, labels: PyTree, loss_fn: LossFn | None = None) -> tuple[Array, Array | None]:
    """The loss of each label, and whether it is mistaken: `losses_and_mistakes`, or a loss of one's own.

    Raises:
        UserError: the loss is no array (n, ...) of real numbers.
    """
    if loss_fn is None:
        return losses_and_mistakes(outputs, labels)
    losses = loss_fn(outputs, labels)
    if not isinstance(losses, jax.Array) or not jnp.issubdtype(losses.dtype, jnp.floating):
        found = losses.dtype if isinstance(losses, jax.Array) else kind_of(losses)
        raise UserError(f"loss_fn: expected (n, ...) floating-point losses; found {found}")
    return losses.astype(jnp.float32), None


@jax.jit
def losses_and_mistakes(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Cross-entropy (nats), and 1 for a mistake, else 0; both NaN where a logit is.

    The loss is log(1 + sum_{j != y} exp(z_j - z_y)), whose digits stay when it is tiny; log sum exp(z) - z_y
    ends at 1e-7.

    Args:
        logits: (n, ..., classes).
        labels: (n, ...).

    Returns:
        Both (n, ...), float32.

    Raises:
        UserError: the labels' shape isn't the logits', the classes left out.
    """
    if labels.shape != logits.shape[:-1]:
        raise UserError(f"labels: expected shape {logits.shape[:-1]}, by the logits; found {labels.shape}")
    logits = logits.astype(jnp.float32)
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    others = classes != labels[..., None]
    ahead = logits - jnp.take_along_axis(logits, labels[..., None], axis=-1)
    losses = jax.nn.softplus(jax.nn.logsumexp(ahead, axis=-1, where=others))
    unknown = jnp.isnan(logits).any(-1)
    mistakes = jnp.where(logits.argmax(-1) == labels, 0.0, 1.0)
    return jnp.where(unknown, jnp.nan, losses), jnp.where(unknown, jnp.nan, mistakes)


def cross_entropy(apply: ApplyFn, variables: Variables, batch: Batch) -> Array:
    """Mean cross-entropy (nats) of one batch, padding left out."""
    losses, _ = losses_and_mistakes(apply(variables, batch.images), batch.labels)
    mask = spread(batch.mask, losses.shape)
    return jnp.sum(jnp.where(mask > 0, losses, 0)) / mask.sum()


@partial(jax.jit, static_argnums=0)
def _scores(apply: ApplyFn, variables: Variables, batch: Batch) -> Scores:
    """Of each example."""
    seen = scores_of_logits(apply(variables, batch.images), batch.labels, batch.mask)
    return sharding.constrain_everywhere(seen)
