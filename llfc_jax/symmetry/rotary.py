"""Rotary positions: what turns pairs of units by angles, whatever operations it is written in.

Seen as complex numbers, pairs of queries are multiplied by exp(i p theta_k) at position p (Su et al. 2021,
arXiv 2104.09864). That commutes with multiplying each pair k by any complex number c_k of its own, the same
at all positions. No operation inside does: x1 cos - x2 sin alone has lost what c x needs. So the whole is
taken for one operation of a program, found by what it does: it is linear, made of sums, movements, products
with what no weight has a say in; every unit of its result is made of two of its operand's; and numbers drawn
at random for all c_k commute with it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive

from llfc_jax.program.flat import Flat, Instruction, Values, behind, run
from llfc_jax.symmetry.factors import Axes, new_axis
from llfc_jax.symmetry.rule import shape_of

Pairs: TypeAlias = tuple[tuple[int, int], ...]
"""Which positions along an axis are the real and the imaginary part of one number."""

_MOVING = (
    *(
        "add",
        "add_any",
        "broadcast_in_dim",
        "complex",
        "concatenate",
        "convert_element_type",
        "copy",
        "copy_p",
    ),
    *("gather", "imag", "neg", "pad", "real", "reshape", "rev", "select_n", "slice", "split", "squeeze"),
    *("sub", "transpose"),
)
"""Operations that are linear in all that they read."""
_PRODUCTS = ("div", "dot_general", "mul")
_TOLERANCE = 1e-4
"""Of what commutes, relative; for short formats a few of their digits."""

enter_p, leave_p = Primitive("rotary_enter"), Primitive("rotary_leave")
"""x -> x: all that is inside reads the result; x, what has been made of it inside -> the latter."""
enter_p.def_abstract_eval(lambda x, *, axis: x)
leave_p.def_abstract_eval(lambda x, inside, *, axis, pairs: inside)


class _Turn(NamedTuple):
    """Instructions between two values of one shape that commute with complex numbers."""

    first: int
    last: int
    inside: tuple[int, ...]
    axis: int
    pairs: Pairs


def enter(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Inside, units are no longer told apart: they are held fixed."""
    axis = eqn.params["axis"]
    (axes,) = operands
    return [(*axes[:axis], new_axis(shape_of(eqn.invars[0])[axis], fixed=eqn), *axes[axis + 1 :])]


