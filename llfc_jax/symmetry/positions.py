"""Values that are positions along an axis: what `argmax`, `top_k`, `iota` return, and what looks up by them.

Permuting an axis permutes the positions along it, so such a value v has v' = p⁻¹(v) with p the permutation of
the axis that it points into. Comparing it with the positions along the same axis (a one-hot encoding),
looking up an array along it or writing there gives what any order of the axis gives. All else fixes the axis:
it sees numbers.
Of entries that tie, an order prefers one; where ties are common, the check on the outputs tells.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from llfc_jax.symmetry.factors import Axes, Axis, new_axes, new_axis, size_of
from llfc_jax.symmetry.known import (
    Among,
    Chosen,
    Coordinates,
    Direct,
    Known,
    Positions,
    axes_of,
    columns_of,
)
from llfc_jax.symmetry.rule import shape_of
from llfc_jax.symmetry.rules import RULES
from llfc_jax.symmetry.unification import unify, unify_arrays


def positions_rule(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    """What an operation makes of positions, if it treats all orders of the axis alike; None if it doesn't."""
    name = eqn.primitive.name
    rule = _carried if name in _CARRYING else _RULES.get(name)
    return rule(eqn, operands) if rule else None


def _iota(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known]:
    axes = new_axes(eqn.params["shape"])
    into = axes[eqn.params["dimension"]]
    return [Positions(axes, into, source=into if len(axes) == 1 else object())]


