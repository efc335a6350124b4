"""Coordinate descent over permutations: the search behind weight matching, compiled as a whole.

Git Re-Basin (Ainsworth et al., ICLR 2023, arXiv 2209.04836, Algorithm 1) with three changes. It starts not at
the identity but by spreading from the axes that are fixed, see `_propagated`. A permutation is visited again
only once another that shares a leaf with it has moved: any other visit could change nothing. And it restarts
from the best permutation found so far, kicked, see `_kicked`.
"""

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.leaves import Leaves, cut_up
from llfc_jax.symmetry import PermutationSpec, Piece, identity
from llfc_jax.types import Array, Permutation, PRNGKey


class Descent(NamedTuple):
    """Where one descent stands.

    Attributes:
        permutation: Name -> indices.
        objective: <A, pi(B)>.
        trace: `(max_sweeps + 1,)` the objective at the start and after each sweep; the last value repeats.
        sweeps: int32, passes made over the permutations.
        stale: `(permutations,)` bool, those that a visit may still improve; none once converged.
    """

    permutation: Permutation
    objective: Array
    trace: Array
    sweeps: Array
    stale: Array


class Term(NamedTuple):
    """A piece of A and of B, in its view, as one permutation meets it: the permutation moves `axis`."""

    a: Array
    b: Array
    axis: int
    perms: tuple[str | None, ...]

    @property
    def others(self) -> dict[int, str | None]:
        """Axis -> permutation (None if fixed), without the matched axis."""
        return {axis: name for axis, name in enumerate(self.perms) if axis != self.axis}


@partial(jax.jit, static_argnames=("spec", "restarts", "max_sweeps", "assignment"))
def search(
    key: PRNGKey,
    leaves_a: Leaves,
    leaves_b: Leaves,
    spec: PermutationSpec,
    restarts: int,
    max_sweeps: int,
    assignment: str,
) -> tuple[Descent, Descent]:
    """Descends from a propagated start, then again and again from the best so far after a random kick.

    Args:
        key: Draws visiting orders and kicks.
        leaves_a: The leaves to match, each listed in `spec`.
        leaves_b: The same for B.
        spec: The symmetries.
        restarts: Number of descents.
        max_sweeps: Limit on the passes over all permutations, per descent.
        assignment: Solver, see `linear_assignment`.

    Returns:
        The best descent, and all of them along a leading axis, without their permutations.
    """
    views, leaves_a = cut_up(spec, leaves_a)
    _, leaves_b = cut_up(spec, leaves_b)
    order = _outward_order(spec, views.values())
    terms = {name: terms_of(name, views, leaves_a, leaves_b) for name in order}
    neighbours = _neighbours(order, views.values())
    solve = partial(linear_assignment, implementation=assignment)

    def agreement(permutation: Permutation) -> Array:
        inner = (_inner(leaves_a[path], leaves_b[path], views[path], permutation) for path in leaves_a)
        return sum(inner, start=jnp.zeros((), jnp.float32))

    def visit(i: int, descent: Descent) -> Descent:
        name, permutation = order[i], descent.permutation
        similarity = similarity_of(terms[name], permutation)
        current, candidate = permutation[name], solve(similarity)
        moved = permutation | {name: candidate}
        rows = jnp.arange(current.size)
        before = similarity[rows, current]
        if neighbours[i, i]:
            gain = agreement(moved) - agreement(permutation)
        else:
            gain = similarity[rows, candidate].sum() - before.sum()
        # Rounding must not count as progress, or the search might never end.
        improved = gain > 4 * jnp.finfo(gain.dtype).eps * jnp.abs(before).sum()
        return descent._replace(
            permutation=moved | {name: jnp.where(improved, candidate, current)},
            objective=descent.objective + jnp.where(improved, gain, 0),
            stale=descent.stale.at[i].set(False) | (improved & neighbours[i]),
        )

    def stay(descent: Descent) -> Descent:
        return descent

    visits: list[Callable[[Descent], Descent]] = [stay, *(partial(visit, i) for i in range(len(order)))]

    def sweep(key: PRNGKey, descent: Descent) -> Descent:
        visiting = jax.random.permutation(jax.random.fold_in(key, descent.sweeps), len(order))
        descent = lax.fori_loop(
            0,
            len(order),
            lambda i, d: lax.switch(jnp.where(d.stale[visiting[i]], visiting[i] + 1, 0), visits, d),
            descent,
        )
        sweeps = descent.sweeps + 1
        trace = jnp.where(jnp.arange(max_sweeps + 1) < sweeps, descent.trace, descent.objective)
        return descent._replace(trace=trace, sweeps=sweeps)

    def descend(key: PRNGKey, permutation: Permutation, stale: Array) -> Descent:
        objective = agreement(permutation)
        begin = Descent(permutation, objective, jnp.full(max_sweeps + 1, objective), jnp.int32(0), stale)
        if not order:
            return begin
        return lax.while_loop(
            lambda descent: descent.stale.any() & (descent.sweeps < max_sweeps), partial(sweep, key), begin
        )

    propagated = identity(spec) | _propagated(order, terms, solve)
    # A permutation assigned after all its neighbours is as good as just visited.
    stale = jnp.asarray(np.triu(neighbours).any(axis=1))

    # One start after the other: under vmap each would hold permuted copies of B.
    def restart(best: Descent, i: Array) -> tuple[Descent, Descent]:
        visiting_key, kick_key = jax.random.split(jax.random.fold_in(key, i))
        start = jax.tree.map(partial(jnp.where, i == 0), propagated, _kicked(kick_key, best.permutation))
        descent = descend(visiting_key, start, stale | (i > 0))
        best = jax.tree.map(partial(jnp.where, descent.objective > best.objective), descent, best)
        return best, descent._replace(permutation={})

    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(descend, key, propagated, stale))
    return lax.scan(restart, nothing._replace(objective=nothing.objective - jnp.inf), jnp.arange(restarts))


