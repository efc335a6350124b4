"""What nodes are, and what they are called."""

import enum
from collections.abc import Collection

from llfc_jax.program.flat import Instruction
from llfc_jax.program.operations import CONTRACTIONS, ELEMENTWISE, STRUCTURAL


class Kind(enum.Enum):
    """What a node is, for the measures that look at some kinds alone."""

    CONTRACTION = "contraction"
    """A weight with a value that depends on the input, its bias included."""
    EMBEDDING = "embedding"
    """Rows of a weight."""
    NONLINEARITY = "nonlinearity"
    """Of each number of one activation."""
    NORMALIZATION = "normalization"
    """Of one activation, by statistics that are its own or that the network keeps."""
    ATTENTION = "attention"
    """Softmax."""
    POOLING = "pooling"
    SUM = "sum"
    """Of several activations."""
    PRODUCT = "product"
    """Of several activations: gates, queries with keys, attention with values."""
    CONCATENATION = "concatenation"
    SHIFT = "shift"
    """A weight added to an activation: linear in both at once."""
    AFFINE = "affine"
    """Weights multiplied with an activation, and perhaps added to it, unit by unit."""
    SELECTION = "selection"
    """Numbers left out, repeated, or padded with zeros."""
    COPY = "copy"
    """The same numbers in another form."""
    OTHER = "other"


MERGES = (Kind.SUM, Kind.PRODUCT, Kind.CONCATENATION)
"""Kinds that have several activations for inputs."""


def of_region(instructions: Collection[Instruction]) -> tuple[Kind, str]:
    """Of several instructions that are one function of one activation."""
    names = {instruction.primitive for instruction in instructions}
    reduces = names & {"reduce_sum", "reduce_window_sum", "reduce_max", "cumsum"}
    if "exp" in names and reduces:
        return Kind.ATTENTION, "softmax"
    if reduces and names & {"rsqrt", "sqrt", "div", "pow", "integer_pow"}:
        return Kind.NORMALIZATION, "norm"
    if reduces or (names & {"max"} and names <= {"max", *STRUCTURAL}):
        return Kind.POOLING, "pool"
    for mark, label in (
        ({"erf"}, "gelu"),
        ({"erfc"}, "gelu"),
        ({"tanh", "integer_pow"}, "gelu"),
        ({"logistic", "mul"}, "silu"),
        ({"log1p"}, "softplus"),
        ({"expm1"}, "elu"),
        ({"gt", "select_n"}, "relu"),
        ({"tanh"}, "tanh"),
    ):
        if mark <= names:
            return Kind.NONLINEARITY, label
    return (Kind.NONLINEARITY if names <= ELEMENTWISE | STRUCTURAL else Kind.OTHER), "nonlinearity"


def of_merge(instruction: Instruction) -> tuple[Kind, str]:
    """Of an instruction that takes several activations."""
    match instruction.primitive:
        case "add" | "sub" | "add_any":
            return Kind.SUM, "add"
        case "mul":
            return Kind.PRODUCT, "gate"
        case name if name in CONTRACTIONS:
            return Kind.PRODUCT, "product"
        case "concatenate":
            return Kind.CONCATENATION, "concat"
        case "max" | "min" | "select_n" | "pow" | "atan2" | "div":
            return Kind.NONLINEARITY, instruction.primitive
    return Kind.OTHER, instruction.primitive


def of_nonlinear(instruction: Instruction) -> tuple[Kind, str]:
    """Of an instruction that is not linear in its one activation."""
    match instruction.primitive:
        case "max":
            return Kind.NONLINEARITY, "relu"
        case "logistic":
            return Kind.NONLINEARITY, "sigmoid"
        case "reduce_max" | "reduce_window_max" | "reduce_min" | "reduce_window":
            return Kind.POOLING, "pool"
        case name if name in CONTRACTIONS:
            return Kind.PRODUCT, "product"
        case "mul":
            return Kind.NONLINEARITY, "square"
        case name if name in ELEMENTWISE:
            return Kind.NONLINEARITY, name
    return Kind.OTHER, instruction.primitive
