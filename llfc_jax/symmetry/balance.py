"""The canonical form of a network: of all that scalings and invertible maps make of it, the smallest weights.

A scaling s = exp(t) of one unit multiplies what it moves by exp(e t), e the power there, so that the sum of
squares is sum_k c_k exp(2 e_k t): convex in t, in all units' t together, too. Its minimum is the same for all
networks that scalings make of each other. For a hidden unit of ReLU it is where what comes in is as long as
what goes out.

An invertible T makes tr(T P T^T) + tr(T^-T R T^-1) of it, P and R the Gram matrices of what T and T^-T move.
In G = T^T T this is tr(P G) + tr(R G^-1), smallest where G P G = R: at the geometric mean of R and P^-1,
G = P^-1/2 (P^1/2 R P^1/2)^1/2 P^-1/2 (Bhatia 2007, Positive Definite Matrices, section 4.1). Of queries with
keys it leaves W_Q^T W_Q = W_K^T W_K, as the singular value decomposition of W_Q W_K^T does; what is left of T
is a rotation. For maps that multiply pairs as complex numbers, only what commutes with them counts: the mean
of each pair's diagonal.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.maps import Maps, act, apply_maps, commuting, is_matrix, still_map
from llfc_jax.symmetry.moments import cross_moment, square_moment
from llfc_jax.symmetry.spec import PermutationSpec
from llfc_jax.types import Array, PyTree

_SWEEPS, _STEPS = 300, 20
"""Over all maps, and of Newton's method in one scaling."""
_SETTLED = 1e-6
"""Of the logarithm of a scale, or of a matrix: what counts as no change."""
_RIDGE = 1e-6
"""Part of the mean eigenvalue that is added to Gram matrices: what nothing goes through stays finite."""


def balance(symmetry: Symmetry, variables: PyTree, names: Sequence[str], paths: Sequence[str]) -> Maps:
    """The scalings and invertible maps that make the sum of squares of a network's weights smallest.

    Coordinate descent, each map to its minimum. A unit whose scale could grow or fall for ever, as nothing
    comes in or goes out, keeps it.

    Args:
        symmetry: of the network.
        variables: its arrays.
        names: of scalings and invertible maps; one for each.
        paths: of the arrays that are weights.

    Returns:
        Maps for `apply_maps`.
    """
    found = {name: still_map(symmetry, name) for name in names}
    for _ in range(_SWEEPS if names else 0):
        found, change = _sweep(symmetry, tuple(paths), found, variables)
        if change < _SETTLED:
            break
    return found


@partial(jax.jit, static_argnums=(0, 1))
def _sweep(symmetry: Symmetry, paths: tuple[str, ...], maps: Maps, variables: PyTree) -> tuple[Maps, Array]:
    """Each map in turn; by how much they changed."""
    found, change, moved = {}, jnp.zeros(()), apply_maps(symmetry, maps, variables)
    for name, one in maps.items():
        action = symmetry[name]
        best = _best_matrix if is_matrix(action) else _best_scale
        step = best(symmetry.units, action, moved, paths)
        moved = act(symmetry.units, action, step, moved)
        found[name] = step @ one if is_matrix(action) else step * one
        change = jnp.maximum(change, jnp.abs(step - still_map(symmetry, name)).max())
    return found, change


def _best_scale(spec: PermutationSpec, action: Action, variables: PyTree, paths: Sequence[str]) -> Array:
    """The s that makes each unit's sum of squares smallest, the others' held."""
    squares = [
        (power, square_moment(spec, action.group, path, axis, leaf, pieces=(piece,)))
        for power, path, piece, axis, leaf in _moved(action, variables, paths)
    ]
    acting = (Counter(piece for piece, _ in of) for path, of in action.powers.items() if path in paths)
    together = max((max(counts.values()) for counts in acting), default=1)
    if not squares:
        return jnp.ones(())
    pulled = [
        sum((c for power, c in squares if sign * power > 0), start=jnp.zeros_like(squares[0][1])) > 0
        for sign in (1, -1)
    ]

    def newton(_: int, t: Array) -> Array:
        slopes = [power * c * jnp.exp(2 * power * t) for power, c in squares]
        curvature = sum(2 * power * slope for (power, _), slope in zip(squares, slopes, strict=True))
        return t - jnp.clip(sum(slopes) / jnp.maximum(curvature, jnp.finfo(t.dtype).tiny), -1, 1)

    best = jax.lax.fori_loop(0, _STEPS, newton, jnp.zeros_like(squares[0][1]))
    return jnp.exp(jnp.where(pulled[0] & pulled[1], best, 0) / together)  # twice on one array, both ends move


def _best_matrix(spec: PermutationSpec, action: Action, variables: PyTree, paths: Sequence[str]) -> Array:
    """The T, symmetric, that makes the sum of squares smallest, the others' held.

    Exact where it moves one axis of each array; the identity where it wouldn't make the sum smaller.
    """
    moved = [*_moved(action, variables, paths)]
    grams = [
        (power, cross_moment(spec, action.group, path, axis, leaf, leaf, pieces=(piece,)))
        for power, path, piece, axis, leaf in moved
    ]
    still = jnp.broadcast_to(jnp.eye(action.size), jnp.shape(grams[0][1])) if grams else jnp.eye(action.size)
    ahead, behind = (
        _ridged(commuting(action, sum((g for power, g in grams if sign * power > 0), 0 * still)))
        for sign in (1, -1)
    )
    best = commuting(action, _power(_geometric_mean(behind, jnp.linalg.inv(ahead)), 0.5))

    def squares(matrix: Array) -> Array:
        return _sum_of_squares(act(spec, action, matrix, variables), paths)

    return jnp.where(squares(best) < squares(still), best, still)


def _moved(
    action: Action, variables: PyTree, paths: Sequence[str]
) -> Iterator[tuple[float, str, int, int, Array]]:
    """The axes of weights that a map acts along: its power there, path, piece, axis and array."""
    for where, leaf in jax.tree_util.tree_leaves_with_path(variables):
        path = jax.tree_util.keystr(where)
        for (piece, axis), power in action.powers.get(path, {}).items() if path in paths else ():
            yield float(power), path, piece, axis, leaf


def _sum_of_squares(variables: PyTree, paths: Sequence[str]) -> Array:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return sum(
        (jnp.vdot(leaf, leaf).real for where, leaf in leaves if jax.tree_util.keystr(where) in paths),
        jnp.zeros(()),
    )


def _ridged(gram: Array) -> Array:
    size = gram.shape[-1]
    mean = jnp.trace(gram, axis1=-2, axis2=-1)[..., None, None] / size
    return gram + jnp.eye(size) * jnp.maximum(_RIDGE * mean, jnp.finfo(gram.dtype).tiny)


def _geometric_mean(first: Array, second: Array) -> Array:
    """Of two positive definite matrices."""
    half, back = _power(second, 0.5), _power(second, -0.5)
    return half @ _power(back @ first @ back, 0.5) @ half


def _power(matrix: Array, exponent: float) -> Array:
    """Of a positive definite matrix."""
    values, vectors = jnp.linalg.eigh((matrix + jnp.swapaxes(matrix, -1, -2)) / 2)
    positive = jnp.maximum(values, jnp.finfo(values.dtype).eps * values[..., -1:])
    return (vectors * positive[..., None, :] ** exponent) @ jnp.swapaxes(vectors, -1, -2)
