"""Learned matching: move B along all its symmetries at once, towards low loss between it and A."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llfc_jax.errors import UserError
from llfc_jax.matching.assigning import permuted_by_assigning
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.keeping import Keeper, Kept
from llfc_jax.matching.losses import LossFn, as_static, batches_for, check_start, mean_loss
from llfc_jax.matching.moved import AS_IT_WAS, LEARNED, Moved, Rung, chosen_classes, ladder
from llfc_jax.matching.problem import Problem
from llfc_jax.matching.procrustes import procrustes_steps
from llfc_jax.matching.sinkhorn import permuted_by_sinkhorn
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import held_fixed
from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.exponents import TURNS
from llfc_jax.symmetry.maps import (
    Maps,
    act,
    commuting,
    fold_scales,
    free_scalings,
    is_matrix,
    scales_of,
    shape_of_map,
)
from llfc_jax.symmetry.spec import PermutationSpec, shape_of_permutation
from llfc_jax.types import Array, PRNGKey, PyTree, Variables

_MIDDLE = (0.4, 0.6)
"""Where on the line losses are descended: at its ends nothing is to be learned."""
_RATE = 1e-2
"""Of Adam: free matrices are near the identity."""


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
    classes: tuple[str, ...] | None = None,
    start_b: Variables | None = None,
    relaxation: str = "straight_through",
    exclude: tuple[str, ...] = ("batch_stats",),
    keeper: Keeper | None = None,
) -> Moved:
    """B moved along its symmetries by descending `E L((1 - alpha) A + alpha g(B))`, alpha ~ U(0.4, 0.6).

    All of g is descended at once, from the identity, on B as it is, or as weight matching or
    `procrustes_matching` moves it, whichever leaves the lowest loss: rotations as Cayley's transform
    (1 - S)^-1 (1 + S) of a skew S, for LayerNorm with S centred, so that they fix the mean's direction;
    invertible maps as 1 + K, scalings as exp(k); permutations by a relaxation of the assignment of a free
    matrix, either straight through it (Git Re-Basin, Algorithm 3) or as Sinkhorn's doubly stochastic matrix
    (Peña et al., arXiv 2212.12042). Signs and permutations of streams stay as they are. After each epoch the
    loss of the midpoint on all batches decides, with permutations assigned, and the best g wins; a NaN ends
    the descent. On them, the result is never worse than the start.

    To move A as well would add nothing: all these maps are linear in the weights and leave the function of
    any network, so that the line from g(A) to h(B) is g of the line from A to g^-1 h(B), with its losses.

    Args:
        key: Draws the order of the batches, alphas, and what `procrustes_matching` needs.
        symmetry: from `symmetries`.
        variables_a: A's arrays.
        variables_b: B's.
        loss_fn: `loss_fn(variables, batch)` is the mean loss of a batch; traced under jit.
        batches: Some training data, cut into batches of one shape.
        optimizer: Moves S, K, k and the free matrices.
        epochs: Passes over `batches`.
        classes: Kinds of maps beside permutations; all that the network has if left out.
        relaxation: of permutations, a key of `RELAXATIONS`.
        start_b: B moved already, with A's scales of norms; found as said if left out.
        exclude: Collections that are moved, but have no say in where to start.
        keeper: Of each epoch's end; what it has kept is gone on from, bit for bit.

    Returns:
        B moved; the objective is the loss of the midpoint at the start and after each epoch, the less the
        better; converged means that the last epoch was not the best.

    Raises:
        UserError: On what `procrustes_matching` refuses, an unknown relaxation, no batches, or a loss that is
            no scalar, or NaN or infinite at the start.
    """
    if relaxation not in RELAXATIONS:
        raise UserError(f"relaxation: expected one of {', '.join(RELAXATIONS)}; found {relaxation!r}")
    usable = symmetry.foldable
    chosen = chosen_classes(usable, classes)
    batches = batches_for(loss_fn, variables_a, batches)
    start_key, order_key = jax.random.split(key)
    relaxed, static = RELAXATIONS[relaxation], as_static(loss_fn)
    descent, still = _Descent(usable, static, optimizer, relaxed), _still(symmetry, chosen)

    def loss(b: Variables) -> float:
        return mean_loss(partial(_loss_between, descent, variables_a, b), batches)

    def start() -> _Progress:
        steps = {AS_IT_WAS: variables_b}
        if start_b is None:
            steps |= procrustes_steps(start_key, usable, variables_a, variables_b, chosen, exclude=exclude)[0]
        losses = {step: loss(b) for step, b in steps.items()}
        if start_b is None:
            scaled = {step: scales_of(usable, b, variables_a) for step, b in steps.items()}
            # where no scale is taken over, a network is the very one whose loss is known
            tried = {
                step: losses[step] if scaled[step] is b else loss(scaled[step]) for step, b in steps.items()
            }
            best = min(tried, key=lambda step: np.nan_to_num(tried[step], nan=np.inf))
            first, lowest = scaled[best], tried[best]
        else:
            first, lowest = start_b, loss(start_b)
        arrays = _Arrays(fold_scales(usable, first), still, optimizer.init(still), still)
        return _Progress(arrays, [lowest], ladder(variables_a, steps, losses))

    found = None if keeper is None else _kept(keeper, optimizer, variables_b, still)
    found = found or start()
    check_start(found.losses[0])
    found = _descend(order_key, descent, variables_a, found, batches, epochs, loss, keeper)
    moved, losses = _moved(descent, found.arrays.best, (variables_a, found.arrays.first)), found.losses
    last = ladder(variables_a, {LEARNED: moved}, {LEARNED: float(np.nanmin(losses))})
    objective = jnp.asarray(losses)
    info = MatchInfo(
        objective,
        jnp.int32(len(losses) - 1),
        jnp.bool_(bool(found.arrays.free) and losses[-1] > np.nanmin(losses)),
        jnp.nanmin(objective, keepdims=True),
        held_fixed(symmetry.spec),
    )
    return Moved(moved, info, symmetry, chosen, (*found.rungs, *last))


class _Arrays(NamedTuple):
    """The arrays of a descent, all that it takes to go on.

    Attributes:
        first: B at the start, the scales of norms folded.
        free: what it is moved by now.
        opt_state: of the optimizer.
        best: of all epochs' ends what left the lowest loss.
    """

    first: Variables
    free: Maps
    opt_state: PyTree
    best: Maps


class _Progress(NamedTuple):
    """Where a descent stands.

    Attributes:
        arrays: what moves.
        losses: of the midpoint at the start and after each epoch.
        rungs: the steps up to the start.
    """

    arrays: _Arrays
    losses: list[float]
    rungs: tuple[Rung, ...]


def _kept(
    keeper: Keeper, optimizer: optax.GradientTransformation, b: Variables, still: Maps
) -> _Progress | None:
    """Where an earlier descent was."""
    like = jax.eval_shape(lambda: _Arrays(b, still, optimizer.init(still), still))
    found = keeper.restore(like)
    if found is None:
        return None
    rungs = tuple(Rung(*rung) for rung in found.told["rungs"])
    return _Progress(_Arrays(*found.arrays), [*found.told["losses"]], rungs)


Relaxation: TypeAlias = Callable[[PermutationSpec, str, Array, Variables], Variables]
"""Where units are, which permutation, the free matrix that stands for it, a network -> it, permuted."""

RELAXATIONS: dict[str, Relaxation] = {
    "straight_through": permuted_by_assigning,
    "sinkhorn": permuted_by_sinkhorn,
}
"""Name -> relaxation."""

_Pair: TypeAlias = tuple[Variables, Variables]
"""A, and B with the scales of norms folded."""


class _Descent(NamedTuple):
    """What stays from step to step."""

    symmetry: Symmetry
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    relaxation: Relaxation

    def moved(self, free: Maps, pair: _Pair, permuted: Relaxation = permuted_by_assigning) -> Variables:
        """B moved by what free numbers stand for, with A's scales of norms."""
        a, b = pair
        for name, value in free.items():
            action = self.symmetry.actions.get(name)
            if action is None:
                b = permuted(self.symmetry.units, name, value, b)
            else:
                b = act(self.symmetry.units, action, _map_of(action, value), b)
        return scales_of(self.symmetry, b, a)

    def step(self, state: tuple[Maps, PyTree], pair: _Pair, alpha: Array, batch: Any) -> tuple[Maps, PyTree]:
        """Descends the loss of one batch at one place on the line."""
        free, opt_state = state

        def loss(free: Maps) -> Array:
            return self.loss_fn(lerp(pair[0], self.moved(free, pair, self.relaxation), alpha), batch)

        updates, opt_state = self.optimizer.update(jax.grad(loss)(free), opt_state, free)
        return optax.apply_updates(free, updates), opt_state

    def loss_between(self, a: Variables, b: Variables, batch: Any) -> Array:
        """Of the midpoint, on one batch."""
        return self.loss_fn(lerp(a, b, 0.5), batch)


