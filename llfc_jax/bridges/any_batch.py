"""A traced program for batches of any size, from its traces at a few.

A jaxpr is the program of one batch size. Where the traces at several sizes n differ in numbers alone (the
shape of a result, the divisor of a mean), and each is an affine function of n, they are one program: what two
traces say, a third one checks.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from llfc_jax.program.interpreter import evaluate, interpret
from llfc_jax.types import Array


class NotOneProgramError(Exception):
    """The traces differ in more than numbers that are affine in the batch size."""


class Affine(NamedTuple):
    """A number that follows the batch size: slope * n + offset."""

    slope: Any
    offset: Any


class Constant(NamedTuple):
    """An array that the program brings along."""

    value: Any
    dtype: Any


class Step(NamedTuple):
    """One operation: values are numbered, inputs first."""

    eqn: JaxprEqn
    """Of one of the traces."""
    params: dict[str, Any]
    """Its settings, in which numbers may be `Affine`."""
    operands: tuple[int | Constant, ...]
    first_result: int


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A program without calls; equal to itself alone, so that jit doesn't compile it again."""

    in_shapes: tuple[Any, ...]
    """Here and in `out_shapes` sizes may be `Affine`."""
    in_dtypes: tuple[Any, ...]
    steps: tuple[Step, ...]
    results: tuple[int | Constant, ...]
    out_shapes: tuple[Any, ...]

    def __call__(self, n: int, operands: Sequence[Array]) -> list[Array]:
        """The results for a batch of n."""
        return _run(self, n, list(operands))

    def only(self, results: Sequence[int]) -> "Program":
        """The part that computes some of the results."""
        kept = tuple(self.results[index] for index in results)
        needed, steps = set(kept), []
        for step in reversed(self.steps):
            if not needed.isdisjoint(_written(step)):
                steps.append(step)
                needed.update(operand for operand in step.operands if isinstance(operand, int))
        shapes = tuple(self.out_shapes[index] for index in results)
        return dataclasses.replace(self, steps=tuple(steps[::-1]), results=kept, out_shapes=shapes)


def one_size(trace: ClosedJaxpr) -> Program:
    """The program of the batch size at which it was traced."""
    return _numbered(_without_calls(trace))


def any_size(traces: Mapping[int, ClosedJaxpr]) -> Program:
    """The program of which all the traces are instances.

    Args:
        traces: batch size -> trace; three or more.

    Raises:
        NotOneProgramError: says where they differ.

    Example:
        >>> traces = {n: jax.make_jaxpr(lambda x: x.mean(0))(np.ones((n, 2))) for n in (3, 5, 7)}
        >>> any_size(traces)(4, [np.arange(8, dtype=np.float32).reshape(4, 2)])
        [Array([3., 4.], dtype=float32)]
    """
    return _join_programs([one_size(trace) for trace in traces.values()], list(traces))


@partial(jax.jit, static_argnums=(0, 1), inline=True)
def _run(program: Program, n: int, operands: list[Array]) -> list[Array]:
    values: dict[int, Any] = dict(enumerate(operands))

    def read(operand: int | Constant) -> Any:
        return values[operand] if isinstance(operand, int) else _constant_at(operand, n)

    for step in program.steps:
        eqn = step.eqn.replace(params=_at_context_precision(at(step.params, n)))
        values.update(zip(_written(step), evaluate(eqn, [*map(read, step.operands)]), strict=True))
    return [jax.numpy.asarray(read(result)) for result in program.results]


def at(value: Any, n: int) -> Any:
    """A setting of a program for a batch of n."""
    match value:
        case Affine(slope, offset):
            return slope * n + offset
        case Program():
            shapes = zip(at(value.in_shapes, n), value.in_dtypes, strict=True)
            operands = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
            return jax.make_jaxpr(lambda *operands: value(n, operands))(*operands)
        case dict():
            return {key: at(item, n) for key, item in value.items()}
        case tuple() | list():
            return _like(value, [at(item, n) for item in value])
    return value


def _constant_at(constant: Constant, n: int) -> Any:
    if isinstance(constant.value, Affine):
        return np.asarray(at(constant.value, n), constant.dtype)
    return constant.value


def _at_context_precision(params: dict[str, Any]) -> dict[str, Any]:
    """Products that the trace left at the default precision get the one of the caller's context."""
    precision = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009 (unknown to mypy)
    if precision is None or params.get("precision", "no such setting") is not None:
        return params
    return {**params, "precision": (jax.lax.Precision(precision),) * 2}


def _written(step: Step) -> range:
    return range(step.first_result, step.first_result + len(step.eqn.outvars))


def _without_calls(trace: ClosedJaxpr) -> ClosedJaxpr:
    """The same program with what it calls in its place."""

    def inlined(*operands: Array) -> list[Array]:
        return interpret(trace, operands, lambda constant: constant, evaluate)

    return jax.make_jaxpr(inlined)(*(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in trace.in_avals))


