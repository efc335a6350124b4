"""Values that are looked up, one position of an axis for each example: what experts make of who chose them.

The entries v[n, ...] of such a value are V[n, c[n], ...] of one that nobody computes, with an axis for the
experts, and c the positions that were looked up. What does with each n by itself what it does, does to v what
it does to V at each expert, as the body of a loop does to what it is given of each iteration: it may be told
of the units of every expert in their own order. To all else, which mixes examples that may have chosen
different experts, these have one order.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeAlias

from jax.extend.core import JaxprEqn

from llfc_jax.symmetry.factors import Axis
from llfc_jax.symmetry.known import (
    Among,
    Chosen,
    Coordinates,
    Direct,
    Itself,
    Known,
    Partial,
    Positions,
    axes_of,
    surroundings,
)
from llfc_jax.symmetry.rule import shape_of
from llfc_jax.symmetry.rules import ELEMENTWISE
from llfc_jax.symmetry.unification import settle, unify

Dimensions: TypeAlias = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]
"""Of a matrix product, on the left and on the right: what is summed over, and the batch."""


def taken_apart(
    eqn: JaxprEqn, operands: Sequence[Known], ambient: Axis
) -> tuple[Sequence[Direct], tuple[Among, ...]]:
    """The operands as a rule takes them, and what their results have one position of.

    States that units are alike where the operation mixes those of different experts.
    """
    chosen = [operand for operand in operands if isinstance(operand, Chosen)]
    if any(isinstance(operand, Positions | Coordinates) for operand in operands):
        among: tuple[Among, ...] = ()
    else:
        among = tuple(each_once(eqn, [*_in_groups(eqn, operands), *_kept(eqn, operands)]))
    for operand in chosen:  # an axis of which two positions are around is none that units may depend on
        settle(operand.axes, eqn, (*ambient, *surroundings(among)))
    axes_there_are = min((len(shape_of(result)) for result in eqn.outvars), default=0)
    left = tuple(one for one in among if all(place < axes_there_are for place in one.along))
    return [operand.axes if isinstance(operand, Chosen | Partial) else operand for operand in operands], left


def at_one_position(eqn: JaxprEqn, operands: Sequence[Known]) -> tuple[list[Known], tuple[Among, ...]]:
    """Operands without what they have one position of as a whole, which is as an iteration around them."""
    found: list[Known] = []
    whole: list[Among] = []
    for operand in operands:
        if isinstance(operand, Chosen):
            left = tuple(one for one in operand.among if one.along)
            whole += [one for one in operand.among if not one.along]
            operand = Chosen(operand.axes, left) if left else operand.axes
        found.append(operand)
    return found, tuple(each_once(eqn, whole))


def each_once(eqn: JaxprEqn, among: Iterable[Among]) -> Iterator[Among]:
    """By one source along the same axes, the position is the same, and of the same axis."""
    seen: dict[tuple[Hashable, tuple[int, ...]], Among] = {}
    for one in among:
        same = seen.setdefault((one.source, one.along), one)
        if same is one:
            yield one
        for first, second in zip(same.outer, one.outer, strict=True):
            unify(first, second, eqn)


def _kept(eqn: JaxprEqn, operands: Sequence[Known]) -> Iterator[Among]:
    """What was looked up for each example by itself, and still is."""
    for i, operand in enumerate(operands):
        for outer, source, along in operand.among if isinstance(operand, Chosen) else ():
            if (places := _places(eqn, i, along)) is not None:
                yield Among(outer, source, places)


def _in_groups(eqn: JaxprEqn, operands: Sequence[Known]) -> Iterator[Among]:
    """What a product of sorted examples with each group's weights looks up: by the sizes of the groups."""
    if eqn.primitive.name == "ragged_dot_general":
        numbers = eqn.params["ragged_dot_dimension_numbers"]
        places = _multiplied(eqn, numbers.dot_dimension_numbers, 0, tuple(numbers.lhs_ragged_dimensions))
        weights = axes_of(operands[1])
        outer = tuple(weights[i] for i in numbers.rhs_group_dimensions)
        yield Among(outer, Itself(operands[2]), places)