# What stays is static: another pair of equal networks is moved by the same programs.
_moved, _step, _loss_between = (
    jax.jit(method, static_argnums=0) for method in (_Descent.moved, _Descent.step, _Descent.loss_between)
)


def _descend(
    key: PRNGKey,
    descent: _Descent,
    a: Variables,
    progress: _Progress,
    batches: Sequence[Any],
    epochs: int,
    loss: Callable[[Variables], float],
    keeper: Keeper | None,
) -> _Progress:
    """From where it stands through all epochs, or to one that ends at a loss that is no number."""
    (first, free, opt_state, best), losses, rungs = progress
    for epoch in range(len(losses) - 1, epochs if free else 0):
        own = jax.random.fold_in(key, epoch)
        alphas = jax.random.uniform(own, (len(batches),), minval=_MIDDLE[0], maxval=_MIDDLE[1])
        for i in jax.random.permutation(own, len(batches)).tolist():
            free, opt_state = _step(descent, (free, opt_state), (a, first), alphas[i], batches[i])
        losses = [*losses, loss(_moved(descent, free, (a, first)))]
        if not np.isfinite(losses[-1]):
            break
        if losses[-1] < min(losses[:-1]):
            best = free
        if keeper is not None:
            arrays = _Arrays(first, free, opt_state, best)
            keeper.keep(epoch + 1, Kept(arrays, {"losses": losses, "rungs": [[*rung] for rung in rungs]}))
    return _Progress(_Arrays(first, free, opt_state, best), losses, rungs)


