"""What a primitive is to the activations it is given: linear, a contraction with a weight, or neither."""

import enum
from collections.abc import Collection

from llfc_jax.program.flat import Flat, Instruction

EXACTLY_LINEAR = frozenset(
    {
        *("add", "sub", "neg", "reduce_sum", "reduce_window_sum", "add_any", "concatenate", "pad"),
        *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "rev", "copy"),
    }
)
"""Linear in all operands at once, of which a value between two networks' may be made of theirs."""
LINEAR = EXACTLY_LINEAR | {
    *("cumsum", "split", "convert_element_type", "reduce_precision", "name", "optimization_barrier"),
    *("copy_p", "real", "imag", "conj", "sharding_constraint", "fft", "stop_gradient"),
}
"""The same, up to the rounding of a conversion."""
STRUCTURAL = LINEAR - {"add", "sub", "neg", "add_any", "reduce_sum", "reduce_window_sum", "cumsum", "fft"}
"""Those of them that only move numbers."""
COPIES = frozenset(
    {
        *("reshape", "transpose", "squeeze", "expand_dims", "copy", "copy_p", "convert_element_type", "name"),
        *("reduce_precision", "optimization_barrier", "sharding_constraint", "stop_gradient"),
    }
)
"""Those of them that keep every number once."""
PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated"})
"""Linear in each of two operands."""
INDEXED = frozenset({"gather", "dynamic_slice", "dynamic_update_slice", "scatter", "scatter-add"})
"""Linear where the positions are fixed."""
DRAWS = frozenset({"random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform", "random_gamma"})
"""Random numbers."""
CONTRACTIONS = PRODUCTS - {"mul"}
ELEMENTWISE = frozenset(
    {
        *("max", "min", "tanh", "logistic", "exp", "exp2", "expm1", "log", "log1p", "erf", "erfc", "erf_inv"),
        *("sin", "cos", "tan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "abs", "sign", "sqrt"),
        *("rsqrt", "cbrt", "square", "integer_pow", "pow", "floor", "ceil", "round", "clamp", "select_n"),
        *("mul", "div", "add", "sub", "neg", "rem", "nextafter", "lgamma", "digamma", "is_finite"),
        *("and", "or", "not", "xor", "eq", "ne", "lt", "le", "gt", "ge", "add_any"),
        *("convert_element_type", "stop_gradient", "name", "copy", "broadcast_in_dim"),
    }
)
"""Of each number on its own."""


class Role(enum.Enum):
    """What an instruction does to activations."""

    NONE = enum.auto()
    """It makes none."""
    LINEAR = enum.auto()
    """Linear in its one activation."""
    CONTRACTION = enum.auto()
    """Of a weight with a value that depends on the input."""
    LOOKUP = enum.auto()
    """Rows of a weight, chosen by the input."""
    NONLINEAR = enum.auto()
    """Of one activation."""
    MERGE = enum.auto()
    """Of several activations."""


def dependents(flat: Flat, instruction: Instruction) -> tuple[int, ...]:
    """The operands that depend on weights and inputs, each once."""
    return tuple(dict.fromkeys(x for x in instruction.operands if flat.leaves[x] and flat.sees_input[x]))


def role(flat: Flat, instruction: Instruction) -> Role:
    """What an instruction does."""
    if not any(flat.leaves[x] and flat.sees_input[x] for x in instruction.results[:1]):
        return Role.NONE
    if weight_operand(flat, instruction) is not None:
        return Role.CONTRACTION
    if instruction.primitive == "gather" and flat.is_weight(instruction.operands[0]):
        return Role.LOOKUP
    given = dependents(flat, instruction)
    if len(given) > 1:
        return Role.MERGE
    if not given and instruction.primitive in LINEAR | PRODUCTS | INDEXED | {"div", "select_n"}:
        return Role.LINEAR  # of weights and inputs, each held as the other moves
    return Role.LINEAR if is_linear(flat, instruction) else Role.NONLINEAR


def weight_operand(flat: Flat, instruction: Instruction) -> int | None:
    """The position of the weight in its contraction with a value that depends on the input."""
    if instruction.primitive not in CONTRACTIONS:
        return None
    for position in (0, 1):
        weight, other = instruction.operands[position], instruction.operands[1 - position]
        if flat.is_weight(weight) and flat.sees_input[other]:
            return position
    return None


def keeps_lines(flat: Flat, instruction: Instruction, linear: Collection[int]) -> bool:
    """Whether the results are linear in alpha, given which of the values are."""
    if instruction.eqn.effects or not all(operand in linear for operand in instruction.operands):
        return False
    moving = [bool(flat.leaves[operand]) for operand in instruction.operands]
    if not any(moving) or instruction.primitive in EXACTLY_LINEAR:
        return True
    return sum(moving) == 1 and (
        instruction.primitive in PRODUCTS or (instruction.primitive == "div" and moving[0])
    )


def is_linear(flat: Flat, instruction: Instruction) -> bool:
    """Whether the results are linear in the activations among the operands, the others held."""
    moving = [bool(flat.leaves[x]) and flat.sees_input[x] for x in instruction.operands]
    match instruction.primitive:
        case name if name in LINEAR:
            return True
        case name if name in PRODUCTS:
            return sum(moving[:2]) == 1
        case "div":
            return moving[0] and not moving[1]
        case "select_n":
            return not moving[0]
        case name if name in INDEXED:
            return not any(
                moving_one
                for moving_one, operand in zip(moving, instruction.operands, strict=True)
                if not flat.moves(operand)
            )
    return False
