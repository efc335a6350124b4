"""One permutation for a whole trajectory of checkpoints: simultaneous linear connectivity."""

from collections.abc import Sequence

from llfc_jax.errors import UserError
from llfc_jax.matching.coordinate_descent import search
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import Leaves, matched_leaves
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.symmetry import PermutationSpec, held_fixed
from llfc_jax.types import Permutation, PRNGKey, Variables


def simultaneous_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    networks_a: Sequence[Variables],
    networks_b: Sequence[Variables],
    *,
    restarts: int = 1,
    max_sweeps: int = 100,
    assignment: str = "auto",
    exclude: tuple[str, ...] = ("batch_stats",),
) -> tuple[Permutation, MatchInfo]:
    """The one permutation that maximises `sum_t <A_t, pi(B_t)>` over pairs of checkpoints.

    Two runs are simultaneously connected if one permutation connects their networks at all times (Sharma et
    al. 2024, arXiv 2404.06498). It is found by weight matching whose similarities are summed over t.

    Args:
        key: Draws the visiting orders and the shuffles.
        spec: The networks' symmetries.
        networks_a: A's arrays at each time.
        networks_b: B's at the same times.
        restarts: Number of descents.
        max_sweeps: Limit on the passes over all permutations, per descent.
        assignment: Solver, see `linear_assignment`.
        exclude: Collections that are permuted but have no say in the matching: running statistics.

    Returns:
        The permutation, for `apply_permutation(spec, permutation, variables_b)` at any time, and how it was
        found, as by `weight_matching`.

    Raises:
        UserError: On no pairs or unequal numbers of networks, trees that differ, a spec that doesn't fit, or
            a parameter that is NaN or infinite.
    """
    if len(networks_a) != len(networks_b) or not networks_a:
        raise UserError(
            "networks_a, networks_b: expected as many of one as of the other, one at least; found "
            f"{len(networks_a)} and {len(networks_b)}"
        )
    if restarts < 1 or max_sweeps < 1:
        raise UserError(f"restarts, max_sweeps: expected at least 1, found {restarts} and {max_sweeps}")
    for network in (*networks_a, *networks_b):
        check_same_structure(networks_a[0], network)
    leaves_a: Leaves = {}
    leaves_b: Leaves = {}
    for t, (a, b) in enumerate(zip(networks_a, networks_b, strict=True)):
        for all_times, own in zip((leaves_a, leaves_b), matched_leaves(spec, a, b, exclude), strict=True):
            all_times.update({f"{path}@{t}": leaf for path, leaf in own.items()})
    at_all_times = PermutationSpec(
        spec.sizes, {path: spec.leaves[path.rpartition("@")[0]] for path in leaves_a}
    )
    permutation, info = search(key, leaves_a, leaves_b, at_all_times, restarts, max_sweeps, assignment)
    return permutation, info._replace(fixed=held_fixed(spec))
