"""Weight matching: permute B's neurons so that its parameters lie closest to A's; no data needed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.matching.coordinate_descent import Leaves, search
from llfc_jax.symmetry import PermutationSpec
from llfc_jax.symmetry.spec import readable_path
from llfc_jax.types import Array, Params, Permutation, PRNGKey


class MatchInfo(NamedTuple):
    """How the search went. The first three fields describe the best descent, the others all of them.

    Attributes:
        objective: `(max_sweeps + 1,)` <A, pi(B)> at the start and after each sweep; the last value repeats.
        sweeps: int32, passes over the permutations, the one that changed nothing included if it was needed.
        converged: bool, whether no single permutation can improve the objective any more.
        restart_objectives: `(restarts,)` final <A, pi(B)>.
        restart_sweeps: `(restarts,)` int32.
        restart_converged: `(restarts,)` bool.
    """

    objective: Array
    sweeps: Array
    converged: Array
    restart_objectives: Array
    restart_sweeps: Array
    restart_converged: Array


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
        params_a: Tree of arrays; only its floating-point leaves that `spec` lists take part.
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
    best, descents = search(key, leaves_a, leaves_b, spec, restarts, max_sweeps, assignment)
    info = MatchInfo(
        objective=best.trace,
        sweeps=best.sweeps,
        converged=~best.stale.any(),
        restart_objectives=descents.objective,
        restart_sweeps=descents.sweeps,
        restart_converged=~descents.stale.any(axis=1),
    )
    return best.permutation, info


def matched_leaves(
    spec: PermutationSpec, params_a: Params, params_b: Params, exclude: tuple[str, ...]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The leaves that take part, by path, checked."""
    flat_a, flat_b = (
        {
            jax.tree_util.keystr(path): jnp.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (params_a, params_b)
    )
    for path in flat_a | flat_b:
        shape_a, shape_b = (
            f"shape {flat[path].shape}" if path in flat else "nothing" for flat in (flat_a, flat_b)
        )
        if shape_a != shape_b:
            raise UserError(f"{readable_path(path)}: A and B differ, A has {shape_a}, B has {shape_b}")
    excluded = tuple(f"['{collection}']" for collection in exclude)
    leaves_a, leaves_b = {}, {}
    for path in (path for path in {**spec.leaves, **flat_a} if not path.startswith(excluded)):
        expected, found = (
            f"shape {x[path].shape}" if path in x else "nothing" for x in (spec.leaves, flat_a)
        )
        if expected != found:
            raise UserError(
                f"{readable_path(path)}: expected {expected} by the permutation spec, found {found}"
            )
        if not jnp.issubdtype(flat_a[path].dtype, jnp.floating):
            continue
        leaves_a[path], leaves_b[path] = flat_a[path], flat_b[path]
    for side, leaves in (("A", leaves_a), ("B", leaves_b)):
        for path, finite in jax.device_get(_finite(leaves)).items():
            if not finite:
                raise UserError(
                    f"{readable_path(path)}: expected finite numbers, found NaN or infinity in {side}"
                )
    return leaves_a, leaves_b


@jax.jit
def _finite(leaves: Leaves) -> Leaves:
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), leaves)