def _places(eqn: JaxprEqn, operand: int, along: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where in the results some axes of an operand are, if each position along them is read by itself.

    What is summed over is, before it is: as axes behind those of the results.
    """
    if not along:  # one position for the whole array
        return ()
    name, params, shape = eqn.primitive.name, eqn.params, shape_of(eqn.invars[operand])
    mixed: Iterable[int] = ()
    match name:
        case "broadcast_in_dim":
            new = params["broadcast_dimensions"]
            same = all(params["shape"][new[i]] == shape[i] for i in along)
            return tuple(new[i] for i in along) if same else None
        case "transpose":
            return tuple(params["permutation"].index(i) for i in along)
        case "reshape":
            return _reshaped(shape, params["new_sizes"], along) if params["dimensions"] is None else None
        case "dot_general":
            return _multiplied(eqn, params["dimension_numbers"], operand, along)
        case "ragged_dot_general" if operand == 0:
            numbers = params["ragged_dot_dimension_numbers"].dot_dimension_numbers
            return _multiplied(eqn, numbers, operand, along)
        case "squeeze":
            return (
                None if {*along} & {*params["dimensions"]} else _in_front(params["dimensions"], shape, along)
            )
        case "reduce_sum" | "reduce_prod" | "reduce_max" | "reduce_min" | "reduce_and" | "reduce_or":
            return _in_front(params["axes"], shape, along)
        case "concatenate":
            mixed = (params["dimension"],)
        case "split" | "cumsum" | "cumprod" | "cummax" | "cummin" | "cumlogsumexp":
            mixed = (params["axis"],)
        case "slice":
            mixed = (i for i, size in enumerate(shape_of(eqn.outvars[0])) if size != shape[i])
        case "pad":
            mixed = (i for i, around in enumerate(params["padding_config"]) if around != (0, 0, 0))
        case _ if name not in ELEMENTWISE or shape != shape_of(eqn.outvars[0]):
            return None
    return None if {*along} & {*mixed} else along


def _in_front(removed: Sequence[int], shape: Sequence[int], along: tuple[int, ...]) -> tuple[int, ...]:
    """Where axes are once those removed are behind all others."""
    order = [*(i for i in range(len(shape)) if i not in removed), *removed]
    return tuple(order.index(i) for i in along)


def _multiplied(eqn: JaxprEqn, numbers: Dimensions, operand: int, along: tuple[int, ...]) -> tuple[int, ...]:
    """Of a product's result the batch's axes come first, then the others of the left and the right side."""
    contracting, batch = numbers
    free = [
        [i for i in range(len(shape_of(atom))) if i not in (*summed, *shared)]
        for atom, summed, shared in zip(eqn.invars, contracting, batch, strict=False)
    ]
    places = {i: place for place, i in enumerate(batch[operand])}
    before = len(batch[0]) + (len(free[0]) if operand else 0)
    places |= {i: before + place for place, i in enumerate(free[operand])}
    behind = len(shape_of(eqn.outvars[0]))
    places |= {i: behind + place for place, i in enumerate(contracting[operand])}
    return tuple(places[i] for i in along)


def _reshaped(old: Sequence[int], new: Sequence[int], along: tuple[int, ...]) -> tuple[int, ...] | None:
    """The new axes that count what old ones did in the same order, side by side as these are."""
    first, last = along[0], along[-1]
    if along != (*range(first, last + 1),):
        return None
    start, count = math.prod(old[:first]), math.prod(old[first : last + 1])
    if count == 1:  # of axes of size 1 the order alone tells which is which
        return along if tuple(new[: last + 1]) == tuple(old[: last + 1]) else None
    found = [
        (*range(i, j),)
        for i in range(len(new))
        for j in range(i + 1, len(new) + 1)
        if math.prod(new[:i]) == start and math.prod(new[i:j]) == count
    ]
    return min(found, key=len, default=None)
