"""Matching by all symmetries: permutations by assignment, all other maps in closed form."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.inner_maps import assigned_with_inner_maps
from llfc_jax.matching.leaves import Leaves, by_path, matched_leaves
from llfc_jax.matching.moved import AS_IT_WAS, PERMUTED, Moved, chosen_classes, ladder
from llfc_jax.matching.problem import Problem
from llfc_jax.matching.weights import weight_matching
from llfc_jax.symmetry import apply_permutation, held_fixed
from llfc_jax.symmetry.balance import balance
from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.maps import (
    Maps,
    apply_maps,
    fold_scales,
    inverse_maps,
    nearest,
    scales_of,
    shrinking,
)
from llfc_jax.symmetry.moments import cross_moment
from llfc_jax.symmetry.spec import around, shape_of_permutation
from llfc_jax.types import Array, PRNGKey, Variables

_PROGRESS = 1e-6
"""Part of the objective by which a round must grow to be followed by another."""


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
    """B moved by permutations, linear maps and signs towards the largest `<A, g(B)>`, in canonical form.

    Rounds of weight matching and, for each other group of maps in turn, its closed form: with leaves as
    matrices whose rows it moves and C = sum_leaves A B^T, the rotation U V^T of the singular value
    decomposition C = U S V^T (Schoenemann 1966), for those that fix the mean's direction within its
    complement; for signs the permutation that is best for |C| + D, with D as C of what the signs leave, and
    the signs that C has there. Each is the exact optimum with the others held, where it moves one axis of
    each leaf; it is taken if the objective grows. What has maps within it, such as heads with rotations of
    queries and keys, is assigned together with them, see `inner_maps`. Before the first round rotations are
    found from what they alone move, such as what the inputs are read by: hidden units that aren't matched yet
    would be noise. If that ends below weight matching alone, rounds go on from there.

    Networks are made canonical before: where rotations need the scales of norms uniform, they are folded into
    the next layer; what else can be scaled or mapped by invertible matrices gets the smallest weights
    (`balance`), which leaves only a rotation of an invertible map. In the end B gets what A was made
    canonical by, undone: the line between the two is that of the canonical networks, mapped. Rotations that a
    scale forbids which can't be folded, such as that of a last norm before tied embeddings, are left out.

    Args:
        key: for `weight_matching`.
        symmetry: from `symmetries`.
        variables_a: A's arrays.
        variables_b: B's.
        classes: kinds of maps beside permutations; all that the network has if left out.
        max_rounds: limit on rounds.
        exclude: collections that are moved but not compared.

    Returns:
        B moved, for the line from A as it is; the objective is `<A, g(B)>` in canonical form, at the
        start and after each round.

    Raises:
        UserError: on trees that differ or are not finite, a class that the network lacks, or a scale that
            can't be folded.
    """
    usable = symmetry.foldable
    chosen = chosen_classes(usable, classes)
    steps, trace = procrustes_steps(
        key, usable, variables_a, variables_b, chosen, max_rounds=max_rounds, exclude=exclude
    )
    objective = jnp.asarray(trace)
    info = MatchInfo(
        objective,
        jnp.int32(len(trace) - 1),
        jnp.bool_(bool(symmetry.spec.sizes) and not (chosen and _grew(trace))),
        objective[-1:],
        held_fixed(symmetry.spec),
    )
    moved = [*steps.values()][-1]
    return Moved(moved, info, symmetry, chosen, ladder(variables_a, {AS_IT_WAS: variables_b} | steps))


def procrustes_steps(
    key: PRNGKey,
    symmetry: Symmetry,
    variables_a: Variables,
    variables_b: Variables,
    classes: tuple[str, ...],
    *,
    max_rounds: int = 20,
    exclude: tuple[str, ...] = ("batch_stats",),
) -> tuple[dict[str, Variables], list[float]]:
    """B moved by permutations alone, and by those and maps of some classes; and the objective's course.

    Args:
        key: see `procrustes_matching`, as all but the next.
        symmetry: the same.
        variables_a: the same.
        variables_b: the same.
        classes: kinds of maps that the network has.
        max_rounds: the same.
        exclude: the same.
    """
    if max_rounds < 1:
        raise UserError(f"max_rounds: expected at least 1, found {max_rounds}")
    matched_leaves(symmetry.spec, variables_a, variables_b, exclude)
    sides = (symmetry, variables_a, variables_b)
    permuted, trace = _descend(key, *sides, (), max_rounds, exclude)
    if not classes:
        return {PERMUTED: permuted}, trace
    moved, trace = _descend(key, *sides, classes, max_rounds, exclude)
    return {PERMUTED: permuted, ", ".join((PERMUTED, *classes)): moved}, trace


def _descend(
    key: PRNGKey,
    symmetry: Symmetry,
    variables_a: Variables,
    variables_b: Variables,
    classes: tuple[str, ...],
    max_rounds: int,
    exclude: tuple[str, ...],
) -> tuple[Variables, list[float]]:
    """B moved by permutations and maps of some classes, and the objective before and after each round."""
    turned = _turned(symmetry, classes)
    shrunk = [name for name in shrinking(symmetry) if symmetry[name].kind in classes]
    a, b = (fold_scales(symmetry, variables) for variables in (variables_a, variables_b))
    weights = tuple(matched_leaves(symmetry.spec, a, b, exclude)[0])
    own, others = (balance(symmetry, variables, shrunk, weights) for variables in (a, b))
    a, b = apply_maps(symmetry, own, a), apply_maps(symmetry, others, b)
    compared = matched_leaves(symmetry.spec, a, b, exclude)[0]

    def permuted(key: PRNGKey, b: Variables) -> Variables:
        permutation, _ = weight_matching(key, symmetry.spec, a, b, exclude=exclude)
        return _better(compared, b, apply_permutation(symmetry.spec, permutation, b))

    def placed(b: Variables) -> Variables:
        for name in _with_turned_units(symmetry, turned):
            maps = assigned_with_inner_maps(symmetry, name, turned, compared, by_path(b))
            b = _better(compared, b, apply_maps(symmetry, maps, b))
        return b

    def turn(b: Variables, names: Sequence[str], *, alone: bool = False) -> Variables:
        for name in names:
            maps = _closed_form(symmetry, name, compared, by_path(b), alone=alone)
            b = _better(compared, b, apply_maps(symmetry, maps, b))
        return b

    def rounds(b: Variables) -> tuple[Variables, list[float]]:
        trace = [_agreement(compared, b)]
        for round_ in range(max_rounds):
            b = turn(permuted(jax.random.fold_in(key, round_), b), turned)
            trace.append(_agreement(compared, b))
            if not _grew(trace):
                b = placed(b)
                trace[-1] = _agreement(compared, b)
            if not turned or not _grew(trace):
                break
        return b, trace

    found, trace = rounds(turn(b, [name for name in turned if symmetry[name].kind != "sign"], alone=True))
    if turned and trace[-1] < _agreement(compared, start := permuted(key, b)):
        found, trace = rounds(start)
    found = apply_maps(symmetry, inverse_maps(symmetry, own), found)
    return scales_of(symmetry, found, variables_a), trace


def _turned(symmetry: Symmetry, classes: Sequence[str]) -> list[str]:
    """What B is turned by: all maps of some classes but scalings, which are canonical.

    So are the signs of scales that rotations need uniform: they have been folded.
    """
    names = [name for name, action in symmetry.actions.items() if action.kind in {*classes} - {"scaling"}]
    folded = {path for name in names for path in symmetry[name].uniform}
    return [name for name in names if symmetry[name].kind != "sign" or not folded & {*symmetry[name].powers}]


def by_procrustes(key: PRNGKey, problem: Problem, options: Mapping[str, Any]) -> Moved:
    """A `Matcher`, of weights alone."""
    return procrustes_matching(
        key,
        problem.symmetry(),
        problem.a,
        problem.b,
        classes=options["classes"] or None,
        max_rounds=options["max_sweeps"],
    )


def _grew(trace: Sequence[float]) -> bool:
    """Whether the last round was worth another one."""
    return trace[-1] - trace[-2] > _PROGRESS * abs(trace[-1])


def _agreement(a: Leaves, b: Variables) -> float:
    leaves = by_path(b)
    return float(sum(jnp.vdot(a[path], leaves[path]).real for path in a))


def _better(a: Leaves, before: Variables, after: Variables) -> Variables:
    return after if _agreement(a, after) > _agreement(a, before) else before


def _with_turned_units(symmetry: Symmetry, names: Sequence[str]) -> list[str]:
    """The outermost permutations that some actions act within what they move."""
    outer = (around(symmetry[name].group, symmetry.spec.sizes)[:1] for name in names)
    return [*dict.fromkeys(name for found in outer for name in found)]


def _closed_form(
    symmetry: Symmetry, name: str, a: Leaves, b: Mapping[str, Array], *, alone: bool = False
) -> Maps:
    """The rotation, or the permutation with signs, that is best for B as it is."""
    action = symmetry[name]
    crossed = _crossed(symmetry, action, a, b, alone)
    if action.kind == "sign":
        return _signed(symmetry, name, crossed, a, b)
    return {name: nearest(action, crossed)}


def _signed(symmetry: Symmetry, name: str, crossed: Array, a: Leaves, b: Mapping[str, Array]) -> Maps:
    """Signs; with the permutation of their units, where that is one by itself.

    Units are as alike as what the signs turn makes them with the better sign, and what they leave makes them,
    such as the gate of a gated unit.
    """
    action, sizes = symmetry[name], symmetry.spec.sizes
    if around(action.group, sizes) or any(action.group in around(other, sizes) for other in sizes):
        return {name: jnp.where(jnp.diagonal(crossed, axis1=-2, axis2=-1) < 0, -1.0, 1.0)}
    left = (
        cross_moment(symmetry.units, action.group, path, axis, a[path], b[path], pieces=(piece,))
        for path, leaf in symmetry.units.leaves.items()
        if path in a
        for piece, axis in leaf.places_moved_by(action.group)
        if (piece, axis) not in action.powers.get(path, ())
    )
    best = linear_assignment(sum(left, start=jnp.abs(crossed)))
    chosen = jnp.take_along_axis(crossed, best[:, None], axis=1)[:, 0]
    return {action.group: best, name: jnp.where(chosen < 0, -1.0, 1.0)}


def _crossed(
    symmetry: Symmetry, action: Action, a: Leaves, b: Mapping[str, Array], alone: bool = False
) -> Array:
    """`sum A B^T` over all axes that an action moves, or over arrays that only it moves."""

    def counts(path: str, i: int) -> bool:
        piece = symmetry.units.leaves[path].pieces[i]
        moving = sum(name is not None for name in piece.perms)
        return not alone or moving <= 1 + len(piece.within(action.group))

    shape = shape_of_permutation(symmetry.units, action.group)
    return sum(
        (
            cross_moment(symmetry.units, action.group, path, axis, a[path], b[path], pieces=(piece,))
            for path, of in action.powers.items()
            for piece, axis in of
            if path in a and counts(path, piece)
        ),
        jnp.zeros((*shape, action.size)),
    )
