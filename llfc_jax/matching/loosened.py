"""Networks without some of their constraints: what a residual stream or a shared array holds together.

Alignment moves the units of B, but a constraint moves many of them alike: skip connections carry one basis
through all blocks, and an array that two layers read is one array. Of each such network there is a larger one
that computes the same, in which the map between two bases is an array of its own, applied at run time: an
identity matrix on each skip connection, a copy of the array for each reader. In the larger one B has more
symmetries. (Rotations of each block apart, with matrices on the skip connections: SliceGPT, Ashkboos et al.
2024, arXiv 2401.15024.)
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.program.flat import Flat, arguments, behind, flatten, output
from llfc_jax.program.interpreter import evaluate
from llfc_jax.symmetry import permutation_spec
from llfc_jax.symmetry.factors import expand
from llfc_jax.symmetry.values import named_axes
from llfc_jax.types import Array, PyTree, Variables

CONSTRAINTS: Mapping[str, str] = {
    "stream": "one basis along skip connections",
    "ties": "one array for all its readers",
}
"""What can be loosened, in the order in which it is added again, and what it says."""

_CONTRACTIONS = ("dot_general", "conv_general_dilated")
_CUTS = ("slice", "dynamic_slice", "split")


class Edge(NamedTuple):
    """Where an instruction reads what is free in the larger network.

    Attributes:
        constraint: of `CONSTRAINTS`.
        instruction: its index in the flat program.
        operand: which of its operands.
        axis: of that operand, along which a matrix acts; None where a copy takes its place.
    """

    constraint: str
    instruction: int
    operand: int
    axis: int | None = None

    @property
    def name(self) -> str:
        """Of the array that is free."""
        return f"{self.constraint} {self.instruction}.{self.operand}"


@dataclass(frozen=True)
class Loosened:
    """A network as one of a larger family.

    Attributes:
        whole: variables, inputs -> outputs, of the network.
        edges: where the larger one differs.
    """

    whole: Callable[[Variables, Any], PyTree]
    edges: tuple[Edge, ...]

    @property
    def constraints(self) -> tuple[str, ...]:
        """Those that are loosened, in the order in which they are added again."""
        return tuple(name for name in CONSTRAINTS if any(edge.constraint == name for edge in self.edges))

    def with_again(self, constraint: str) -> "Loosened":
        """The same where a constraint holds again."""
        return Loosened(self.whole, tuple(edge for edge in self.edges if edge.constraint != constraint))

    def variables(self, variables: Variables, inputs: Any) -> Variables:
        """The network's, with what is free as it is in the network."""
        flat, leaves = _flat(self.whole, variables, inputs), jax.tree.leaves(variables)

        def as_it_is(edge: Edge) -> Array:
            value = flat.instructions[edge.instruction].operands[edge.operand]
            if edge.axis is None:
                return jnp.asarray(leaves[value])
            return jnp.eye(flat.avals[value].shape[edge.axis], dtype=flat.avals[value].dtype)

        return {"network": variables, "free": {edge.name: as_it_is(edge) for edge in self.edges}}

    def apply(self, variables: Variables, inputs: Any) -> PyTree:
        """The larger network: variables as `variables` has them, inputs -> outputs."""
        flat = _flat(self.whole, variables["network"], inputs)
        values = arguments(flat, variables["network"], inputs)
        for index, instruction in enumerate(flat.instructions):
            operands = [values[operand] for operand in instruction.operands]
            for edge in self.edges:
                if edge.instruction == index:
                    free = variables["free"][edge.name]
                    operands[edge.operand] = _read(edge, operands[edge.operand], free)
            values.update(zip(instruction.results, evaluate(instruction.eqn, operands), strict=True))
        return output(flat, values)


def loosened(
    apply: Callable[[Variables, Any], PyTree],
    variables: Variables,
    inputs: Any,
) -> Loosened:
    """A network without those of `CONSTRAINTS` that it has.

    Args:
        apply: variables, inputs -> outputs; traced, not run.
        variables: of the network.
        inputs: one batch of the same.

    Example:
        >>> def tied(weights, x):
        ...     x = x @ weights["in"]
        ...     return (x + jnp.tanh(x @ weights["read"]) @ weights["write"]) @ weights["in"].T
        >>> weights = {"in": jnp.ones((5, 8)), "read": jnp.ones((8, 9)), "write": jnp.ones((9, 8))}
        >>> loosened(tied, weights, jnp.ones((2, 5))).constraints
        ('stream', 'ties')
    """
    variables, inputs = _shapes(variables), _shapes(inputs)
    flat = flatten(apply, variables, inputs)
    axes, names, _ = named_axes(flat, variables, permutation_spec(apply, variables, inputs))
    moved = [[i for i, own in enumerate(of) if any(names.get(f) for f in expand(own))] for of in axes]
    units = {value: own[0] for value, own in enumerate(moved) if len(own) == 1}
    return Loosened(apply, (*_skips(flat, units), *_readers(flat)))


def _flat(apply: Callable[[Variables, Any], PyTree], variables: Variables, inputs: Any) -> Flat:
    """The same program for all variables and inputs: of weak types, another number of conversions is made."""
    return flatten(apply, _shapes(variables), _shapes(inputs))


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)


def _read(edge: Edge, operand: Array, free: Array) -> Array:
    """What an instruction reads in the larger network."""
    if edge.axis is None:
        return free
    mapped = jnp.tensordot(operand, free, (edge.axis, 0), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(mapped, -1, edge.axis)


def _skips(flat: Flat, units: Mapping[int, int]) -> Iterator[Edge]:
    """What sums read beside something that layers have made of it."""
    for index, instruction in enumerate(flat.instructions):
        if instruction.primitive not in ("add", "add_any"):
            continue
        for operand, own in enumerate(instruction.operands):
            if own in units and flat.moves(own) and _layers(flat, own, instruction.operands[1 - operand]):
                yield Edge("stream", index, operand, units[own])


def _layers(flat: Flat, first: int, last: int) -> bool:
    """Whether one value is made of another by contractions with weights, among others."""
    reached, found = {first}, False
    for instruction in (flat.instructions[i] for i in behind(flat, [last])):
        if not reached.isdisjoint(instruction.operands):
            reached.update(instruction.results)
            found |= instruction.primitive in _CONTRACTIONS
    return found


def _readers(flat: Flat) -> Iterator[Edge]:
    """All readers of an array but its first, unless they cut a part out of it."""
    seen = set()
    for index, instruction in enumerate(flat.instructions):
        if instruction.primitive in _CUTS:
            continue
        for operand, value in enumerate(instruction.operands):
            if value < flat.num_leaves and jnp.issubdtype(flat.avals[value].dtype, jnp.inexact):
                if value in seen:
                    yield Edge("ties", index, operand)
                seen.add(value)
