"""Moving one network until the networks on the lines and curves that it shapes have a low loss."""

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from llfc_jax.errors import DivergenceError, UserError
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, PRNGKey, PyTree, Variables

LossFn = Callable[[Variables, Any], Array]
"""Variables, batch -> mean loss, a scalar."""

Point = Callable[[PyTree, Variables, PRNGKey], Variables]
"""What stays, the network that moves, a key -> a network drawn from those whose loss counts."""


class Budget(NamedTuple):
    """How long to descend."""

    steps: int
    """Of a batch and a point each."""
    learning_rate: float
    """Of Adam at the start; a cosine takes it to 0."""


def descend(
    key: PRNGKey,
    start: Variables,
    point: Point,
    fixed: PyTree,
    *,
    loss_fn: LossFn,
    batches: Callable[[], Iterable[Any]],
    budget: Budget,
) -> tuple[Variables, list[float]]:
    """Minimise the expected loss of `point(fixed, moving, key)` over its keys and the batches, by Adam.

    Args:
        key: folded with the step, draws the points.
        start: the moving network at first.
        point: traced under jit.
        fixed: the other networks that points are made of.
        loss_fn: traced under jit.
        batches: starts a stream over training data; started again until there are enough.
        budget: of the descent.

    Returns:
        The network, and the loss of each step before it was taken.

    Raises:
        UserError: there are no batches.
        DivergenceError: the loss ends up as no number.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(budget.learning_rate, budget.steps))
    moving, state = start, optimizer.init(_floats(start))
    step = jax.jit(partial(_step, loss_fn, point, optimizer))
    losses = []
    for index, batch in enumerate(itertools.islice(_again(batches), budget.steps)):
        moving, state, loss = step(fixed, moving, state, batch, jax.random.fold_in(key, index))
        losses.append(loss)
    found = [float(loss) for loss in sharding.fetch(losses)]
    if found and not jnp.isfinite(found[-1]):
        raise DivergenceError(
            f"learning_rate: expected one at which training converges; at {budget.learning_rate:g} "
            f"its loss became {found[-1]}"
        )
    return moving, found


def _again(batches: Callable[[], Iterable[Any]]) -> Iterable[Any]:
    while True:
        batch = None
        for batch in batches():
            yield batch
        if batch is None:
            raise UserError("batches: expected one at least; found none")


def _step(
    loss_fn: LossFn,
    point: Point,
    optimizer: optax.GradientTransformation,
    fixed: PyTree,
    moving: Variables,
    state: PyTree,
    batch: Any,
    key: PRNGKey,
) -> tuple[Variables, PyTree, Array]:
    def loss_at(floats: list[Array]) -> Array:
        return loss_fn(point(fixed, _with_floats(moving, floats), key), batch)

    floats = _floats(moving)
    loss, gradient = jax.value_and_grad(loss_at)(floats)
    updates, state = optimizer.update(gradient, state, floats)
    return _with_floats(moving, optax.apply_updates(floats, updates)), state, loss


def _floats(variables: Variables) -> list[Array]:
    """What moves; counters and keys don't."""
    return [leaf for leaf in jax.tree.leaves(variables) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]


def _with_floats(variables: Variables, floats: list[Array]) -> Variables:
    moved = iter(floats)
    return jax.tree.map(
        lambda leaf: next(moved) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else leaf, variables
    )
