"""Values that are positions along an axis: what `argmax`, `top_k`, `iota` return, and what looks up by them.

Permuting an axis permutes the positions along it, so such a value v has v' = p⁻¹(v) with p the permutation of
the axis that it points into. Comparing it with the positions along the same axis (a one-hot encoding),
looking up an array along it or writing there gives what any order of the axis gives. All else fixes the axis:
it sees numbers.
Of entries that tie, an order prefers one; where ties are common, the check on the outputs tells.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from llfc_jax.symmetry.factors import Axes, Axis, fix, new_axes, new_axis, size_of
from llfc_jax.symmetry.rule import shape_of
from llfc_jax.symmetry.rules import RULES
from llfc_jax.symmetry.unification import settle, settle_along, unify, unify_arrays


class Positions(NamedTuple):
    """The axes of an array whose entries are positions along another axis, `into`."""

    axes: Axes
    into: Axis


class Coordinates(NamedTuple):
    """The axes of an array of positions along several axes at once, a column each along its last axis."""

    axes: Axes
    columns: tuple[Axis | None, ...]
    """What a column points into; None: it holds numbers."""


Known: TypeAlias = Axes | Positions | Coordinates


def axes_of(value: Known) -> Axes:
    """The axes of an array, whatever its entries are."""
    return value.axes if isinstance(value, Positions | Coordinates) else value


def _pointed_into(value: Known) -> tuple[Axis | None, ...]:
    """What each column of coordinates points into; one is a column by itself."""
    match value:
        case Positions(_, into):
            return (into,)
        case Coordinates(_, columns):
            return columns
    return (None,)


def as_numbers(value: Known, why: object) -> Axes:
    """The axes of an array whose entries are read as numbers: the axes that they point into are fixed."""
    for into in _pointed_into(value):
        fix(into or (), why)
    return axes_of(value)


def settle_value(value: Known, why: object, ambient: Axis) -> None:
    """States what the axes of an array, and those that it points into, may depend on."""
    settle(axes_of(value), why, ambient)
    for into in _pointed_into(value):
        settle_along(into or (), (*axes_of(value), ambient), why)


def positions_rule(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    """What an operation makes of positions, if it treats all orders of the axis alike; None if it doesn't."""
    name = eqn.primitive.name
    rule = _carried if name in _CARRYING else _RULES.get(name)
    return rule(eqn, operands) if rule else None


def _iota(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known]:
    axes = new_axes(eqn.params["shape"])
    return [Positions(axes, axes[eqn.params["dimension"]])]


