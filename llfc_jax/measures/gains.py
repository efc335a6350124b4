"""How much a node can stretch a difference of its inputs: Lipschitz bounds, primitive by primitive."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.program.flat import Flat, Instruction
from llfc_jax.program.interpreter import evaluate
from llfc_jax.program.nodes import Node, Program
from llfc_jax.program.operations import COPIES, ELEMENTWISE, dependents
from llfc_jax.types import Array

_ISOMETRIES = COPIES | {"neg", "slice", "rev", "pad", "split", "dynamic_slice", "clamp", "max", "min", "abs"}
"""Norms don't grow; of one activation."""
_POINTWISE = {"tanh": 1.0, "sin": 1.0, "cos": 1.0, "erf": 2 / math.sqrt(math.pi), "logistic": 0.25}
"""The largest slope."""

Bounds = dict[int, float]
"""Value -> bound of the norm of its deviation; NaN where none is known."""


def stretched(
    flat: Flat, node: Node, bounds: Mapping[int, float], values: Mapping[int, Array], norm: float | None
) -> float:
    """A bound of a node's deviation, given bounds of those of the nodes before it.

    Args:
        flat: the program.
        node: of it.
        bounds: of its entries.
        values: what is made of weights alone, at theta_alpha.
        norm: the spectral norm of its weight as a matrix, if it contracts one.
    """
    if node.entries and (overlap := _maxima(flat, node)) is not None:
        return math.sqrt(overlap) * bounds[node.entries[0]]
    found: Bounds = {entry: bounds[entry] for entry in node.entries}
    for index in node.instructions:
        instruction = flat.instructions[index]
        mine = node.contraction is not None and node.contraction.instruction == index
        bound = _of_results(flat, instruction, found, values, norm if mine else None)
        found.update(dict.fromkeys(instruction.results, bound))
    return found[node.value]


def keeps_positions(program: Program, node: Node) -> bool:
    """Whether what a node says of a position depends on that one alone, as a bound under a mask needs."""
    entries = [other for other in program.nodes if other.value in node.entries]
    primitives = {program.flat.instructions[index].primitive for index in node.instructions}
    pointwise = {*ELEMENTWISE, *COPIES, "dot_general", "reduce_sum", "reduce_max", "reduce_min"}
    return all(own.position_axes for own in (node, *entries)) and primitives <= pointwise


def _of_results(
    flat: Flat,
    instruction: Instruction,
    bounds: Bounds,
    values: Mapping[int, Array],
    norm: float | None,
) -> float:
    own = [bounds[x] for x in dependents(flat, instruction)]
    if not any(own):  # nothing deviates, or nothing is read that could
        return 0.0 if not any(map(math.isnan, own)) else math.nan
    sizes = [math.prod(flat.avals[x].shape) for x in (instruction.operands[0], instruction.results[0])]
    params = instruction.eqn.params
    match instruction.primitive:
        case "dot_general" if norm is not None:
            return norm * own[0]
        case "conv_general_dilated" if norm is not None:
            kernel = flat.avals[instruction.operands[1]].shape
            positions = math.prod(kernel[axis] for axis in params["dimension_numbers"].rhs_spec[2:])
            return math.sqrt(positions) * norm * own[0]
        case "add" | "sub" | "add_any":
            return sum(own)
        case "concatenate":
            return math.sqrt(sum(bound**2 for bound in own))
        case _ if len(own) > 1:
            return math.nan
        case name if name in _ISOMETRIES:
            return own[0]
        case name if name in _POINTWISE:
            return _POINTWISE[name] * own[0]
        case "broadcast_in_dim":
            return math.sqrt(sizes[1] / sizes[0]) * own[0]
        case "reduce_sum":
            return math.sqrt(sizes[0] / sizes[1]) * own[0]
        case "reduce_max" | "reduce_min":
            return own[0]
        case "reduce_window_sum":
            return math.sqrt(math.prod(params["window_dimensions"]) * _overlap(params)) * own[0]
        case "reduce_window_max":
            return math.sqrt(_overlap(params)) * own[0]
        case "mul":
            return float(np.abs(_other(flat, instruction, values)).max()) * own[0]
        case "div":
            return own[0] / float(np.abs(_other(flat, instruction, values)).min())
        case "select_n":
            return own[0]
    return math.nan


def _other(flat: Flat, instruction: Instruction, values: Mapping[int, Array]) -> np.ndarray:
    """The operand that isn't an activation; NaN if it depends on the input."""
    (value,) = {*instruction.operands} - {*dependents(flat, instruction)}
    return np.asarray(values.get(value, np.nan))


def _overlap(params: Mapping[str, tuple[int, ...]]) -> int:
    """In how many windows a position lies."""
    pairs = zip(params["window_dimensions"], params["window_strides"], strict=True)
    return math.prod(-(-window // stride) for window, stride in pairs)


def _maxima(flat: Flat, node: Node) -> float | None:
    """How often the largest of a node's maxima reads one number, if maxima of moved numbers are all it takes.

    With sums for maxima, the gradient of the sum of all results counts it.
    """
    primitives = {flat.instructions[index].primitive for index in node.instructions}
    if "max" not in primitives or not primitives <= {"max", "slice", *COPIES} or len(node.entries) != 1:
        return None
    if any(len(dependents(flat, flat.instructions[i])) < 2 for i in node.instructions if _is_max(flat, i)):
        return None

    def total(entry: Array) -> Array:
        found = {node.entries[0]: entry}
        for index in node.instructions:
            instruction = flat.instructions[index]
            operands = [found[x] for x in instruction.operands]
            summed = [operands[0] + operands[1]] if _is_max(flat, index) else None
            found.update(zip(instruction.results, summed or evaluate(instruction.eqn, operands), strict=True))
        return found[node.value].sum()

    aval = flat.avals[node.entries[0]]
    return float(jax.grad(total)(jnp.zeros(aval.shape, aval.dtype)).max())


def _is_max(flat: Flat, index: int) -> bool:
    return flat.instructions[index].primitive == "max"
