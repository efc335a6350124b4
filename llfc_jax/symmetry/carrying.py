"""The axes that an operation without a rule of its own carries: those along which it could be batched.

An operation commutes with the permutations of an axis if it does for each position along it what it would do
for this one alone. Linear algebra acts on the last axes and has a table. Of any other operation, the rule by
which `jax.vmap` batches it is asked: take the axis away, let the rule put it back, and where this gives the
very same equation, the axis is carried. All else is fixed.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal

from llfc_jax.symmetry.factors import Axes, Axis, fix, flatten, is_fixed, new_axes
from llfc_jax.symmetry.rule import shape_of
from llfc_jax.symmetry.unification import unify_all

_ALL_LAST_TWO = (2, 2, 2)
_ACTED_ON: Mapping[str, Sequence[int]] = {
    "cholesky": _ALL_LAST_TWO,
    "cholesky_update": (2, 1),
    "eig": _ALL_LAST_TWO,
    "eigh": _ALL_LAST_TWO,
    "geqrf": _ALL_LAST_TWO,
    "hessenberg": _ALL_LAST_TWO,
    "householder_product": (2, 1),
    "lu": _ALL_LAST_TWO,
    "lu_pivots_to_permutation": (1,),
    "qr": _ALL_LAST_TWO,
    "schur": _ALL_LAST_TWO,
    "svd": _ALL_LAST_TWO,
    "tridiagonal": _ALL_LAST_TWO,
}
"""Primitive -> how many of the last axes of each operand it acts on; the others are carried."""


def carried(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """The axes of the results of an operation without a rule; fixes what it acts on."""
    name = eqn.primitive.name
    if name == "triangular_solve":
        return _triangular_solve(eqn, operands)
    if name in _ACTED_ON:
        return _leading(eqn, operands, _ACTED_ON[name])
    return _batched(eqn, operands)


def _leading(eqn: JaxprEqn, operands: Sequence[Axes], acted_on: Sequence[int]) -> Sequence[Axes]:
    """Carries all axes but the last few, alike in all operands."""
    counts = [len(axes) - acted for axes, acted in zip(operands, acted_on, strict=False)]
    for axes, count in zip(operands, counts, strict=False):
        fix(flatten(axes[count:]), eqn)
    together = [axes[:count] for axes, count in zip(operands, counts, strict=False)]
    front = tuple(unify_all(same, eqn) for same in zip(*together, strict=True))
    return [(*front, *new_axes(shape[len(front) :], fixed=eqn)) for shape in map(shape_of, eqn.outvars)]


def _triangular_solve(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the right sides, too."""
    matrix, sides = operands
    counted = len(sides) - 1 if eqn.params["left_side"] else len(sides) - 2
    solved = len(sides) - 2 if eqn.params["left_side"] else len(sides) - 1
    fix(flatten((*matrix[-2:], sides[solved])), eqn)
    front = [unify_all(same, eqn) for same in zip(matrix[:-2], sides[:-2], strict=True)]
    result = [*front, *new_axes(shape_of(eqn.outvars[0])[-2:], fixed=eqn)]
    result[counted] = sides[counted]
    return [tuple(result)]


def _batched(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries what batching carries and fixes the rest."""
    results = [list(new_axes(shape_of(result), fixed=eqn)) for result in eqn.outvars]
    kept: list[Axis] = []
    for taken in _candidates(eqn, operands):
        along = [operands[i][axis] for i, axis in taken.items()]
        if any(axis is other for axis in along for other in kept):
            continue
        if (places := _places(eqn, taken)) is None:
            continue
        axis = unify_all(along, eqn)
        kept += along
        for result, place in zip(results, places, strict=True):
            result[place] = axis
    free = [axis for axes in operands for axis in axes if not any(axis is other for other in kept)]
    fix(flatten(free), eqn)
    return [tuple(axes) for axes in results]


def _candidates(eqn: JaxprEqn, operands: Sequence[Axes]) -> Iterator[dict[int, int]]:
    """Which axis to take from which operands: one of each of some that have it where another has one."""
    if "callback" in eqn.primitive.name or eqn.effects:
        return
    shapes = [shape_of(operand) for operand in eqn.invars]
    moving = {
        (axis, shapes[i][axis])
        for i, axes in enumerate(operands)
        for axis, own in enumerate(axes)
        if own and not is_fixed(own)
    }
    for axis, size in sorted(moving):
        having = [i for i, shape in enumerate(shapes) if len(shape) > axis and shape[axis] == size]
        for count in range(len(having), 0, -1):
            for chosen in itertools.combinations(having, count):
                yield dict.fromkeys(chosen, axis)


def _places(eqn: JaxprEqn, taken: Mapping[int, int]) -> list[int] | None:
    """Where in each result an axis taken from some operands is, if batching over it gives the equation."""
    avals: list[Any] = [atom.aval for atom in eqn.invars]
    axes = [taken.get(i) for i in range(len(avals))]

    def once(*operands: Any) -> Any:
        with eqn.ctx.manager:
            return eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))

    try:
        batched: Callable[..., Any] = jax.vmap(once, in_axes=axes)
        body = jax.make_jaxpr(batched)(
            *(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals)
        ).jaxpr
    except Exception:  # whatever a primitive says of operands that it isn't made for
        return None
    if not body.eqns:
        return None
    own, *moves = body.eqns
    same = own.primitive is eqn.primitive and list(own.invars) == list(body.invars)
    before, after = ([*map(shape_of, one.outvars)] for one in (eqn, own))
    if not same or not _equal(own.params, eqn.params) or before != after:
        return None
    places = [_place(out, own, moves) for out in body.outvars]
    return None if None in places else [place for place in places if place is not None]


def _place(out: Any, own: JaxprEqn, moves: Sequence[JaxprEqn]) -> int | None:
    """Where the first axis of an output was in the result of `own` that it is, the others in order."""
    if isinstance(out, Literal) or out in own.outvars:
        return None if isinstance(out, Literal) else 0
    made = next((move for move in moves if out in move.outvars), None)
    if made is None or made.primitive.name != "transpose" or made.invars[0] not in own.outvars:
        return None
    place, *others = made.params["permutation"]
    return int(place) if others == sorted(others) else None


def _equal(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    try:
        return first.keys() == second.keys() and all(bool(first[key] == second[key]) for key in first)
    except (TypeError, ValueError):  # arrays, and what can't be compared
        return False
