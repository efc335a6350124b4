"""The published weight matching, transcribed in NumPy and SciPy: to compare with, in tests and benchmarks."""

from typing import TypeAlias

import jax
import numpy as np
from numpy.typing import DTypeLike
from scipy.optimize import linear_sum_assignment

from llfc_jax.symmetry import PermutationSpec, Piece
from llfc_jax.types import Params

Indices: TypeAlias = dict[str, np.ndarray]
_Viewed: TypeAlias = dict[str, np.ndarray]


def git_rebasin(
    rng: np.random.Generator,
    spec: PermutationSpec,
    params_a: Params,
    params_b: Params,
    *,
    start: Indices | None = None,
    max_sweeps: int = 100,
    dtype: DTypeLike = np.float32,
) -> tuple[Indices, int]:
    """Permutation coordinate descent: one start, random order, until a sweep gains nothing.

    Git Re-Basin, Algorithm 1 (Ainsworth et al., ICLR 2023, arXiv 2209.04836).

    Args:
        rng: draws the visiting order of each sweep.
        spec: the network's symmetries.
        params_a: A's parameters, without running statistics.
        params_b: B's.
        start: the first permutation; the identity if left out.
        max_sweeps: limit on the passes over all permutations.
        dtype: to compute in.

    Returns:
        The permutation of B, and the number of sweeps, the one that gained nothing included.
    """
    a, b = (_viewed(spec, params, dtype) for params in (params_a, params_b))
    pieces = _pieces(spec, params_a)
    moved = {
        name: [(path, k) for path in a for k, moving in enumerate(pieces[path].perms) if moving == name]
        for name in spec.sizes
    }
    permutation = {name: np.asarray(start[name]) if start else np.arange(n) for name, n in spec.sizes.items()}
    for sweep in range(1, max_sweeps + 1):
        progress = False
        for name in rng.permutation(list(spec.sizes)):
            similarity = np.zeros((spec.sizes[name],) * 2, dtype)
            for path, axis in moved[name]:
                left = np.moveaxis(a[path], axis, 0)
                right = np.moveaxis(_permuted(pieces[path], b[path], permutation, axis), axis, 0)
                similarity += left.reshape(len(left), -1) @ right.reshape(len(right), -1).T
            rows, best = linear_sum_assignment(similarity, maximize=True)
            gain = similarity[rows, best].sum() - similarity[rows, permutation[name]].sum()
            progress |= bool(gain > 1e-6 * np.abs(similarity[rows, best]).sum())  # more than rounding
            permutation[name] = best
        if not progress:
            return permutation, sweep
    return permutation, max_sweeps


def inner_product(spec: PermutationSpec, params_a: Params, params_b: Params, permutation: Indices) -> float:
    """The objective, `<A, pi(B)>`, in double precision."""
    a, b = (_viewed(spec, params, np.float64) for params in (params_a, params_b))
    pieces = _pieces(spec, params_a)
    return float(sum(np.vdot(a[path], _permuted(pieces[path], b[path], permutation)) for path in a))


def _viewed(spec: PermutationSpec, params: Params, dtype: DTypeLike) -> _Viewed:
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    return {
        f"{path}#{i}": np.asarray(leaf, dtype)[piece.index].reshape(piece.view)
        for path, leaf in leaves.items()
        for i, piece in enumerate(spec.leaves[path].pieces)
    }


def _pieces(spec: PermutationSpec, params: Params) -> dict[str, Piece]:
    """The pieces that the arrays of `_viewed` are."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
    return {f"{path}#{i}": piece for path in paths for i, piece in enumerate(spec.leaves[path].pieces)}


def _permuted(
    piece: Piece, array: np.ndarray, permutation: Indices, except_axis: int | None = None
) -> np.ndarray:
    for axis, name in enumerate(piece.perms):
        if name is not None and axis != except_axis:
            array = np.take(array, permutation[name], axis=axis)
    return array
