"""Losses over batches of one's own: what is asked of them, and the mean that a descent is judged by."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, kind_of
from llfc_jax.matching.problem import at_least_one
from llfc_jax.path.examples import as_they_are
from llfc_jax.types import Array, Variables

LossFn = Callable[[Variables, Any], Array]
"""Variables, batch -> mean loss, a scalar."""


def batches_for(loss_fn: LossFn, variables: Variables, batches: Iterable[Any]) -> list[Any]:
    """All batches, to go over them again and again.

    Raises:
        UserError: there are none, or the loss of one is no floating-point scalar.
    """
    found = list(at_least_one(as_they_are(batches)))
    loss = jax.eval_shape(loss_fn, variables, found[0])
    if not isinstance(loss, jax.ShapeDtypeStruct) or loss.shape:
        raise UserError(f"loss_fn: expected a scalar, found {kind_of(loss)}")
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise UserError(f"loss_fn: expected a floating-point number, found {loss.dtype}")
    return found


def as_static(loss_fn: LossFn) -> LossFn:
    """A loss that can be a static argument of jit; itself if it has a hash, to find its programs again."""
    try:
        hash(loss_fn)
    except TypeError:  # a pytree of arrays that can be called
        return lambda variables, batch: loss_fn(variables, batch)
    return loss_fn


def mean_loss(batch_loss: Callable[[Any], Array], batches: Sequence[Any]) -> float:
    """The mean over batches; they are waited for together."""
    return float(np.mean(jax.device_get([batch_loss(batch) for batch in batches])))


def check_start(loss: float) -> None:
    """Checks the loss that a descent starts from.

    Raises:
        UserError: it is NaN or infinite.
    """
    if not np.isfinite(loss):
        raise UserError(f"loss_fn: expected a finite number at the start, found {loss}")
