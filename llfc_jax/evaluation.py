"""Loss and error of one network on one split."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import optax

from llfc_jax.data.batches import Batch
from llfc_jax.types import Array, Variables

ApplyFn = Callable[[Variables, Array], Array]
"""Variables, images -> logits."""


def make_evaluator(apply: ApplyFn) -> Callable[[Variables, Iterable[Batch]], tuple[float, float]]:
    """A function from variables and batches to (mean cross-entropy in nats, error as a fraction)."""

    @jax.jit
    def sums(variables: Variables, batch: Batch) -> tuple[Array, Array, Array]:
        logits = apply(variables, batch.images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        mistakes = logits.argmax(-1) != batch.labels
        return jnp.vdot(batch.mask, losses), jnp.vdot(batch.mask, mistakes), batch.mask.sum()

    def evaluate(variables: Variables, batches: Iterable[Batch]) -> tuple[float, float]:
        totals = jax.device_get([sums(variables, batch) for batch in batches])
        loss, mistakes, count = (sum(map(float, column)) for column in zip(*totals, strict=True))
        return loss / count, mistakes / count

    return evaluate
