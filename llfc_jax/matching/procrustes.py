"""Matching by all symmetries: permutations by assignment, rotations and signs in closed form."""

import itertools
import string
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.leaves import Leaves, by_path, matched_leaves
from llfc_jax.matching.weights import weight_matching
from llfc_jax.symmetry import apply_permutation
from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.maps import Maps, apply_maps, fold_scales, nearest_rotation, scales_of
from llfc_jax.symmetry.spec import around, shape_of_permutation
from llfc_jax.types import Array, PRNGKey, Variables

_PROGRESS = 1e-6
"""Part of the objective by which a round must grow to be followed by another."""


class Moved(NamedTuple):
    """B, moved along its symmetries towards A, and how that went.

    Attributes:
        variables: of the moved B, which computes what B does.
        objective: at the start and after each round; what it is, the matcher says.
    """

    variables: Variables
    objective: tuple[float, ...]


def procrustes_matching(
    key: PRNGKey,
    symmetry: Symmetry,
    variables_a: Variables,
    variables_b: Variables,
    *,
    classes: tuple[str, ...] | None = None,
    max_rounds: int = 20,
    exclude: tuple[str, ...] = ("batch_stats",),
) -> Moved:
    """B moved by permutations, rotations and signs towards the largest `<A, g(B)>`, norms' scales folded.

    Rounds of weight matching and, for each other group of maps in turn, its closed form: with leaves as
    matrices whose rows it moves and C = sum_leaves A B^T, the rotation U V^T of the singular value
    decomposition C = U S V^T (Schoenemann 1966), for those that fix the mean's direction within its
    complement; for signs the permutation that is best for |C|, and the signs that C has there. Of invertible
    maps the rotations are tried: T and its inverse meet A on two sides, which has no closed form. Each is the
    exact optimum with the others held, where it moves one axis of each leaf; it is taken if the objective
    grows. Before the first round rotations are found from what they alone move, such as what the inputs are
    read by: hidden units that aren't matched yet would be noise.

    Where rotations need the scales of norms uniform, they are folded into the next layer while B is moved,
    and B gets A's in the end: on the line between the two they stay.

    Args:
        key: for `weight_matching`.
        symmetry: from `symmetries`.
        variables_a: A's arrays.
        variables_b: B's.
        classes: kinds of maps beside permutations; all that the network has if left out.
        max_rounds: limit on rounds.
        exclude: collections that are moved but not compared.

    Returns:
        B moved, for the line from A as it is; the objective is `<A, g(B)>` of folded networks.

    Raises:
        UserError: on trees that differ or are not finite, a class that the network lacks, or a scale that
            can't be folded.
    """
    matched_leaves(symmetry.spec, variables_a, variables_b, exclude)
    kinds = {action.kind for action in symmetry.actions.values()} - {"scaling"}
    if missing := [kind for kind in classes or () if kind not in kinds]:
        found = ", ".join(sorted(kinds)) or "permutations alone"
        raise UserError(
            f"classes: expected some of those that the network has ({found}); found {missing[0]!r}"
        )
    chosen = kinds if classes is None else {*classes}
    turned = {name: action for name, action in symmetry.actions.items() if action.kind in chosen}
    a, b = (fold_scales(symmetry, variables) for variables in (variables_a, variables_b))
    compared = matched_leaves(symmetry.spec, a, b, exclude)[0]
    trace = [_agreement(compared, b)]
    for name, action in turned.items():
        if action.kind != "sign":
            maps = _closed_form(symmetry, name, compared, by_path(b), alone=True)
            b = _better(compared, b, apply_maps(symmetry, maps, b))
    for round_ in range(max_rounds):
        permutation, _ = weight_matching(
            jax.random.fold_in(key, round_), symmetry.spec, a, b, exclude=exclude
        )
        b = _better(compared, b, apply_permutation(symmetry.spec, permutation, b))
        for name in turned:
            maps = _closed_form(symmetry, name, compared, by_path(b))
            b = _better(compared, b, apply_maps(symmetry, maps, b))
        trace.append(_agreement(compared, b))
        if trace[-1] - trace[-2] <= _PROGRESS * abs(trace[-1]):
            break
    return Moved(scales_of(symmetry, b, variables_a), tuple(trace))


def _agreement(a: Leaves, b: Variables) -> float:
    leaves = by_path(b)
    return float(sum(jnp.vdot(a[path], leaves[path]).real for path in a))


def _better(a: Leaves, before: Variables, after: Variables) -> Variables:
    return after if _agreement(a, after) > _agreement(a, before) else before


def _closed_form(
    symmetry: Symmetry, name: str, a: Leaves, b: Mapping[str, Array], *, alone: bool = False
) -> Maps:
    """The rotation, or the permutation with signs, that is best for B as it is."""
    action = symmetry[name]
    crossed = _crossed(symmetry, action, a, b, alone)
    if action.kind == "sign":
        return _signed(symmetry, name, crossed)
    return {name: nearest_rotation(crossed, action.kind)}


def _signed(symmetry: Symmetry, name: str, crossed: Array) -> Maps:
    """Signs; with the permutation of their units where the signs are on all that it moves."""
    action = symmetry[name]
    moved = {
        (path, axis)
        for path, leaf in symmetry.spec.leaves.items()
        for axis in leaf.axes_moved_by(action.group)
    }
    nested = any(around(other, symmetry.spec.sizes) for other in symmetry.spec.sizes)
    if nested or moved != {(path, axis) for path, of in action.powers.items() for axis in of}:
        return {name: jnp.where(jnp.diagonal(crossed, axis1=-2, axis2=-1) < 0, -1.0, 1.0)}
    best = linear_assignment(jnp.abs(crossed))
    chosen = jnp.take_along_axis(crossed, best[:, None], axis=1)[:, 0]
    return {action.group: best, name: jnp.where(chosen < 0, -1.0, 1.0)}


def _crossed(
    symmetry: Symmetry, action: Action, a: Leaves, b: Mapping[str, Array], alone: bool = False
) -> Array:
    """`sum A B^T` over all axes that an action moves, or over arrays that only it moves."""
    shape = shape_of_permutation(symmetry.spec, action.group)
    total = jnp.zeros((*shape, action.size))
    for path in (path for path in action.powers if path in a):
        for piece in symmetry.spec.leaves[path].pieces:
            within = piece.within(action.group)
            if alone and sum(name is not None for name in piece.perms) > 1 + len(within):
                continue
            letters = string.ascii_letters[: len(piece.view)]
            outer = "".join(letters[i] for i in within)
            own_axes = (piece.moved_by(action.group, axis) for axis in action.powers[path])
            for own in (letters[i] for i in itertools.chain.from_iterable(own_axes)):
                total += jnp.einsum(
                    f"{letters},{letters.replace(own, 'Z')}->{outer}{own}Z",
                    piece.of(a[path]),
                    piece.of(b[path]),
                    precision=jax.lax.Precision.HIGHEST,
                )
    return total
