"""Matching many networks at once: each into the order of one universe, so that no cycle of them disagrees."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.matching.coordinate_descent import ROUNDING, search
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import Leaves, by_path, matched_leaves
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.symmetry import PermutationSpec, apply_permutation, compose, held_fixed, identity, inverse
from llfc_jax.types import Array, Permutation, PRNGKey, Variables


class Universe(NamedTuple):
    """Where the units of several networks have their places.

    Attributes:
        permutations: one for each network, which puts its units into the order of the first's.
        info: how the search went.
    """

    permutations: tuple[Permutation, ...]
    info: MatchInfo

    def between(self, i: int, j: int) -> Permutation:
        """The permutation of network j's units into the order of network i's."""
        return compose(inverse(self.permutations[i]), self.permutations[j])


def universe_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    networks: Sequence[Variables],
    *,
    restarts: int = 1,
    max_sweeps: int = 100,
    assignment: str = "auto",
    exclude: tuple[str, ...] = ("batch_stats",),
) -> Universe:
    """Permutations of all networks that maximise `sum_{p < q} <P_p theta_p, P_q theta_q>`.

    The objective of C2M3 (Crisostomi et al., NeurIPS 2024, arXiv 2405.17897): all pairs count, but each
    network has one permutation, into an order that all share. So what leads from one to another and back by
    way of others is the identity, which matching pair by pair doesn't give.

    Coordinate descent over networks: the others held, the objective is `<P_p theta_p, S>` with S the sum of
    the others, permuted, which is weight matching of p to S; taken if it is better. At first each is matched
    to the sum of those before it. No network is preferred: that all are given in the first's order comes at
    the end.

    Args:
        key: Draws the order of visits, and what weight matching needs.
        spec: The networks' symmetries.
        networks: Their arrays, two or more of one structure.
        restarts: Of each weight matching.
        max_sweeps: Limit on the passes over all networks, and of each weight matching.
        assignment: Solver, see `linear_assignment`.
        exclude: Collections that are permuted but have no say: running statistics.

    Returns:
        A permutation for each, that of the first being the identity; `between` tells those from one to
        another. The objective is the sum over pairs, at the start and after each sweep.

    Raises:
        UserError: On fewer than two networks, trees that differ, a spec that doesn't fit, or a parameter that
            is NaN or infinite.

    Example:
        >>> from llfc_jax.symmetry import permutation_spec
        >>> weights = {"in": jnp.arange(9.0).reshape(3, 3), "out": jnp.ones((3, 2))}
        >>> apply = lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"]
        >>> turned = [weights | {"in": jnp.roll(weights["in"], k, axis=1)} for k in range(3)]
        >>> spec = permutation_spec(apply, weights, jnp.ones((2, 3)))
        >>> found = universe_matching(jax.random.key(0), spec, turned)
        >>> [own["P0"].tolist() for own in found.permutations], found.between(2, 1)["P0"].tolist()
        ([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [2, 0, 1])
    """
    if len(networks) < 2:
        raise UserError(f"networks: expected two at least; found {len(networks)}")
    if restarts < 1 or max_sweeps < 1:
        raise UserError(f"restarts, max_sweeps: expected at least 1, found {restarts} and {max_sweeps}")
    for network in networks:
        check_same_structure(networks[0], network)
    leaves = [matched_leaves(spec, networks[0], network, exclude)[1] for network in networks]
    found = [identity(spec) for _ in networks]
    moved = list(leaves)

    def visit(key: PRNGKey, p: int, others: Sequence[int]) -> bool:
        """Matches p to the sum of others, if that is better; whether it was."""
        target = _sum([moved[q] for q in others])
        permutation, info = search(key, target, leaves[p], spec, restarts, max_sweeps, assignment)
        objective = float(info.objective[-1])
        if objective - float(_inner(target, moved[p])) <= ROUNDING * abs(objective):
            return False
        found[p] = permutation
        permuted = by_path(apply_permutation(spec, permutation, networks[p]))
        moved[p] = {path: permuted[path] for path in leaves[p]}
        return True

    count = len(networks)
    for p in range(1, count):
        visit(jax.random.fold_in(key, p), p, range(p))
    trace, converged = [_agreement(moved)], False
    for sweep in range(max_sweeps):
        own = jax.random.fold_in(key, count + sweep)
        order = jax.random.permutation(own, count).tolist()
        better = [visit(jax.random.fold_in(own, p), p, [q for q in range(count) if q != p]) for p in order]
        trace.append(_agreement(moved))
        if not any(better):
            converged = True
            break
    first = inverse(found[0])
    objective = jnp.asarray(trace)
    info = MatchInfo(
        objective,
        jnp.int32(len(trace) - 1),
        jnp.bool_(converged and bool(spec.sizes)),
        objective[-1:],
        held_fixed(spec),
    )
    return Universe(tuple(compose(first, own) for own in found), info)


@jax.jit
def _sum(networks: Sequence[Leaves]) -> Leaves:
    return jax.tree.map(lambda *leaves: reduce(jnp.add, leaves), *networks)


@jax.jit
def _inner(x: Leaves, y: Leaves) -> Array:
    """`<x, y>`; of complex arrays the real part."""
    return sum((jnp.vdot(x[path], y[path]).real for path in x), start=jnp.zeros(()))


def _agreement(moved: Sequence[Leaves]) -> float:
    """`sum_{p < q} <theta_p, theta_q>`, by the norm of the sum."""
    total = _sum(moved)
    return float(_inner(total, total) - sum(_inner(own, own) for own in moved)) / 2
