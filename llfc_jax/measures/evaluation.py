"""Loss and error of one network on one split."""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from llfc_jax.types import Array, Batch, Variables

ApplyFn = Callable[[Variables, Array], Array]
"""Variables, images -> logits."""


def evaluate(apply: ApplyFn, variables: Variables, batches: Iterable[Batch]) -> tuple[float, float]:
    """Mean cross-entropy (nats) and error (fraction).

    Args:
        apply: variables, images -> logits, in evaluation mode; pure. Give the same function again and nothing
            is compiled again.
        variables: the network.
        batches: of one shape.
    """
    totals = jax.device_get([_sums(apply, variables, batch) for batch in batches])
    loss, mistakes, count = (sum(map(float, column)) for column in zip(*totals, strict=True))
    return loss / count, mistakes / count


def losses_and_mistakes(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Cross-entropy (nats), and 1 for a mistake, else 0; both NaN where a logit is.

    Args:
        logits: (n, classes).
        labels: (n,).

    Returns:
        Both (n,), float32.
    """
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    mistakes = jnp.where(logits.argmax(-1) == labels, 0.0, 1.0)
    return losses, jnp.where(jnp.isnan(logits).any(-1), jnp.nan, mistakes)


@partial(jax.jit, static_argnums=0)
def _sums(apply: ApplyFn, variables: Variables, batch: Batch) -> tuple[Array, Array, Array]:
    losses, mistakes = losses_and_mistakes(apply(variables, batch.images), batch.labels)
    return jnp.vdot(batch.mask, losses), jnp.vdot(batch.mask, mistakes), batch.mask.sum()