def leave(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Behind it, they are the units that went in."""
    axis = eqn.params["axis"]
    before, inside = operands
    return [(*inside[:axis], before[axis], *inside[axis + 1 :])]


def with_rotary(flat: Flat) -> Flat:
    """The same program, with what turns pairs of units between `rotary_enter` and `rotary_leave`."""
    turns = _turns(flat)
    if not turns:
        return flat
    found = dataclasses.replace(
        flat, avals=[*flat.avals], leaves=[*flat.leaves], sees_input=[*flat.sees_input]
    )
    begins = {turn.inside[0]: turn for turn in turns}
    ends = {turn.inside[-1]: turn for turn in turns}
    renamed: dict[int, dict[int, int]] = {}  # instruction -> value -> what is read or made instead
    instructions: list[Instruction] = []
    for index, instruction in enumerate(flat.instructions):
        if (turn := begins.get(index)) is not None:
            entered, left = (_like(found, turn.first), _like(found, turn.last))
            renamed |= {i: {turn.first: entered, turn.last: left} for i in turn.inside}
            instructions.append(_marker(found, partial(enter_p.bind, axis=turn.axis), (turn.first,), entered))
        own = renamed.get(index, {})
        operands, results = (
            tuple(own.get(value, value) for value in values)
            for values in (instruction.operands, instruction.results)
        )
        instructions.append(instruction._replace(operands=operands, results=results))
        if (turn := ends.get(index)) is not None:
            left = renamed[index][turn.last]
            bind = partial(leave_p.bind, axis=turn.axis, pairs=turn.pairs)
            instructions.append(_marker(found, bind, (turn.first, left), turn.last))
    found.instructions = instructions
    return found


def _like(flat: Flat, value: int) -> int:
    """Another value of the same kind."""
    flat.avals.append(flat.avals[value])
    flat.leaves.append(flat.leaves[value])
    flat.sees_input.append(flat.sees_input[value])
    return len(flat.avals) - 1


def _marker(flat: Flat, bind: Any, operands: tuple[int, ...], result: int) -> Instruction:
    (eqn,) = jax.make_jaxpr(bind)(*(flat.avals[value] for value in operands)).eqns
    return Instruction(eqn, operands, (result,), "")


def _turns(flat: Flat) -> list[_Turn]:
    """The parts that turn pairs; of several that begin alike, the one that ends last; none inside another."""
    made_by = {value: i for i, one in enumerate(flat.instructions) for value in one.results}
    read_by: dict[int, list[int]] = {}
    for i, one in enumerate(flat.instructions):
        for value in one.operands:
            read_by.setdefault(value, []).append(i)
    found: dict[int, _Turn] = {}
    for instruction in flat.instructions:
        if len({value for value in instruction.operands if flat.moves(value)}) < 2:
            continue
        for last in _ends(flat, instruction.results[0], read_by):
            first, inside = _linear_part(flat, last, made_by) or (last, ())
            own = {value for i in inside for value in flat.instructions[i].results} - {last}
            closed = own.isdisjoint(flat.outputs) and all(
                i in inside for value in own for i in read_by[value]
            )
            turn = _turned(flat, first, last, inside) if inside and closed else None
            if turn is not None:
                found[first] = turn
            if turn is not None and len(turn.pairs) > 1:
                break
    covered = {i: turn for turn in found.values() for i in turn.inside[:-1]}
    return [turn for turn in found.values() if covered.get(turn.inside[-1]) in (None, turn)]


def _ends(flat: Flat, value: int, read_by: Mapping[int, Sequence[int]]) -> Iterator[int]:
    """A value, and the same numbers in other shapes."""
    yield value
    readers = read_by.get(value, ())
    if len(readers) == 1 and flat.instructions[readers[0]].primitive in ("reshape", "squeeze"):
        yield from _ends(flat, flat.instructions[readers[0]].results[0], read_by)


def _linear_part(flat: Flat, last: int, made_by: Mapping[int, int]) -> tuple[int, tuple[int, ...]] | None:
    """The nearest value of the same shape that one is made of alone, linearly, and the way."""
    open_, inside = {last}, set[int]()
    while open_:
        newest = max(open_)
        if len(open_) == 1 and len(inside) > 1 and flat.avals[newest].shape == flat.avals[last].shape:
            return newest, tuple(sorted(inside))
        index = made_by.get(newest)
        if index is None or not _is_linear(flat, flat.instructions[index]):
            return None
        inside.add(index)
        open_.difference_update(flat.instructions[index].results)
        open_.update(value for value in flat.instructions[index].operands if flat.moves(value))
    return None


def _is_linear(flat: Flat, instruction: Instruction) -> bool:
    """Whether an operation is linear in what moves of it, and no weight has another say."""
    operands = instruction.operands
    moving = [flat.moves(value) for value in operands]
    if any(flat.leaves[value] for value, own in zip(operands, moving, strict=True) if not own):
        return False
    if instruction.primitive in _PRODUCTS:
        return sum(moving) == 1 and (moving[0] or instruction.primitive != "div")
    return instruction.primitive in _MOVING


def _turned(flat: Flat, first: int, last: int, inside: tuple[int, ...]) -> _Turn | None:
    """The part as what turns pairs along one axis, if it does."""
    known = _coefficients(flat, inside)
    if known is None:
        return None
    shape = flat.avals[first].shape
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=shape)

    def image(x: np.ndarray) -> np.ndarray:
        entered = jnp.asarray(x, flat.avals[first].dtype)
        return np.asarray(run(flat, known | {first: entered}, inside)[last], np.float64)

    rounding = max(float(jnp.finfo(flat.avals[value].dtype).eps) for value in (first, last))
    tolerance = max(_TOLERANCE, 8 * rounding)
    for axis in reversed(range(len(shape))):
        along = np.moveaxis(drawn, axis, -1)

        def whole(x: np.ndarray, axis: int = axis) -> np.ndarray:
            return np.moveaxis(image(np.moveaxis(x, -1, axis)), axis, -1)

        pairs = _pairs(whole, along) if shape[axis] > 1 and shape[axis] % 2 == 0 else None
        if pairs is not None:
            real, imaginary = rng.normal(size=(2, len(pairs)))
            expected = times(whole(along), real, imaginary, pairs)
            error = np.abs(whole(times(along, real, imaginary, pairs)) - expected).max()
            if error <= tolerance * np.abs(expected).max():
                return _Turn(first, last, inside, axis, pairs)
    return None


def times(x: np.ndarray, real: np.ndarray, imaginary: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Pairs of an array's last axis multiplied as complex numbers."""
    i, j = np.transpose(pairs)
    found = np.empty_like(x)
    found[..., i] = real * x[..., i] - imaginary * x[..., j]
    found[..., j] = imaginary * x[..., i] + real * x[..., j]
    return found


def _pairs(image: Any, x: np.ndarray) -> Pairs | None:
    """Which two positions each is made of, if it is: itself and another, told by the bits of its number."""
    positions = np.arange(x.shape[-1])
    other = np.zeros_like(positions)
    for bit in range(len(positions).bit_length()):
        has = positions >> bit & 1
        made_of = [np.any(image(x * mask) != 0, axis=tuple(range(x.ndim - 1))) for mask in (has, 1 - has)]
        other |= np.where(made_of[0] & made_of[1], 1 - has, has) << bit
    alone = (other == positions).any() or (other >= len(positions)).any()
    if alone or (other[other] != positions).any():
        return None
    return tuple((int(i), int(j)) for i, j in enumerate(other) if i < j)


def _coefficients(flat: Flat, inside: Sequence[int]) -> Values | None:
    """What the part reads beside what moves: constants, and numbers drawn where inputs have a say."""
    beside = {v for i in inside for v in flat.instructions[i].operands if not flat.moves(v)}
    needed = behind(flat, beside)
    read = beside | {v for i in needed for v in flat.instructions[i].operands}
    known = dict(flat.constants)
    rng = np.random.default_rng(1)
    for value in (v for v in read if flat.num_leaves <= v < flat.num_arguments):
        aval = flat.avals[value]
        if not (jnp.issubdtype(aval.dtype, jnp.integer) or jnp.issubdtype(aval.dtype, jnp.floating)):
            return None
        drawn = rng.integers(0, 16, aval.shape) if aval.dtype.kind in "iu" else rng.normal(size=aval.shape)
        known[value] = jnp.asarray(drawn, aval.dtype)
    return run(flat, known, needed)


def paired(flat: Flat) -> Iterator[tuple[int, int, Pairs]]:
    """Each value behind rotary positions, the axis that they turned, and its pairs."""
    for instruction in flat.instructions:
        if instruction.eqn.primitive is leave_p:
            params = instruction.eqn.params
            yield instruction.results[0], params["axis"], params["pairs"]
