"""Straight-through estimator: permute B so that the network midway between A and it has a low loss."""

from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llfc_jax.errors import UserError
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import Leaves, cut_up, matched_leaves, replaced, selected
from llfc_jax.matching.losses import LossFn, as_static, batches_for, check_start, mean_loss
from llfc_jax.matching.problem import Found, Problem
from llfc_jax.matching.similarity import assigned, similarities, terms_of
from llfc_jax.matching.weights import weight_matching
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import PermutationSpec, apply_permutation, held_fixed
from llfc_jax.types import Array, Permutation, PRNGKey, PyTree, Variables

_RATE = 1e-3
"""Of Adam: a target is made of weights."""

_Pair: TypeAlias = tuple[Variables, Variables]
_State: TypeAlias = tuple[Leaves, PyTree]
"""The target and the optimizer's state."""


class _Recipe(NamedTuple):
    """What stays from step to step."""

    spec: PermutationSpec
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    sweeps: int
    assignment: str


def straight_through(
    key: PRNGKey,
    spec: PermutationSpec,
    variables_a: Variables,
    variables_b: Variables,
    *,
    loss_fn: LossFn,
    batches: Iterable[Any],
    optimizer: optax.GradientTransformation,
    epochs: int,
    start: Permutation | None = None,
    sweeps: int = 1,
    assignment: str = "auto",
    exclude: tuple[str, ...] = ("batch_stats",),
) -> tuple[Permutation, MatchInfo]:
    """The permutation of B found by descending the loss of the midpoint, `L((A + pi(B)) / 2)`.

    Git Re-Basin, Algorithm 3 (arXiv 2209.04836). A free target T, at first A's parameters, stands for the
    permutation: each step projects it to `pi = argmax <T, pi(B)>`, goes forward at `(A + pi(B)) / 2`, and
    hands T the gradient as if it were `pi(B)` itself. The projection isn't solved anew, but goes on from the
    last permutation by coordinate descent.

    Permutations jump and losses of single batches are noisy, so after each epoch the loss of all batches
    decides, and the best permutation wins: on them, the result is never worse than the start.

    What BatchNorm does is up to `loss_fn`. Running statistics are averaged like all else, but the average
    describes the midpoint badly: better let it normalise by the statistics of the batch, as in training.

    Args:
        key: Draws the order of the batches in each epoch, and what `weight_matching` needs.
        spec: The network's symmetries.
        variables_a: A's arrays, running statistics included.
        variables_b: B's.
        loss_fn: `loss_fn(variables, batch)` is the mean loss of a batch, a scalar; traced under jit.
        batches: Some training data, cut into batches of one shape: pytrees of arrays, PyTorch's among them.
        optimizer: Moves T; to change the permutation, its steps must add up to the size of the weights.
        epochs: Passes over `batches`.
        start: The first permutation; that of `weight_matching` if left out.
        sweeps: Passes of a projection over all permutations.
        assignment: Solver, see `linear_assignment`.
        exclude: Collections that are permuted and averaged, but neither trained nor matched.

    Returns:
        The best permutation, for `apply_permutation(spec, permutation, variables_b)`, and how it was found:
        the objective is the loss of the midpoint at the start and after each epoch, the less the better; a
        sweep is an epoch; converged means that the last one left the permutation as it was.

    Raises:
        UserError: On trees that differ, a spec or a start that doesn't fit them, a NaN or infinite parameter
            or loss at the start, a loss that is no scalar, or no batches.
    """
    if epochs < 1 or sweeps < 1:
        raise UserError(f"epochs, sweeps: expected at least 1, found {epochs} and {sweeps}")
    batches = batches_for(loss_fn, variables_a, batches)
    leaves_a, _ = matched_leaves(spec, variables_a, variables_b, exclude)
    start_key, order_key = jax.random.split(key)
    if start is None:
        start, _ = weight_matching(
            start_key, spec, variables_a, variables_b, assignment=assignment, exclude=exclude
        )

    recipe = _Recipe(spec, as_static(loss_fn), optimizer, sweeps, assignment)
    pair = (variables_a, variables_b)

    def loss(permutation: Permutation) -> float:
        return mean_loss(partial(_midpoint_loss, recipe, permutation, pair), batches)

    losses = [loss(start)]
    check_start(losses[0])
    best = permutation = start
    target = jax.tree.map(jnp.copy, leaves_a)  # each step donates it
    state, converged = (target, optimizer.init(target)), True
    for epoch in range(epochs if spec.sizes else 0):
        before = permutation
        for i in jax.random.permutation(jax.random.fold_in(order_key, epoch), len(batches)).tolist():
            state, permutation = _step(recipe, state, permutation, pair, batches[i])
        losses.append(loss(permutation))
        if losses[-1] < min(losses[:-1]):
            best = permutation
        converged = all(np.array_equal(before[name], permutation[name]) for name in spec.sizes)
    objective = jnp.asarray(losses)
    return best, MatchInfo(
        objective,
        jnp.int32(len(losses) - 1),
        jnp.bool_(converged and bool(spec.sizes)),
        objective.min(keepdims=True),
        held_fixed(spec),
    )


def by_straight_through(key: PRNGKey, problem: Problem, options: Mapping[str, Any]) -> Found:
    """A `Matcher`, over all batches, from weight matching's permutation."""
    return straight_through(
        key,
        *problem[:3],
        loss_fn=problem.loss,
        batches=problem.batches(),
        optimizer=_adam(options["learning_rate"] or _RATE),
        epochs=options["epochs"],
    )


_adam = cache(optax.adam)
"""One for one rate: jit finds its programs again."""


# The networks are arguments, not closed over: jit would copy them into the program.


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _step(
    recipe: _Recipe, state: _State, permutation: Permutation, pair: _Pair, batch: Any
) -> tuple[_State, Permutation]:
    """Project the target, go forward at the midpoint, and hand the target the gradient."""
    target, opt_state = state
    leaves_b = selected(pair[1], target)
    for _ in range(recipe.sweeps):
        permutation = _sweep(recipe.spec, target, leaves_b, permutation, recipe.assignment)
    middle = _midpoint(recipe.spec, permutation, pair)

    def loss(leaves: Leaves) -> Array:
        return recipe.loss_fn(replaced(middle, leaves), batch)

    # The midpoint holds one half of pi(B), for which the target stands in.
    gradient = jax.tree.map(lambda g: g / 2, jax.grad(loss)(selected(middle, target)))
    updates, opt_state = recipe.optimizer.update(gradient, opt_state, target)
    return (optax.apply_updates(target, updates), opt_state), permutation


@partial(jax.jit, static_argnums=0)
def _midpoint_loss(recipe: _Recipe, permutation: Permutation, pair: _Pair, batch: Any) -> Array:
    return recipe.loss_fn(_midpoint(recipe.spec, permutation, pair), batch)


def _sweep(
    spec: PermutationSpec, target: Leaves, leaves_b: Leaves, permutation: Permutation, assignment: str
) -> Permutation:
    """Assigns each permutation once, the others held, towards the largest <target, pi(B)>."""
    views, a = cut_up(spec, target)
    _, b = cut_up(spec, leaves_b)
    for name in spec.sizes:
        found = similarities(terms_of(name, spec.sizes, views, a, b), permutation)
        if found:
            solve = partial(linear_assignment, implementation=assignment)
            permutation = permutation | assigned(name, spec.sizes, found, solve)[0]
    return permutation


def _midpoint(spec: PermutationSpec, permutation: Permutation, pair: _Pair) -> Variables:
    a, b = pair
    return lerp(a, apply_permutation(spec, permutation, b), 0.5)