def by_learning(key: PRNGKey, problem: Problem, options: Mapping[str, Any]) -> Moved:
    """A `Matcher`, over all batches, by Adam at a learning rate that falls to 0 as a cosine does."""
    batches, rate = [*problem.batches()], options["learning_rate"] or _RATE
    steps = max(options["epochs"] * len(batches), 1)
    return learned_matching(
        key,
        problem.symmetry(),
        problem.a,
        problem.b,
        loss_fn=problem.loss,
        batches=batches,
        optimizer=_adam(rate, steps),
        epochs=options["epochs"],
        classes=options["classes"] or None,
        relaxation=options["relaxation"],
        keeper=problem.keeper,
    )


@cache
def _adam(rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def _still(symmetry: Symmetry, classes: Sequence[str]) -> Maps:
    """What the identity is made of: zeros, and for permutations the matrix of each.

    A stream's permutation, that of units that could be rotated but for a scale, stays as it was matched.
    Assigned anew it jumps, in all layers at once, and what the other maps have learned is lost.
    """
    free: Maps = {}
    usable = symmetry.foldable
    actions = {name: action for name, action in usable.actions.items() if action.kind in classes}
    turned = {action.group for action in actions.values() if is_matrix(action)}
    turned |= {action.group for action in symmetry.actions.values() if action.kind in TURNS}
    for name, size in symmetry.spec.sizes.items():
        if name not in turned:
            free[name] = jnp.broadcast_to(jnp.eye(size), (*shape_of_permutation(symmetry.spec, name), size))
    for name, action in actions.items():
        if is_matrix(action) or name in free_scalings(usable):
            free[name] = jnp.zeros(shape_of_map(usable, name))
    return free


def _map_of(action: Action, free: Array) -> Array:
    """The map that free numbers stand for."""
    if action.kind == "scaling":
        return jnp.exp(free)
    still = jnp.eye(free.shape[-1])
    if action.kind not in TURNS:
        return still + commuting(action, free)
    skew = (free - jnp.swapaxes(free, -1, -2)) / 2
    if action.kind == "mean-fixing orthogonal":
        skew = skew - skew.mean(-1, keepdims=True)
        skew = skew - skew.mean(-2, keepdims=True)
    return jnp.linalg.solve(still - skew, still + skew)
