"""A network as a flat list of instructions: its jaxpr with every call entered and layers of a scan unrolled.

Values are numbered in the order in which they come to be. The same function of arguments of other batch sizes
gives the same list, so that what is found out about a network once can be said of it by numbers.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from llfc_jax.program.interpreter import called_jaxpr, evaluate, open_jaxpr
from llfc_jax.program.scans import scan_of
from llfc_jax.types import Array, PyTree

Values = dict[int, Array]
"""Number of a value -> the array."""

Evaluate = Callable[[JaxprEqn, Sequence[Array]], list[Array]]
"""An equation, its operands -> its results."""


class Instruction(NamedTuple):
    """One primitive applied to values."""

    eqn: JaxprEqn
    operands: tuple[int, ...]
    results: tuple[int, ...]
    scope: str = ""
    """The named scopes around it, such as Linen's modules, joined by slashes."""

    @property
    def primitive(self) -> str:
        """Its name."""
        return self.eqn.primitive.name


@dataclass
class Flat:
    """A function's instructions, and of each value what it depends on."""

    instructions: list[Instruction] = field(default_factory=list)
    avals: list[Any] = field(default_factory=list)
    """Value -> shape and dtype."""
    leaves: list[frozenset[int]] = field(default_factory=list)
    """Value -> the leaves of the variables that it depends on."""
    sees_input: list[bool] = field(default_factory=list)
    """Value -> whether it depends on the inputs."""
    constants: Values = field(default_factory=dict)
    module_of: list[int] = field(default_factory=list)
    """Leaf -> the first leaf of the same module, by their paths."""
    num_leaves: int = 0
    """Values 0 to num_leaves are the leaves of the variables."""
    num_arguments: int = 0
    """Values from num_leaves to num_arguments are the leaves of the inputs."""
    unrolled: list[tuple[JaxprEqn, tuple[range, ...]]] = field(default_factory=list)
    """Each scan over layers, and the values that each of its iterations has made, in their order."""
    outputs: tuple[int, ...] = ()
    structure: Any = None
    """Of the outputs."""

    def moves(self, value: int) -> bool:
        """Whether a value is an activation: a number that both the weights and the inputs decide."""
        return (
            bool(self.leaves[value])
            and self.sees_input[value]
            and jnp.issubdtype(self.avals[value].dtype, jnp.inexact)
        )

    def is_weight(self, value: int) -> bool:
        """Whether a value is made of weights alone."""
        return bool(self.leaves[value]) and not self.sees_input[value]


def flatten(fn: Callable[..., PyTree], variables: PyTree, inputs: Any) -> Flat:
    """Trace fn(variables, inputs) into a flat list.

    A `lax.scan` that consumes slices of weights, as one over layers does, is unrolled; one over time stays
    one instruction.
    """
    with jax.default_matmul_precision("highest"):  # it is written into the instructions
        jaxpr, output = jax.make_jaxpr(fn, return_shape=True)(variables, inputs)
    flat, num_leaves = Flat(), len(jax.tree.leaves(variables))
    for index, var in enumerate(open_jaxpr(jaxpr).invars):
        leaf = index < num_leaves
        _new_value(flat, var.aval, frozenset([index]) if leaf else frozenset(), not leaf)
    flat.num_leaves, flat.num_arguments = num_leaves, len(flat.avals)
    flat.module_of = _modules(variables)
    flat.outputs = tuple(_inline(flat, jaxpr, range(flat.num_arguments), ""))
    flat.structure = jax.tree.structure(output)
    return flat


def arguments(flat: Flat, variables: PyTree, inputs: Any) -> Values:
    """What is known before the first instruction."""
    leaves = (*jax.tree.leaves(variables), *jax.tree.leaves(inputs))
    known = {value: jnp.asarray(leaf, flat.avals[value].dtype) for value, leaf in enumerate(leaves)}
    return {**flat.constants, **known}


def run(
    flat: Flat,
    known: Mapping[int, Array],
    instructions: Iterable[int] | None = None,
    evaluate: Evaluate = evaluate,
) -> Values:
    """Evaluate instructions, by default all, on top of known values; those that are known are not evaluated.

    Returns:
        All values, known and new.
    """
    values = dict(known)
    for index in range(len(flat.instructions)) if instructions is None else instructions:
        instruction = flat.instructions[index]
        if not instruction.results or any(result not in values for result in instruction.results):
            operands = [values[operand] for operand in instruction.operands]
            found = evaluate(instruction.eqn, operands)
            values.update(
                (result, array)
                for result, array in zip(instruction.results, found, strict=True)
                if result not in values
            )
    return values


