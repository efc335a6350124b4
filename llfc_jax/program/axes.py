"""Which axis of a value counts samples, and which one units."""

import math
from collections.abc import Mapping, Sequence

from llfc_jax.program.flat import Flat, Instruction
from llfc_jax.program.operations import COPIES, ELEMENTWISE, dependents, weight_operand

REDUCTIONS = frozenset({"reduce_sum", "reduce_max", "reduce_min", "argmax", "reduce_and", "reduce_or"})
WINDOWS = frozenset(
    {
        *("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window", "cumsum", "rev"),
        *("slice", "pad", "concatenate", "select_and_gather_add", "gather", "dynamic_slice"),
    }
)
"""Operations that keep the number of axes and their order."""


def grown_axes(flat: Flat, larger: Flat, n: int) -> dict[int, int]:
    """Value -> the one axis that grows from n to n + 1; those that grow otherwise are left out.

    Args:
        flat: a program of n samples, or of n positions.
        larger: the same program of n + 1.
        n: how many.
    """
    axes = {}
    for value, (before, after) in enumerate(zip(flat.avals, larger.avals, strict=True)):
        grown = [axis for axis, (x, y) in enumerate(zip(before.shape, after.shape, strict=True)) if x != y]
        if len(grown) == 1 and after.shape[grown[0]] == n + 1:
            axes[value] = grown[0]
    return axes


def output_axes(flat: Flat, instruction: Instruction, weight: int) -> list[int]:
    """The axes of a contraction's weight that are not contracted."""
    side, numbers = instruction.operands.index(weight), instruction.eqn.params["dimension_numbers"]
    if instruction.primitive == "conv_general_dilated":
        return [(numbers.rhs_spec if side == 1 else numbers.lhs_spec)[0]]
    return [axis for axis in range(len(flat.avals[weight].shape)) if axis not in numbers[0][side]]


def unit_axes(flat: Flat) -> dict[int, int]:
    """Value -> the axis along which its units (neurons, channels) lie, as the last contraction laid them.

    Values for which it isn't known are left out, such as attention's scores.
    """
    axes: dict[int, int] = {}
    for instruction in flat.instructions:
        if (axis := _of_results(flat, instruction, axes)) is not None:
            axes.update(
                (result, axis) for result in instruction.results if axis < len(flat.avals[result].shape)
            )
    return axes


def _of_results(flat: Flat, instruction: Instruction, axes: Mapping[int, int]) -> int | None:
    if not instruction.results or not flat.sees_input[instruction.results[0]]:
        return None
    if (position := weight_operand(flat, instruction)) is not None:
        return _of_contraction(flat, instruction, position)
    if instruction.primitive == "gather" and flat.is_weight(instruction.operands[0]):
        return len(flat.avals[instruction.results[0]].shape) - 1
    known = [axes[x] for x in dependents(flat, instruction) if x in axes]
    if not known or len({*known}) > 1:
        return None
    (operand, *_), axis = [x for x in dependents(flat, instruction) if x in axes], known[0]
    return _moved(instruction, axis, flat.avals[operand].shape, flat.avals[instruction.results[0]].shape)


def _of_contraction(flat: Flat, instruction: Instruction, position: int) -> int | None:
    """The axis of the outputs, if it is one."""
    params, result = instruction.eqn.params, flat.avals[instruction.results[0]].shape
    if instruction.primitive == "conv_general_dilated":
        return params["dimension_numbers"].out_spec[1] if position == 1 else None
    if instruction.primitive != "dot_general":
        return None
    contracted, batched = params["dimension_numbers"]
    shapes = [flat.avals[x].shape for x in instruction.operands[:2]]
    free = [len(shape) - len(contracted[side]) - len(batched[side]) for side, shape in enumerate(shapes)]
    if free[position] != 1:
        return None
    return len(batched[0]) if position == 0 else len(result) - 1


def _moved(instruction: Instruction, axis: int, before: Sequence[int], after: Sequence[int]) -> int | None:
    """Where an axis of the operand goes; None where it is gone, or merged with others."""
    params = instruction.eqn.params
    match instruction.primitive:
        case "transpose":
            return tuple(params["permutation"]).index(axis)
        case "broadcast_in_dim":
            return params["broadcast_dimensions"][axis]
        case "squeeze":
            return (
                None if axis in params["dimensions"] else axis - sum(d < axis for d in params["dimensions"])
            )
        case "expand_dims":
            return None
        case "reshape":
            ahead = math.prod(before[:axis])
            kept = [
                i for i, size in enumerate(after) if size == before[axis] and math.prod(after[:i]) == ahead
            ]
            return kept[0] if kept else None
        case name if name in REDUCTIONS:
            gone = params["axes"]
            return None if axis in gone else axis - sum(d < axis for d in gone)
        case name if name in ELEMENTWISE | WINDOWS | COPIES and len(before) == len(after):
            return axis
    return None