def _kicked(key: PRNGKey, permutation: Permutation) -> Permutation:
    """Shifts a random 30 % of the positions of each permutation around: far enough to find other optima."""

    def kick(key: PRNGKey, indices: Array) -> Array:
        chosen = jax.random.permutation(key, indices.size)[: max(2, indices.size * 3 // 10)]
        return indices.at[chosen].set(indices[jnp.roll(chosen, 1)])

    return {name: kick(jax.random.fold_in(key, i), permutation[name]) for i, name in enumerate(permutation)}


def _outward_order(spec: PermutationSpec, views: Collection[Piece]) -> list[str]:
    """The permutations, by how much of what each moves touches only fixed axes and those before it."""
    touching = {name: [leaf for leaf in views if name in leaf.perms] for name in spec.sizes}
    order: list[str] = []

    def known_fraction(name: str) -> float:
        known = [leaf for leaf in touching[name] if {*leaf.perms} <= {None, name, *order}]
        return sum(math.prod(leaf.view) for leaf in known) / sum(
            math.prod(leaf.view) for leaf in touching[name]
        )

    remaining = [name for name in spec.sizes if touching[name]]
    while remaining:
        order.append(max(remaining, key=known_fraction))
        remaining.remove(order[-1])
    return order


def _neighbours(order: list[str], views: Collection[Piece]) -> np.ndarray:
    """`(permutations, permutations)` bool: whether the best choice for one depends on the other."""
    neighbours = np.zeros((len(order), len(order)), bool)
    for leaf in views:
        axes = [order.index(name) for name in leaf.perms if name is not None]
        for k, i in enumerate(axes):
            neighbours[i, axes[:k] + axes[k + 1 :]] = True
    return neighbours


def terms_of(name: str, views: dict[str, Piece], leaves_a: Leaves, leaves_b: Leaves) -> list[Term]:
    """All that one permutation moves.

    Leaves that it alone moves are stacked: one matrix product for many thin ones.
    """
    terms = [
        Term(leaves_a[path], leaves_b[path], axis, leaf.perms)
        for path, leaf in views.items()
        for axis, moving in enumerate(leaf.perms)
        if moving == name
    ]
    shared = [term for term in terms if any(term.others.values())]
    alone = [term for term in terms if not any(term.others.values())]
    if not alone:
        return shared

    def stack(side: str) -> Array:
        rows = (jnp.moveaxis(getattr(term, side), term.axis, -1) for term in alone)
        return jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in rows])

    return [Term(stack("a"), stack("b"), axis=1, perms=(None, name)), *shared]


def similarity_of(terms: list[Term], permutation: Permutation) -> Array:
    """`C[i, j]`, the inner product of what A has at position i with what B has at j, B's other axes permuted.

    An axis whose permutation isn't in `permutation` counts as its average over all permutations.
    """
    products = []
    for a, b, matched, perms in terms:
        dtype = _accumulator(a, b)
        for axis, name in enumerate(perms):
            if axis == matched or name is None:
                continue
            if name in permutation:
                b = jnp.take(b, permutation[name], axis=axis, mode="clip")
            else:
                a = a.sum(axis, keepdims=True, dtype=dtype)
                b = b.mean(axis, keepdims=True, dtype=dtype)
        axes = [axis for axis in range(a.ndim) if axis != matched]
        products.append(
            jnp.tensordot(a, b, (axes, axes), precision=lax.Precision.HIGHEST, preferred_element_type=dtype)
        )
    return sum(products[1:], start=products[0])


def _inner(a: Array, b: Array, leaf: Piece, permutation: Permutation) -> Array:
    for axis, name in enumerate(leaf.perms):
        if name is not None:
            b = jnp.take(b, permutation[name], axis=axis, mode="clip")
    return jnp.sum(a * b, dtype=_accumulator(a, b))


def _accumulator(a: Array, b: Array) -> jnp.dtype:
    return jnp.promote_types(jnp.result_type(a, b), jnp.float32)


def _propagated(
    order: list[str], terms: dict[str, list[Term]], solve: Callable[[Array], Array]
) -> Permutation:
    """Assigns each permutation once, outwards from the fixed axes, those not reached yet averaged out.

    From the identity, the first permutations visited would be fitted to neighbours that aren't aligned, that
    is to noise, and the search can lock onto it: it misses planted permutations of residual streams, and ends
    well below the objective reached from here.
    """
    permutation: Permutation = {}
    for name in order:
        permutation[name] = solve(similarity_of(terms[name], permutation))
    return permutation