def signature(flat: Flat) -> str:
    """The same for traces of one network at all batch sizes."""
    told = [(one.primitive, one.operands, one.results) for one in flat.instructions]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def behind(flat: Flat, values: Iterable[int]) -> list[int]:
    """The instructions that values are made by, in order."""
    needed, found = set(values), []
    for index in reversed(range(len(flat.instructions))):
        if needed.intersection(flat.instructions[index].results):
            needed.update(flat.instructions[index].operands)
            found.append(index)
    return found[::-1]


def output(flat: Flat, values: Mapping[int, Array]) -> PyTree:
    """What the function returns."""
    return jax.tree.unflatten(flat.structure, [values[value] for value in flat.outputs])


def _modules(variables: PyTree) -> list[int]:
    """Leaf -> the first leaf beside it; at the root of the tree each stands for itself.

    NNX puts `.value` behind each leaf's own name.
    """
    first: dict[Any, int] = {}
    paths = [path for path, _ in jax.tree.leaves_with_path(variables)]
    boxed = jax.tree_util.GetAttrKey("value")
    paths = [path[:-1] if path[1:] and path[-1] == boxed else path for path in paths]
    return [first.setdefault(path[:-1] or path, index) for index, path in enumerate(paths)]


def _new_value(flat: Flat, aval: Any, leaves: frozenset[int], sees_input: bool) -> int:
    flat.avals.append(jax.ShapeDtypeStruct(aval.shape, aval.dtype))
    flat.leaves.append(leaves)
    flat.sees_input.append(sees_input)
    return len(flat.avals) - 1


def _constant(flat: Flat, array: Any) -> int:
    value = _new_value(flat, jax.typeof(array), frozenset(), sees_input=False)
    flat.constants[value] = array
    return value


def _inline(flat: Flat, jaxpr: ClosedJaxpr | Jaxpr, operands: Iterable[int], scope: str) -> list[int]:
    """Append the instructions of a jaxpr; returns its outputs."""
    body = open_jaxpr(jaxpr)
    known = dict(zip(body.invars, operands, strict=True))
    closed = zip(body.constvars, getattr(jaxpr, "consts", ()), strict=True)
    known.update((var, _constant(flat, array)) for var, array in closed)

    def read(atom: Any) -> int:
        return _constant(flat, atom.val) if isinstance(atom, Literal) else known[atom]

    for eqn in body.eqns:
        arguments, inner = [read(atom) for atom in eqn.invars], _scope(scope, eqn)
        if (called := called_jaxpr(eqn)) is not None:
            results = _inline(flat, called, arguments, inner)
        elif _scans_layers(flat, eqn, arguments):
            results = _unroll(flat, eqn, arguments, inner)
        else:
            results = _append(flat, eqn, arguments, inner)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in body.outvars]


def _append(flat: Flat, eqn: JaxprEqn, operands: Sequence[int], scope: str) -> list[int]:
    leaves = frozenset().union(*(flat.leaves[operand] for operand in operands))
    sees_input = any(flat.sees_input[operand] for operand in operands)
    results = [_new_value(flat, var.aval, leaves, sees_input) for var in eqn.outvars]
    flat.instructions.append(Instruction(eqn, tuple(operands), tuple(results), scope))
    return results


def _scope(outer: str, eqn: JaxprEqn) -> str:
    inner = str(eqn.source_info.name_stack)
    return "/".join(part for part in (outer, inner) if part)


def _scans_layers(flat: Flat, eqn: JaxprEqn, operands: Sequence[int]) -> bool:
    if eqn.primitive.name != "scan":
        return False
    _, _, taken_apart = scan_of(eqn).operands(operands)
    return any(flat.is_weight(operand) for operand in taken_apart)


def _unroll(flat: Flat, eqn: JaxprEqn, operands: Sequence[int], scope: str) -> list[int]:
    scan = scan_of(eqn)
    constants, carry, taken_apart = scan.operands(operands)
    steps, stacked = range(scan.length), []
    made: list[range] = []
    for step in reversed(steps) if scan.reverse else steps:
        start = len(flat.avals)
        taken = [
            _call(flat, partial(jax.lax.index_in_dim, index=step, keepdims=False), [x], f"{scope}/{step}")
            for x in taken_apart
        ]
        results = _inline(flat, scan.body, [*constants, *carry, *taken], f"{scope}/{step}")
        carry, returned = scan.results(results)
        stacked.append(returned)
        made.append(range(start, len(flat.avals)))
    if scan.reverse:
        stacked.reverse()
    flat.unrolled.append((eqn, tuple(made)))
    return [
        *carry,
        *(_call(flat, lambda *rows: jnp.stack(rows), rows, scope) for rows in zip(*stacked, strict=True)),
    ]


def _call(flat: Flat, fn: Callable[..., Array], operands: Sequence[int], scope: str) -> int:
    (result,) = _inline(flat, jax.make_jaxpr(fn)(*(flat.avals[x] for x in operands)), operands, scope)
    return result