def _argreduce(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    (operand,), (axis, *others) = operands, eqn.params["axes"]
    if others or isinstance(operand, Positions | Coordinates):
        return None
    return [Positions((*operand[:axis], *operand[axis + 1 :]), operand[axis])]


def _top_k(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    (operand,), axis = operands, eqn.params["axis"] % len(shape_of(eqn.invars[0]))
    if isinstance(operand, Positions | Coordinates):
        return None
    axes = (*operand[:axis], new_axis(eqn.params["k"], fixed=eqn), *operand[axis + 1 :])
    return [axes, Positions(axes, operand[axis])]


def _sort(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    """The sorted numbers, and where they were, are the same whatever order they came in."""
    first, *others = operands
    axis = eqn.params["dimension"]
    if isinstance(first, Positions | Coordinates) or len(others) > 1:
        return None
    axes = first
    for other in others:
        if not isinstance(other, Positions) or other.into != other.axes[axis]:
            return None
        axes = unify_arrays([first, other.axes], eqn)
    result = (*axes[:axis], new_axis(shape_of(eqn.invars[0])[axis], fixed=eqn), *axes[axis + 1 :])
    return [result, *(Positions(result, axes[axis]) for _ in others)]


def _compared(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    first, second = operands
    if not (isinstance(first, Positions) and isinstance(second, Positions)):
        return None
    if size_of(first.into) != size_of(second.into):
        return None
    unify(first.into, second.into, eqn)
    return RULES[eqn.primitive.name](eqn, [first.axes, second.axes])


def _below_zero(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    """No position is negative: how JAX asks whether an index counts from the end."""
    first, limit = operands[0], eqn.invars[1]
    if not isinstance(first, Positions) or not isinstance(limit, Literal) or np.any(limit.val != 0):
        return None
    return [first.axes]


def _from_the_end(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    """How JAX counts from the end; never chosen for a position."""
    first, shift = operands[0], eqn.invars[1]
    if not isinstance(first, Positions) or not isinstance(shift, Literal):
        return None
    return [first] if np.all(shift.val == size_of(first.into)) else None


def _chosen(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    which, *cases = operands
    if isinstance(which, Positions | Coordinates):
        return None
    if not all(isinstance(case, Positions) for case in cases):
        return None
    first, *others = (case for case in cases if isinstance(case, Positions))
    if any(size_of(other.into) != size_of(first.into) for other in others):
        return None
    for other in others:
        unify(first.into, other.into, eqn)
    (axes,) = RULES["select_n"](eqn, [which, *(axes_of(case) for case in cases)])
    return [Positions(axes, first.into)]


def _side_by_side(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    """Positions along several axes, put together to look up or to write by all of them."""
    shapes, last = [shape_of(operand) for operand in eqn.invars], len(shape_of(eqn.outvars[0])) - 1
    if eqn.params["dimension"] != last or any(shape[last] != 1 for shape in shapes):
        return None
    if any(isinstance(operand, Coordinates) for operand in operands):
        return None
    columns = [into for operand in operands for into in _pointed_into(operand)]
    if not any(columns):
        return None
    (axes,) = RULES["concatenate"](eqn, [axes_of(operand) for operand in operands])
    return [Coordinates(axes, tuple(columns))]


def _looked_up(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    operand, indices = operands
    dimensions = eqn.params["dimension_numbers"].start_index_map
    one_each = all(eqn.params["slice_sizes"][along] == 1 for along in dimensions)
    if not one_each or (anew := _pointed_at(eqn, operand, indices, dimensions)) is None:
        return None
    return RULES["gather"](eqn, [anew, axes_of(indices)])


def _written(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    operand, indices, updates = operands
    numbers = eqn.params["dimension_numbers"]
    dimensions = numbers.scatter_dims_to_operand_dims
    one_each = {*dimensions} <= {*numbers.inserted_window_dims}
    if not one_each or isinstance(updates, Positions | Coordinates):
        return None
    if (anew := _pointed_at(eqn, operand, indices, dimensions)) is None:
        return None
    (written,) = RULES[eqn.primitive.name](eqn, [anew, axes_of(indices), updates])
    return [
        tuple(w if new is old else old for w, new, old in zip(written, anew, axes_of(operand), strict=True))
    ]


def _pointed_at(
    eqn: JaxprEqn, operand: Known, indices: Known, dimensions: Sequence[int]
) -> tuple[Axis, ...] | None:
    """The axes of an array but for those that positions point into, which are others; None if they can't."""
    columns = _pointed_into(indices)
    if isinstance(operand, Positions | Coordinates) or not any(columns) or len(columns) != len(dimensions):
        return None
    chosen = {i: into for i, into in zip(dimensions, columns, strict=True) if into is not None}
    if any(size_of(operand[i]) != size_of(into) for i, into in chosen.items()):
        return None
    for i, into in chosen.items():
        unify(operand[i], into, eqn)
    return tuple(new_axis(size_of(axis)) if i in chosen else axis for i, axis in enumerate(operand))


def _carried(eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known] | None:
    first, *others = operands
    if not isinstance(first, Positions) or others or eqn.params.get("new_dtype") == np.dtype(bool):
        return None
    (axes,) = RULES[eqn.primitive.name](eqn, [first.axes])
    return [Positions(axes, first.into)]


_CARRYING = (
    *("broadcast_in_dim", "convert_element_type", "copy", "copy_p", "name", "reshape", "sharding_constraint"),
    *("rev", "slice", "squeeze", "stop_gradient", "transpose"),
)
"""Operations that only move entries about."""

_RULES: dict[str, Callable[[JaxprEqn, Sequence[Known]], Sequence[Known] | None]] = {
    "add": _from_the_end,
    "argmax": _argreduce,
    "argmin": _argreduce,
    "concatenate": _side_by_side,
    "eq": _compared,
    "gather": _looked_up,
    "iota": _iota,
    "lt": _below_zero,
    "ne": _compared,
    **{f"scatter{op}": _written for op in ("", "-add", "-mul", "-min", "-max", "_sub", "-sub")},
    "select_n": _chosen,
    "sort": _sort,
    "top_k": _top_k,
}
"""Primitive name -> what it makes of positions."""
