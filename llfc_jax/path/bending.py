"""Training a curve: its bend moves until the networks along it have a low loss."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from llfc_jax.errors import UserError
from llfc_jax.path.curves import BENT, Curve
from llfc_jax.path.interpolation import check_same_structure, lerp
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, PRNGKey, PyTree, Variables

LossFn = Callable[[Variables, Any], Array]
"""Variables, batch -> mean loss, a scalar."""


def bend(
    key: PRNGKey,
    a: Variables,
    b: Variables,
    *,
    kind: str,
    loss_fn: LossFn,
    batches: Callable[[], Iterable[Any]],
    steps: int,
    learning_rate: float,
) -> tuple[Curve, list[float]]:
    """The curve from A to B along which the expected loss over a uniform alpha is least.

    Garipov et al. 2018 (arXiv 1802.10026, equation 2): each step takes one batch and one alpha, and moves the
    bend C alone, by Adam under a cosine schedule, from the middle of the line: there the curve is the line.
    What BatchNorm does is up to `loss_fn`; where it normalises by the batch, running statistics stay those of
    the middle, and have to be recomputed along the curve.

    Args:
        key: draws an alpha for each step.
        a: variables of A.
        b: variables of B.
        kind: `bezier` or `polygon`.
        loss_fn: traced under jit.
        batches: starts a stream over training data; started again until there are enough.
        steps: how often the bend is moved.
        learning_rate: the first.

    Returns:
        The curve, and the loss of each step.

    Raises:
        UserError: A and B differ in structure, the kind is unknown, there are no batches, or the loss ends up
            as no number.
    """
    if kind not in BENT:
        raise UserError(f"kind: expected one of {', '.join(BENT)}; found {kind!r}")
    check_same_structure(a, b)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    curve = Curve(a, b, None, lerp(a, b, 0.5), kind)
    state = optimizer.init(_floats(curve.bend))
    step = jax.jit(partial(_step, loss_fn, optimizer))
    losses = []
    for index, batch in enumerate(itertools.islice(_again(batches), steps)):
        curve, state, loss = step(curve, state, batch, jax.random.fold_in(key, index))
        losses.append(loss)
    found = [float(loss) for loss in sharding.fetch(losses)]
    if found and not jnp.isfinite(found[-1]):
        raise UserError(
            f"learning_rate: expected one that a curve can be trained at; at {learning_rate:g} "
            f"its loss became {found[-1]}"
        )
    return curve, found


def _again(batches: Callable[[], Iterable[Any]]) -> Iterable[Any]:
    while True:
        batch = None
        for batch in batches():
            yield batch
        if batch is None:
            raise UserError("batches: expected one at least; found none")


def _step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    curve: Curve,
    state: PyTree,
    batch: Any,
    key: PRNGKey,
) -> tuple[Curve, PyTree, Array]:
    alpha = jax.random.uniform(key)

    def bent(floats: list[Array]) -> Curve:
        return replace(curve, bend=_with_floats(curve.bend, floats))

    moving = _floats(curve.bend)
    loss, gradient = jax.value_and_grad(lambda floats: loss_fn(bent(floats).at(alpha), batch))(moving)
    updates, state = optimizer.update(gradient, state, moving)
    return bent(optax.apply_updates(moving, updates)), state, loss


def _floats(variables: Variables) -> list[Array]:
    """What moves; counters and keys don't."""
    return [leaf for leaf in jax.tree.leaves(variables) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]


def _with_floats(variables: Variables, floats: list[Array]) -> Variables:
    moved = iter(floats)
    return jax.tree.map(
        lambda leaf: next(moved) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else leaf, variables
    )
