"""Second moments of what a map moves: sums of products of one network's numbers with another's."""

import string
from collections.abc import Collection

import jax
import jax.numpy as jnp

from llfc_jax.symmetry.spec import PermutationSpec, shape_of_permutation
from llfc_jax.types import Array


def cross_moment(
    spec: PermutationSpec,
    group: str,
    path: str,
    axis: int,
    a: Array,
    b: Array,
    *,
    pieces: Collection[int] | None = None,
) -> Array:
    """`A B^T`, the array of each network seen as a matrix whose rows are units, along one axis.

    Args:
        spec: of the networks.
        group: the permutation that moves these units.
        path: of the array.
        axis: of the array.
        a: A's array.
        b: B's.
        pieces: which of an array that is cut count; all if left out.

    Returns:
        (sizes of what the group moves within, ..., size, size).
    """
    return _summed(spec, group, path, axis, a, b, pieces, "Z")


def square_moment(
    spec: PermutationSpec,
    group: str,
    path: str,
    axis: int,
    array: Array,
    *,
    pieces: Collection[int] | None = None,
) -> Array:
    """The diagonal of `A A^T`: each unit's sum of squares, (sizes of what it moves within, ..., size)."""
    return _summed(spec, group, path, axis, array, array, pieces, "")


def _summed(
    spec: PermutationSpec,
    group: str,
    path: str,
    axis: int,
    a: Array,
    b: Array,
    pieces: Collection[int] | None,
    other: str,
) -> Array:
    """With the units of the second network under a letter of their own, or under that of the first's."""
    shape = shape_of_permutation(spec, group)
    total = jnp.zeros((*shape, shape[-1]) if other else shape)
    for i, piece in enumerate(spec.leaves[path].pieces):
        if pieces is not None and i not in pieces:
            continue
        letters = string.ascii_letters[: len(piece.view)]
        outer = "".join(letters[i] for i in piece.within(group))
        for own in (letters[i] for i in piece.moved_by(group, axis)):
            total += jnp.einsum(
                f"{letters},{letters.replace(own, other or own)}->{outer}{own}{other}",
                piece.of(a),
                piece.of(b).conj(),
                precision=jax.lax.Precision.HIGHEST,
            ).real
    return total