def _argreduce(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    (operand,), (axis, *others) = operands, eqn.params["axes"]
    if others or isinstance(operand, Positions | Coordinates):
        return None
    return [Positions((*operand[:axis], *operand[axis + 1 :]), operand[axis], object())]


def _top_k(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    (operand,), axis = operands, eqn.params["axis"] % len(shape_of(eqn.invars[0]))
    if isinstance(operand, Positions | Coordinates):
        return None
    axes = (*operand[:axis], new_axis(eqn.params["k"], fixed=eqn), *operand[axis + 1 :])
    return [axes, Positions(axes, operand[axis], object())]


def _sort(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
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
    return [result, *(Positions(result, axes[axis], object()) for _ in others)]


def _compared(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    first, second = operands
    if not (isinstance(first, Positions) and isinstance(second, Positions)):
        return None
    if size_of(first.into) != size_of(second.into):
        return None
    unify(first.into, second.into, eqn)
    return RULES[eqn.primitive.name](eqn, [first.axes, second.axes])


def _below_zero(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    """No position is negative: how JAX asks whether an index counts from the end."""
    first, limit = operands[0], eqn.invars[1]
    if not isinstance(first, Positions) or not isinstance(limit, Literal) or np.any(limit.val != 0):
        return None
    return [first.axes]


def _from_the_end(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    """How JAX counts from the end; never chosen for a position."""
    first, shift = operands[0], eqn.invars[1]
    if not isinstance(first, Positions) or not isinstance(shift, Literal):
        return None
    return [first] if np.all(shift.val == size_of(first.into)) else None


def _chosen(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
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
    same = all(other.source == first.source for other in others)
    return [Positions(axes, first.into, first.source if same else object())]


def _side_by_side(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    """Positions along several axes, put together to look up or to write by all of them."""
    shapes, last = [shape_of(operand) for operand in eqn.invars], len(shape_of(eqn.outvars[0])) - 1
    if eqn.params["dimension"] != last or any(shape[last] != 1 for shape in shapes):
        return None
    if any(isinstance(operand, Coordinates) for operand in operands):
        return None
    columns = [column for operand in operands for column in columns_of(operand)]
    if not any(columns):
        return None
    (axes,) = RULES["concatenate"](eqn, [axes_of(operand) for operand in operands])
    return [Coordinates(axes, tuple(columns))]


def _looked_up(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    """One position of what is pointed into, for each of the indices; other axes may be kept whole."""
    operand, indices = operands
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    dimensions, shape = numbers.start_index_map, shape_of(eqn.invars[0])
    columns = dict(zip(dimensions, columns_of(indices), strict=False))
    fits = all(sizes[i] == 1 or (sizes[i] == shape[i] and not columns.get(i)) for i in dimensions)
    if not fits or (anew := _pointed_at(eqn, operand, indices, dimensions)) is None:
        return None
    (axes,) = RULES["gather"](eqn, [anew, axes_of(indices)])
    if numbers.operand_batching_dims:
        return [axes]
    counted = tuple(i for i in range(len(axes)) if i not in numbers.offset_dims)
    return [_among(axes, operand, columns, counted)]


def _cut_out(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    """One position of what is pointed into; the other axes are kept whole."""
    operand, *starts = operands
    shape, sizes = shape_of(eqn.invars[0]), eqn.params["slice_sizes"]
    columns = {i: start for i, start in enumerate(starts) if isinstance(start, Positions)}
    kept = all(size == (1 if i in columns else shape[i]) for i, size in enumerate(sizes))
    if not columns or not kept or isinstance(operand, Positions | Coordinates):
        return None
    if not _are_of(eqn, operand, columns):
        return None
    kept_whole = tuple(() if i in columns else axis for i, axis in enumerate(operand))
    return [_among(kept_whole, operand, columns, ())]


def _among(
    axes: Axes, operand: Direct, columns: Mapping[int, Positions | None], along: tuple[int, ...]
) -> Known:
    """What is looked up in an array where its axes are pointed into; 0, 1, 2, ... leave it as it is."""
    others = {i: one for i, one in columns.items() if one and one.source is not one.into}
    among = tuple(Among((axes_of(operand)[i],), one.source, along) for i, one in others.items())
    return Chosen(axes, among) if among else axes


def _written(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
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
    eqn: JaxprEqn, operand: Direct, indices: Direct, dimensions: Sequence[int]
) -> tuple[Axis, ...] | None:
    """The axes of an array but for those that positions point into, which are others; None if they can't."""
    columns = columns_of(indices)
    if isinstance(operand, Positions | Coordinates) or not any(columns) or len(columns) != len(dimensions):
        return None
    chosen = {i: column for i, column in zip(dimensions, columns, strict=True) if column is not None}
    if not _are_of(eqn, operand, chosen):
        return None
    return tuple(new_axis(size_of(axis)) if i in chosen else axis for i, axis in enumerate(operand))


def _are_of(eqn: JaxprEqn, axes: Axes, columns: Mapping[int, Positions]) -> bool:
    """States that axes are those that columns point into; returns whether they can be."""
    if any(size_of(axes[i]) != size_of(column.into) for i, column in columns.items()):
        return False
    for i, column in columns.items():
        unify(axes[i], column.into, eqn)
    return True


def _carried(eqn: JaxprEqn, operands: Sequence[Direct]) -> Sequence[Known] | None:
    first, *others = operands
    if not isinstance(first, Positions) or others or eqn.params.get("new_dtype") == np.dtype(bool):
        return None
    name, before = eqn.primitive.name, shape_of(eqn.invars[0])

    def source(result: int) -> Hashable:
        whole = math.prod(shape_of(eqn.outvars[result])) == math.prod(before)
        if whole and name not in _REORDERING:
            return first.source
        # Where a program takes the same part of the same positions twice, it is the same.
        return (first.source, before, name, result, *sorted(eqn.params.items()))

    results = RULES[name](eqn, [first.axes])
    return [Positions(axes, first.into, source(i)) for i, axes in enumerate(results)]


_REORDERING = ("rev", "transpose")
_CARRYING = (
    *("broadcast_in_dim", "convert_element_type", "copy", "copy_p", "name", "reshape", "sharding_constraint"),
    *("slice", "split", "squeeze", "stop_gradient", *_REORDERING),
)
"""Operations that only move entries about."""

_RULES: dict[str, Callable[[JaxprEqn, Sequence[Direct]], Sequence[Known] | None]] = {
    "add": _from_the_end,
    "argmax": _argreduce,
    "argmin": _argreduce,
    "concatenate": _side_by_side,
    "dynamic_slice": _cut_out,
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
