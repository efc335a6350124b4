"""Weight matching: permute B's neurons so that its parameters lie closest to A's; no data needed."""

from collections.abc import Mapping
from typing import Any

from llfc_jax.errors import UserError
from llfc_jax.matching.coordinate_descent import search
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import matched_leaves
from llfc_jax.matching.problem import Found, Problem
from llfc_jax.symmetry import PermutationSpec
from llfc_jax.types import Params, Permutation, PRNGKey


def weight_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    params_a: Params,
    params_b: Params,
    *,
    restarts: int = 1,
    max_sweeps: int = 100,
    assignment: str = "auto",
    exclude: tuple[str, ...] = ("batch_stats",),
) -> tuple[Permutation, MatchInfo]:
    """The permutation of B that maximises `<A, pi(B)>`, so minimises `||A - pi(B)||`, summed over leaves.

    Coordinate descent: each step solves for one permutation exactly, the others held. With leaves seen as
    matrices whose rows it moves, `pi_k = argmax_p sum_i C[i, p[i]]` where `C = sum_leaves A pi(B)^T`
    (Git Re-Basin, Algorithm 1, arXiv 2209.04836). Where one permutation moves several axes of a leaf, the
    problem is quadratic; there `C` is the gradient, and the step is taken only if the objective grows.

    The descent starts not at the identity but propagated: each permutation is assigned once, outwards from
    the fixed axes (inputs, outputs), an axis not reached yet counting as its average. It may then restart
    from the best permutation so far with some positions shuffled. In networks of a few dozen neurons a layer
    restarts gain a few per cent, in wide ones next to nothing.

    Args:
        key: Draws the visiting orders and the shuffles.
        spec: The network's symmetries, for trees of the form of `params_a`.
        params_a: Tree of arrays; only its floating-point and complex leaves that `spec` lists take part.
        params_b: The same for B.
        restarts: Number of descents; they run one after the other, so memory doesn't grow with it.
        max_sweeps: Limit on the passes over all permutations, per descent.
        assignment: Solver, see `linear_assignment`.
        exclude: Collections that are permuted but have no say in the matching: running statistics.

    Returns:
        The best permutation, for `apply_permutation(spec, permutation, params_b)`, and how it was found.

    Raises:
        UserError: On trees that differ, a spec that doesn't fit them, or a NaN or infinite parameter.
    """
    if restarts < 1 or max_sweeps < 1:
        raise UserError(f"restarts, max_sweeps: expected at least 1, found {restarts} and {max_sweeps}")
    leaves_a, leaves_b = matched_leaves(spec, params_a, params_b, exclude)
    return search(key, leaves_a, leaves_b, spec, restarts, max_sweeps, assignment)


def by_weights(key: PRNGKey, problem: Problem, options: Mapping[str, Any]) -> Found:
    """A `Matcher`, with restarts."""
    taken = {name: options[name] for name in ("restarts", "max_sweeps")}
    return weight_matching(key, *problem[:3], **taken)
