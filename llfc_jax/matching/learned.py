"""Learned matching: move B along all its symmetries at once, towards low loss between it and A."""

from collections.abc import Iterable
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.losses import LossFn, batches_for, check_start, mean_loss
from llfc_jax.matching.procrustes import Moved, procrustes_matching
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.exponents import MATRICES, TURNS
from llfc_jax.symmetry.maps import Maps, act, fold_scales, scales_of, shape_of_map
from llfc_jax.symmetry.spec import shape_of_permutation
from llfc_jax.types import Array, PRNGKey, PyTree, Variables

_MIDDLE = (0.4, 0.6)
"""Where on the line losses are descended: at its ends nothing is to be learned."""


def learned_matching(
    key: PRNGKey,
    symmetry: Symmetry,
    variables_a: Variables,
    variables_b: Variables,
    *,
    loss_fn: LossFn,
    batches: Iterable[Any],
    optimizer: optax.GradientTransformation,
    epochs: int,
    start: Variables | None = None,
) -> Moved:
    """B moved along its symmetries by descending `E L((1 - alpha) A + alpha g(B))`, alpha ~ U(0.4, 0.6).

    All of g is descended at once, from the identity, on B as `procrustes_matching` has moved it: rotations as
    exp(K - K^T), for LayerNorm with K centred, so that they fix the mean's direction; invertible maps as
    exp(K), scalings as exp(k); permutations by a straight-through estimator, whose forward pass assigns the
    free matrix and whose backward pass takes it for the assignment (Git Re-Basin, Algorithm 3). Signs stay as
    they are. After each epoch the loss of the midpoint on all batches decides, and the best g wins; a NaN
    ends the descent. On them, the result is never worse than the start.

    Args:
        key: Draws the order of the batches, alphas, and what `procrustes_matching` needs.
        symmetry: from `symmetries`.
        variables_a: A's arrays.
        variables_b: B's.
        loss_fn: `loss_fn(variables, batch)` is the mean loss of a batch; traced under jit.
        batches: Some training data, cut into batches of one shape.
        optimizer: Moves K, k and the free matrices.
        epochs: Passes over `batches`.
        start: B moved already, with A's scales of norms; as `procrustes_matching` moves it if left out.

    Returns:
        B moved; the objective is the loss of the midpoint at the start and after each epoch.

    Raises:
        UserError: On what `procrustes_matching` refuses, no batches, or a loss that is no scalar, or NaN or
            infinite at the start.
    """
    batches = batches_for(loss_fn, variables_a, batches)
    start_key, order_key = jax.random.split(key)
    if start is None:
        start = procrustes_matching(start_key, symmetry, variables_a, variables_b).variables
    folded = fold_scales(symmetry, start)
    free = _still(symmetry)

    def moved(free: Maps, pair: tuple[Variables, Variables]) -> Variables:
        a, b = pair
        for name, value in free.items():
            action = symmetry.actions.get(name) or _moving(symmetry, name)
            b = act(symmetry.spec, action, _map_of(action.kind, value), b)
        return scales_of(symmetry, b, a)

    @jax.jit
    def step(
        state: tuple[Maps, PyTree], pair: tuple[Variables, Variables], alpha: Array, batch: Any
    ) -> tuple[Maps, PyTree]:
        free, opt_state = state
        gradient = jax.grad(lambda free: loss_fn(lerp(pair[0], moved(free, pair), alpha), batch))(free)
        updates, opt_state = optimizer.update(gradient, opt_state, free)
        return optax.apply_updates(free, updates), opt_state

    @jax.jit
    def midpoint(free: Maps, pair: tuple[Variables, Variables], batch: Any) -> Array:
        return loss_fn(lerp(pair[0], moved(free, pair), 0.5), batch)

    pair = (variables_a, folded)

    def loss(free: Maps) -> float:
        return mean_loss(partial(midpoint, free, pair), batches)

    losses, best = [loss(free)], free
    check_start(losses[0])
    state = (free, optimizer.init(free))
    for epoch in range(epochs if free else 0):
        own = jax.random.fold_in(order_key, epoch)
        alphas = jax.random.uniform(own, (len(batches),), minval=_MIDDLE[0], maxval=_MIDDLE[1])
        for i in jax.random.permutation(own, len(batches)).tolist():
            state = step(state, pair, alphas[i], batches[i])
        losses.append(loss(state[0]))
        if not np.isfinite(losses[-1]):
            break
        if losses[-1] < min(losses[:-1]):
            best = state[0]
    return Moved(jax.jit(moved)(best, pair), tuple(losses))


def _still(symmetry: Symmetry) -> Maps:
    """What the identity is made of: zeros, and for permutations the matrix of each."""
    free: Maps = {}
    turned = {action.group for action in symmetry.actions.values() if action.kind in MATRICES}
    scales = {path for action in symmetry.actions.values() for path in action.uniform}
    for name, size in symmetry.spec.sizes.items():
        if name not in turned:
            free[name] = jnp.broadcast_to(jnp.eye(size), (*shape_of_permutation(symmetry.spec, name), size))
    for name, action in symmetry.actions.items():
        if action.kind != "sign" and not scales & action.powers.keys():
            free[name] = jnp.zeros(shape_of_map(symmetry, name))
    return free


def _moving(symmetry: Symmetry, name: str) -> Action:
    """A permutation as a map of units by a matrix."""
    moved = {path: leaf.axes_moved_by(name) for path, leaf in symmetry.spec.leaves.items()}
    powers = {path: dict.fromkeys(axes, Fraction(1)) for path, axes in moved.items() if axes}
    return Action(name, "permutation", symmetry.spec.sizes[name], powers)


def _map_of(kind: str, free: Array) -> Array:
    """The map that free numbers stand for."""
    if kind == "scaling":
        return jnp.exp(free)
    if kind == "permutation":
        assigned = jax.nn.one_hot(linear_assignment(jax.lax.stop_gradient(free)), free.shape[-1])
        return free + jax.lax.stop_gradient(assigned - free)
    if kind in TURNS:
        free = free - jnp.swapaxes(free, -1, -2)
    if kind == "mean-fixing orthogonal":
        free = free - free.mean(-1, keepdims=True)
        free = free - free.mean(-2, keepdims=True)
    return jax.scipy.linalg.expm(free, max_squarings=8)
