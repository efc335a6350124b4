"""Coordinate descent over permutations: the search behind weight matching, compiled as a whole.

Git Re-Basin (Ainsworth et al., ICLR 2023, arXiv 2209.04836, Algorithm 1) with three changes. It starts not at
the identity but by spreading from the axes that are fixed, see `_propagated`. A permutation is visited again
only once another that shares a leaf with it has moved: any other visit could change nothing. And it restarts
from the best permutation found so far, kicked, see `_kicked`.
"""

import itertools
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.leaves import Leaves, cut_up
from llfc_jax.matching.similarity import (
    Solver,
    Term,
    assigned,
    at_assigned,
    family,
    inner_product,
    similarities,
    terms_of,
)
from llfc_jax.symmetry import PermutationSpec, Piece, identity
from llfc_jax.symmetry.spec import around
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


@partial(jax.jit, static_argnames=("spec", "restarts", "max_sweeps", "assignment"))
def search(
    key: PRNGKey,
    leaves_a: Leaves,
    leaves_b: Leaves,
    spec: PermutationSpec,
    restarts: int,
    max_sweeps: int,
    assignment: str,
    allowed: Mapping[str, Array] | None = None,
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
        allowed: Name -> which positions may be assigned to which, see `assigned`; all if left out.

    Returns:
        The best descent, and all of them along a leading axis, without their permutations.
    """
    views, leaves_a = cut_up(spec, leaves_a)
    _, leaves_b = cut_up(spec, leaves_b)
    moving = [piece.perms for piece in views.values()]
    order = _visited(spec, views.values())
    terms = {name: terms_of(name, spec.sizes, views, leaves_a, leaves_b) for name in order}
    neighbours = _neighbours(order, spec.sizes, moving)
    solve = partial(linear_assignment, implementation=assignment)

    def agreement(permutation: Permutation, paths: Collection[str]) -> Array:
        inner = (inner_product(leaves_a[path], leaves_b[path], views[path], permutation) for path in paths)
        return sum(inner, start=jnp.zeros((), jnp.float32))

    def visit(i: int, descent: Descent) -> Descent:
        name, permutation = order[i], descent.permutation
        similarity = similarities(terms[name], permutation)
        here = None if allowed is None else _allowed_here(name, spec.sizes, allowed, permutation)
        candidate, value = assigned(name, spec.sizes, similarity, solve, here)
        if neighbours[i, i] or len(candidate) > 1 or around(name, spec.sizes):
            touched = [path for path, piece in views.items() if {*piece.perms} & {*candidate}]
            before = agreement(permutation, touched)
            gain = agreement(permutation | candidate, touched) - before
            scale = jnp.abs(before)
        else:
            current = permutation[name]
            own = similarity[name][jnp.arange(current.size), current]
            gain, scale = value - own.sum(), jnp.abs(own).sum()
        # Rounding must not count as progress, or the search might never end.
        improved = gain > 4 * jnp.finfo(gain.dtype).eps * scale
        moved = {member: jnp.where(improved, new, permutation[member]) for member, new in candidate.items()}
        return descent._replace(
            permutation=permutation | moved,
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
        objective = agreement(permutation, views)
        begin = Descent(permutation, objective, jnp.full(max_sweeps + 1, objective), jnp.int32(0), stale)
        if not order:
            return begin
        return lax.while_loop(
            lambda descent: descent.stale.any() & (descent.sweeps < max_sweeps), partial(sweep, key), begin
        )

    propagated = identity(spec) | _propagated(order, spec.sizes, terms, solve, allowed)
    # A permutation assigned after all its neighbours is as good as just visited, if not as part of another's.
    stale = jnp.asarray([_is_stale(i, order, neighbours) for i in range(len(order))], bool)

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
        size = indices.shape[-1]
        chosen = jax.random.permutation(key, size)[: max(2, size * 3 // 10)]
        return indices.at[..., chosen].set(indices[..., jnp.roll(chosen, 1)])

    alike: dict[tuple[int, ...], list[str]] = {}
    for name, indices in permutation.items():
        alike.setdefault(indices.shape, []).append(name)
    number = {name: i for i, name in enumerate(permutation)}
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(permutation)))
    kicked: Permutation = {}
    for names in alike.values():
        own = keys[np.asarray([number[name] for name in names])]
        moved = jax.vmap(kick)(own, jnp.stack([permutation[name] for name in names]))
        kicked |= dict(zip(names, moved, strict=True))
    return {name: kicked[name] for name in permutation}


def _allowed_here(
    name: str, names: Collection[str], allowed: Mapping[str, Array], permutation: Permutation
) -> dict[str, Array]:
    """What may be assigned to what where a permutation moves within others that are assigned already."""
    outer = around(name, names)
    members = [member for member in family(name, names) if member in allowed]
    return {member: at_assigned(allowed[member], outer, permutation) for member in members}


def _visited(spec: PermutationSpec, pieces: Collection[Piece]) -> list[str]:
    """The permutations in the order in which they are assigned first, the outermost before those within.

    What moves within another is assigned with it; it is visited alone only where something else within the
    same meets it on an array: the two can't be assigned together.
    """
    order = _outward_order(spec, pieces)
    meeting = _neighbours([*spec.sizes], spec.sizes, [piece.perms for piece in pieces])
    for i, name in enumerate(spec.sizes):
        if outer := around(name, spec.sizes):
            within = [j for j, other in enumerate(spec.sizes) if other in family(outer[0], spec.sizes)[1:]]
            if meeting[i, within].any() and outer[0] in order:
                order.append(name)
    return order


def _outward_order(spec: PermutationSpec, pieces: Collection[Piece]) -> list[str]:
    """The outermost permutations, by how much of what each moves touches only what is fixed or before it."""
    families = {name: {*family(name, spec.sizes)} for name in spec.sizes if not around(name, spec.sizes)}
    touching = {
        name: [piece for piece in pieces if members & {*piece.perms}] for name, members in families.items()
    }
    order: list[str] = []

    def known_fraction(name: str) -> float:
        placed = {None, *families[name]}.union(*(families[other] for other in order))
        known = [piece for piece in touching[name] if {*piece.perms} <= placed]
        return sum(math.prod(piece.view) for piece in known) / sum(
            math.prod(piece.view) for piece in touching[name]
        )

    remaining = [name for name in families if touching[name]]
    while remaining:
        order.append(max(remaining, key=known_fraction))
        remaining.remove(order[-1])
    return order


def _neighbours(
    order: list[str], names: Collection[str], pieces: Collection[tuple[str | None, ...]]
) -> np.ndarray:
    """`(permutations, permutations)` bool: whether the best choice for one depends on the other.

    What moves within a permutation is chosen with it.
    """
    members = [{*family(name, names)} for name in order]
    neighbours = np.zeros((len(order), len(order)), bool)
    for perms in pieces:
        for x, y in itertools.permutations([name for name in perms if name is not None], 2):
            if x in around(y, names) or y in around(x, names):
                continue
            for i, own in enumerate(members):
                if x in own:
                    neighbours[i] |= [y in other for other in members]
    return neighbours


def _is_stale(i: int, order: list[str], neighbours: np.ndarray) -> bool:
    """Whether a visit may improve a permutation that was assigned outwards from the fixed axes."""
    later = 0 if around(order[i], order) else i
    return bool(neighbours[i, later:].any())


def _propagated(
    order: list[str],
    names: Collection[str],
    terms: Mapping[str, dict[str, list[Term]]],
    solve: Solver,
    allowed: Mapping[str, Array] | None,
) -> Permutation:
    """Assigns each permutation once, outwards from the fixed axes, those not reached yet averaged out.

    From the identity, the first permutations visited would be fitted to neighbours that aren't aligned, that
    is to noise, and the search can lock onto it: it misses planted permutations of residual streams, and ends
    well below the objective reached from here.
    """
    permutation: Permutation = {}
    for name in order:
        here = None if allowed is None else _allowed_here(name, names, allowed, permutation)
        found, _ = assigned(name, names, similarities(terms[name], permutation), solve, here)
        permutation |= found
    return permutation
