"""Coordinate descent over permutations: the search behind weight matching.

Git Re-Basin (Ainsworth et al., ICLR 2023, arXiv 2209.04836, Algorithm 1) with three changes. It starts not at
the identity but by spreading from the axes that are fixed, see `_propagated`. A permutation is visited again
only once another that shares a leaf with it has moved: any other visit could change nothing. And it restarts
from the best permutation found so far, kicked, see `_kicked`.

What is decided from visit to visit is decided on the host; what a visit computes, see `visit`.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import Leaves
from llfc_jax.matching.similarity import family
from llfc_jax.matching.visit import Computing, Met, Touched, computing, visit_of
from llfc_jax.symmetry import PermutationSpec, Piece, held_fixed, identity
from llfc_jax.symmetry.spec import around
from llfc_jax.types import AnyArray, Array, Permutation, PRNGKey

ROUNDING = 1e-6
"""Of the objective: by which sums of the same numbers in other orders may differ."""


class Descent(NamedTuple):
    """Where one descent stands.

    Attributes:
        permutation: Name -> indices.
        trace: the objective, <A, pi(B)>, at the start and after each sweep over the permutations.
        stale: `(permutations,)` bool, those that a visit may still improve; none once converged.
    """

    permutation: Permutation
    trace: tuple[float, ...]
    stale: np.ndarray

    @property
    def objective(self) -> float:
        """Where it is now."""
        return self.trace[-1]


def search(
    key: PRNGKey,
    leaves_a: Leaves,
    leaves_b: Leaves,
    spec: PermutationSpec,
    restarts: int,
    max_sweeps: int,
    assignment: str,
    allowed: Mapping[str, Array] | None = None,
) -> tuple[Permutation, MatchInfo]:
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
        The permutation of the best descent, and how it was found.
    """
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    compute = computing(leaves_a, leaves_b)
    leaves_a, leaves_b, allowed = (compute.held(arrays or {}) for arrays in (leaves_a, leaves_b, allowed))
    pieces, leaves_a = compute.cut_up(spec, leaves_a)
    _, leaves_b = compute.cut_up(spec, leaves_b)
    order = _visited(spec, pieces.values())
    visits = [visit_of(name, [*spec.sizes], pieces, leaves_a, leaves_b, compute) for name in order]
    neighbours = _neighbours(order, spec.sizes, [piece.perms for piece in pieces.values()])
    everything = [Touched(leaves_a[key], leaves_b[key], piece.perms) for key, piece in pieces.items()]

    def sweep(descent: Descent) -> Descent:
        permutation, objective, stale = descent.permutation, descent.objective, descent.stale.copy()
        for i in draw.permutation(len(order)):
            if not stale[i]:
                continue
            met = visits[i] = visits[i].at(permutation, compute)
            candidate, gain = compute.bettered(
                met.visit, met.known(permutation), met.known(allowed), assignment
            )
            stale[i] = False
            if gain > 0:
                permutation = permutation | met.named(candidate)
                objective += float(gain)
                stale |= neighbours[i]
        return Descent(permutation, (*descent.trace, objective), stale)

    def descend(permutation: Permutation, objective: AnyArray, stale: np.ndarray) -> Descent:
        descent = Descent(permutation, (float(objective),), stale)
        while descent.stale.any() and len(descent.trace) <= max_sweeps:
            descent = sweep(descent)
        return descent

    still: Permutation = jax.device_get(identity(spec))
    # A permutation assigned after all its neighbours is as good as just visited, if not as part of another's.
    stale = np.asarray([_is_stale(i, order, neighbours) for i in range(len(order))], bool)
    start, visits = _propagated(visits, compute, allowed, assignment)
    best = descend(still | start, compute.agreement_assigned(everything, still | start, visits), stale)
    ends = [best.objective]
    for _ in range(1, restarts):
        kicked = _kicked(draw, jax.device_get(best.permutation))
        descent = descend(kicked, compute.agreement(everything, kicked), np.ones_like(stale))
        if descent.objective - best.objective > ROUNDING * abs(best.objective):
            best = descent
        ends.append(min(descent.objective, best.objective))  # none above the best, by rounding
    trace = np.pad(best.trace, (0, max_sweeps + 1 - len(best.trace)), "edge")
    converged = np.bool_(not best.stale.any() and bool(spec.sizes))
    info = MatchInfo(*jax.device_put((trace, np.int32(len(best.trace) - 1), converged, np.asarray(ends))))
    return jax.device_put(best.permutation), info._replace(fixed=held_fixed(spec))


def _kicked(draw: np.random.Generator, permutation: Mapping[str, AnyArray]) -> Permutation:
    """Shifts a random 30 % of the positions of each permutation around: far enough to find other optima."""
    kicked: dict[str, AnyArray] = {}
    for name, indices in permutation.items():
        size = indices.shape[-1]
        chosen = draw.permutation(size)[: max(2, size * 3 // 10)]
        kicked[name] = indices.copy()
        kicked[name][..., chosen] = indices[..., np.roll(chosen, 1)]
    return kicked


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
    visits: Sequence[Met], compute: Computing, allowed: Mapping[str, Array], assignment: str
) -> tuple[Permutation, list[Met]]:
    """Assigns each permutation once, outwards from the fixed axes, those not reached yet averaged out.

    From the identity, the first permutations visited would be fitted to neighbours that aren't aligned, that
    is to noise, and the search can lock onto it: it misses planted permutations of residual streams, and ends
    well below the objective reached from here.

    Returns:
        The permutation, and the visits, each as it was when its permutation was assigned.
    """
    permutation: Permutation = {}
    seen: list[Met] = []
    for met in visits:
        seen.append(met := met.at(permutation, compute))
        found = compute.best(met.visit, met.known(permutation), met.known(allowed), assignment)
        permutation |= met.named(found)
    return permutation, seen
