"""Activation matching: permute B's units so that their activations on data follow A's."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial, reduce
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.coordinate_descent import search
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import matched_leaves
from llfc_jax.matching.problem import Found, Problem, at_least_one
from llfc_jax.matching.similarity import assigned, at_assigned, by_level, undecided
from llfc_jax.path.moments import merged_weights
from llfc_jax.symmetry import PermutationSpec, held_fixed, identity, unit_activations
from llfc_jax.symmetry.spec import around, check_fit, shape_of_permutation
from llfc_jax.types import Array, Permutation, PRNGKey, PyTree, Variables


class Comoments(NamedTuple):
    """Second moments of the joint stream of n units of A and n of B, about their means.

    Attributes:
        weight: scalar, observations so far.
        mean_a: `(n,)`.
        mean_b: `(n,)`.
        squares_a: `(n,)` sum of (a - mean_a)^2.
        squares_b: `(n,)` sum of (b - mean_b)^2.
        products: `(n, n)` sum of (a_i - mean_a_i) (b_j - mean_b_j).
    """

    weight: Array
    mean_a: Array
    mean_b: Array
    squares_a: Array
    squares_b: Array
    products: Array


Seen: TypeAlias = dict[str, list[Comoments]]
"""Permutation name -> the moments of its units in each array that shows them."""


def comoments(a: Array, b: Array) -> Comoments:
    """Moments of one batch.

    Args:
        a: `(observations, n)` activations of A's units.
        b: `(observations, n)` activations of B's units, on the same samples and positions.
    """
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a[None], b - mean_b[None]
    products = jnp.matmul(a.T, b, precision=jax.lax.Precision.HIGHEST)
    weight = jnp.asarray(len(a), products.dtype)
    return Comoments(weight, mean_a, mean_b, jnp.square(a).sum(0), jnp.square(b).sum(0), products)


def merge(first: Comoments, second: Comoments) -> Comoments:
    """Moments of two streams together."""
    weight, share, between = merged_weights(first.weight, second.weight)
    shift_a, shift_b = second.mean_a - first.mean_a, second.mean_b - first.mean_b
    return Comoments(
        weight,
        first.mean_a + share * shift_a,
        first.mean_b + share * shift_b,
        first.squares_a + second.squares_a + between * jnp.square(shift_a),
        first.squares_b + second.squares_b + between * jnp.square(shift_b),
        first.products + second.products + between * jnp.outer(shift_a, shift_b),
    )


def covariance(moments: Comoments) -> Array:
    """`C[i, j]`, the covariance of unit i of A with unit j of B: `(n, n)`."""
    return moments.products / moments.weight


def correlation(moments: Comoments) -> Array:
    """`C[i, j]`, Pearson's correlation of unit i of A with unit j of B: `(n, n)`.

    A unit that doesn't vary beyond rounding, such as a dead one, correlates with nothing: 0.
    """

    def inverse_norm(squares: Array, mean: Array) -> Array:
        rounding = moments.weight * jnp.square(8 * jnp.finfo(mean.dtype).eps * mean)
        varies = squares > rounding
        return jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, squares, 1)), 0)

    scale_a = inverse_norm(moments.squares_a, moments.mean_a)
    scale_b = inverse_norm(moments.squares_b, moments.mean_b)
    return moments.products * scale_a[:, None] * scale_b[None, :]


STATISTICS: dict[str, Callable[[Comoments], Array]] = {"correlation": correlation, "covariance": covariance}
"""Name -> similarity of units."""

_MOST_SWEEPS = 100
"""Of the descent in the weights; it ends long before."""


def activation_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    variables_a: Variables,
    variables_b: Variables,
    *,
    apply: Callable[[Variables, Any], PyTree],
    batches: Iterable[Any],
    statistic: str = "correlation",
    assignment: str = "auto",
    exclude: tuple[str, ...] = ("batch_stats",),
) -> tuple[Permutation, MatchInfo]:
    """The permutation of B whose units vary together with A's over data.

    For each permutation `pi = argmax_p sum_i C[i, p[i]]`, where `C[i, j]` is the correlation (Li et al. 2016,
    arXiv 1511.07543) or covariance (Git Re-Basin, section 3.1, arXiv 2209.04836, where means are not
    subtracted) of unit i of A with unit j of B over samples and positions. What the units of a permutation
    are, `unit_activations` says; where they are seen in several places, as in a residual stream, `C` is the
    sum over these.

    One pass over the data; memory is that of one batch's activations and of `C`, whatever the number of
    batches. Permutations don't depend on each other, so each assignment is the exact optimum.

    Where several are best, the weights decide between them, by the descent of `weight_matching`: between
    units that are dead or constant on the data, and between those that are duplicates there.

    Args:
        key: Draws the visiting orders of the descent in the weights.
        spec: The symmetries of `apply`.
        variables_a: A's arrays, running statistics included.
        variables_b: B's.
        apply: `apply(variables, batch)`, in evaluation mode, returns a pytree of arrays.
        batches: Inputs of `apply`. A batch of another size costs a compilation.
        statistic: A key of `STATISTICS`.
        assignment: Solver, see `linear_assignment`.
        exclude: Collections that have no say where weights decide: running statistics.

    Returns:
        The permutation, for `apply_permutation(spec, permutation, variables_b)`, and how it was found: the
        objective is `sum C[i, p[i]]` over all permutations, before (the identity) and after.

    Raises:
        UserError: On an unknown statistic, no data, a spec that doesn't fit, a permutation whose units can't
            be seen, or an activation that is NaN or infinite.
    """
    if statistic not in STATISTICS:
        raise UserError(f"statistic: expected one of {', '.join(STATISTICS)}, found {statistic!r}")
    check_fit(spec, variables_a)
    check_fit(spec, variables_b)
    moments = _moments(spec, variables_a, variables_b, apply, batches) if spec.sizes else {}
    similar = _similarities(moments, spec, statistic)
    permutation, as_good = _assign(similar, spec, assignment)
    if _has_rivals(as_good, permutation):
        leaves_a, leaves_b = matched_leaves(spec, variables_a, variables_b, exclude)
        found, _ = search(key, leaves_a, leaves_b, spec, 1, _MOST_SWEEPS, assignment, as_good)
        weighed = {name for path in leaves_a for piece in spec.leaves[path].pieces for name in piece.perms}
        permutation |= {name: indices for name, indices in found.items() if name in weighed}
    objective = jnp.stack([_agreement(similar, each) for each in (identity(spec), permutation)])
    return permutation, MatchInfo(
        objective, jnp.int32(1), jnp.bool_(bool(spec.sizes)), objective[-1:], held_fixed(spec)
    )


def by_activations(key: PRNGKey, problem: Problem, options: Mapping[str, Any]) -> Found:
    """A `Matcher`, over the inputs of all batches."""
    return activation_matching(
        key,
        *problem[:3],
        apply=problem.apply,
        batches=problem.inputs(),
        statistic=options["statistic"],
    )


def _moments(
    spec: PermutationSpec,
    variables_a: Variables,
    variables_b: Variables,
    apply: Callable[[Variables, Any], PyTree],
    batches: Iterable[Any],
) -> Seen:
    """Moments over all batches."""

    @jax.jit
    def observe(variables_a: Variables, variables_b: Variables, batch: Any) -> Seen:
        a, b = (
            unit_activations(apply, variables, batch, spec=spec) for variables in (variables_a, variables_b)
        )

        def moments(x: Array, y: Array) -> Comoments:
            return comoments(x.reshape(len(x), -1), y.reshape(len(y), -1))

        return {name: list(map(moments, a[name], b[name])) for name in spec.sizes}

    @partial(jax.jit, donate_argnums=0)
    def join(total: Seen, new: Seen) -> Seen:
        return {name: list(map(merge, total[name], new[name])) for name in total}

    total = reduce(join, (observe(variables_a, variables_b, batch) for batch in at_least_one(batches)))
    for name, moments in total.items():
        for side, squares in (("A", "squares_a"), ("B", "squares_b")):
            if not all(jnp.isfinite(getattr(m, squares)).all() for m in moments):
                raise UserError(
                    f"activations of {name} in {side}: expected finite numbers, found NaN or infinity"
                )
    return total


@partial(jax.jit, static_argnames=("spec", "statistic"))
def _similarities(moments: Seen, spec: PermutationSpec, statistic: str) -> dict[str, Array]:
    """`C` of each permutation whose units are seen, by level."""
    measure, zero = STATISTICS[statistic], jnp.zeros(())
    summed = {name: sum(map(measure, seen), start=zero) for name, seen in moments.items() if seen}
    return {name: by_level(c, shape_of_permutation(spec, name)) for name, c in summed.items()}


@partial(jax.jit, static_argnames=("spec", "assignment"))
def _assign(
    similar: Mapping[str, Array], spec: PermutationSpec, assignment: str
) -> tuple[Permutation, dict[str, Array]]:
    """The best permutation, and what is as good, see `undecided`."""
    solve = partial(linear_assignment, implementation=assignment)
    best = identity(spec)
    as_good: dict[str, Array] = {}
    for name in spec.sizes:
        if not around(name, spec.sizes):
            best |= assigned(name, spec.sizes, similar, solve)[0]
            as_good |= undecided(name, spec.sizes, similar, solve)
    return best, as_good


@jax.jit
def _has_rivals(as_good: Mapping[str, Array], permutation: Permutation) -> Array:
    """Whether any position could as well have been assigned to another one."""
    pairs = (
        at_assigned(mask, around(name, permutation), permutation).sum() > permutation[name].size
        for name, mask in as_good.items()
    )
    return jnp.any(jnp.stack([jnp.zeros((), bool), *pairs]))


@jax.jit
def _agreement(similar: Mapping[str, Array], permutation: Permutation) -> Array:
    """`sum C[i, p[i]]` over all permutations."""
    chosen = (
        at_assigned(c, (*around(name, permutation), name), permutation).sum() for name, c in similar.items()
    )
    return sum(chosen, start=jnp.zeros(()))