def _dtype_of(atom: Any) -> Any:
    return atom.aval.dtype


def _numbered(trace: ClosedJaxpr) -> Program:
    body = trace.jaxpr
    values: dict[Any, Any] = {var: index for index, var in enumerate(body.invars)}
    for var, constant in zip(body.constvars, trace.consts, strict=True):
        values[var] = Constant(constant, _dtype_of(var))

    def read(atom: Any) -> int | Constant:
        return Constant(atom.val, _dtype_of(atom)) if isinstance(atom, Literal) else values[atom]

    steps, count = [], len(body.invars)
    for eqn in body.eqns:
        steps.append(Step(eqn, eqn.params, tuple(map(read, eqn.invars)), count))
        values.update((var, count + index) for index, var in enumerate(eqn.outvars))
        count += len(eqn.outvars)
    return Program(
        in_shapes=tuple(aval.shape for aval in trace.in_avals),
        in_dtypes=tuple(aval.dtype for aval in trace.in_avals),
        steps=tuple(steps),
        results=tuple(map(read, body.outvars)),
        out_shapes=tuple(aval.shape for aval in trace.out_avals),
    )


def _join_programs(programs: Sequence[Program], sizes: Sequence[int]) -> Program:
    first = programs[0]
    if len({len(program.steps) for program in programs}) > 1:
        counts = ", ".join(str(len(program.steps)) for program in programs)
        raise NotOneProgramError(f"it takes {counts} operations for batches of {', '.join(map(str, sizes))}")
    steps = [
        _join_steps(steps, sizes) for steps in zip(*(program.steps for program in programs), strict=True)
    ]
    return Program(
        in_shapes=_join([program.in_shapes for program in programs], sizes),
        in_dtypes=first.in_dtypes,
        steps=tuple(steps),
        results=_join([program.results for program in programs], sizes),
        out_shapes=_join([program.out_shapes for program in programs], sizes),
    )


def _join_steps(steps: Sequence[Step], sizes: Sequence[int]) -> Step:
    first = steps[0]
    name = first.eqn.primitive.name
    if any(
        (step.eqn.primitive, step.first_result) != (first.eqn.primitive, first.first_result) for step in steps
    ):
        raise NotOneProgramError(f"not all of its sizes have the same operation where one has {name}")
    try:
        params, operands = (
            _join([getattr(step, part) for step in steps], sizes) for part in ("params", "operands")
        )
    except NotOneProgramError as error:
        raise NotOneProgramError(f"{name}: {error}") from error
    return first._replace(params=params, operands=operands)


def _join(values: Sequence[Any], sizes: Sequence[int]) -> Any:
    """What becomes each of the values at its size.

    Raises:
        NotOneProgramError: there is nothing affine that does.
    """
    first = values[0]
    if isinstance(first, ClosedJaxpr):
        if not first.consts and len({str(value) for value in values}) == 1:
            return first
        return _join_programs([one_size(value) for value in values], sizes)
    if isinstance(first, dict) and all(value.keys() == first.keys() for value in values):
        return {key: _join([value[key] for value in values], sizes) for key in first}
    if isinstance(first, tuple | list) and all(len(value) == len(first) for value in values):
        return _like(first, [_join(items, sizes) for items in zip(*values, strict=True)])
    if all(_same(value, first) for value in values):
        return first
    if all(_is_number(value) for value in values):
        return _fit(values, sizes)
    raise NotOneProgramError(f"no rule leads to {', '.join(_short(value) for value in values)}")


def _like(first: tuple | list, items: list[Any]) -> Any:
    return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        arrays = np.asarray(value), np.asarray(other)
        (shape, bits), (other_shape, other_bits) = ((array.shape, array.tobytes()) for array in arrays)
        return (shape, bits) == (other_shape, other_bits)
    return value is other or (type(value) is type(other) and (value == other or str(value) == str(other)))


def _is_number(value: Any) -> bool:
    kind = getattr(value, "dtype", np.dtype(type(value) if isinstance(value, int | float) else object)).kind
    return np.shape(value) == () and kind in "iuf"


def _fit(values: Sequence[Any], sizes: Sequence[int]) -> Affine:
    whole = all(float(value).is_integer() for value in values)
    numbers = [int(value) if whole else float(value) for value in values]
    rise, run = numbers[1] - numbers[0], sizes[1] - sizes[0]
    slope = rise // run if whole and rise % run == 0 else rise / run
    offset = numbers[0] - slope * sizes[0]
    for number, size in zip(numbers, sizes, strict=True):
        if not np.isclose(slope * size + offset, number, rtol=1e-6, atol=0):
            raise NotOneProgramError(
                f"{', '.join(map(str, numbers))} are no affine function of {', '.join(map(str, sizes))}"
            )
    return Affine(slope, offset)


def _short(value: Any) -> str:
    return f"an array {np.shape(value)}" if np.ndim(value) else str(value)[:40]
