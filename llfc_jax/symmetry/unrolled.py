"""Loops that Python has run: parts of a program that differ in nothing but a position along some axes.

A sum over experts, `sum(gate[:, e] * expert(up[e], down[e], x) for e in range(n))`, is a program of n parts
that are alike; so are heads that are computed one by one and concatenated. Each part is what the body of a
loop over e makes of position e, and nobody but the sum or the concatenation sees a part. So the parts are
told once, of one position of the axis that e counts (`chosen.py`): all orders of it are alike to a sum, and a
concatenation has it in front of its axis.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jax.extend.core import JaxprEqn

from llfc_jax.program.flat import Instruction
from llfc_jax.symmetry.factors import Axis, new_axis
from llfc_jax.symmetry.steps import SUMS, Program, parameters

Together: TypeAlias = tuple[int, ...]
"""What is one value, or one step, of the loop's body: of each part, in the order of positions."""


@dataclass(eq=False)
class Loop:
    """A loop over all positions of an axis.

    Attributes:
        size: number of parts.
        steps: of all parts.
        taken: steps that take a position of an array -> the dimension.
        counted: steps and which of their operands is the position itself.
        exits: steps that see more than one part.
        arrays: arrays of the model, one of each part.
        axis: what is counted.
    """

    size: int
    steps: set[Together]
    taken: dict[Together, int]
    counted: set[tuple[Together, int]]
    exits: set[int]
    arrays: set[Together]
    axis: Axis = ()

    def __post_init__(self) -> None:
        self.axis = new_axis(self.size)

    @property
    def inside(self) -> set[int]:
        """The steps of all parts."""
        return {i for own in self.steps for i in own}


class Sum(NamedTuple):
    """A step of a sum of many terms.

    Attributes:
        read: which of its operands are sums so far, or terms that stand for others.
        whole: whether it is the last.
        loops: whose parts are summed.
    """

    read: tuple[int, ...]
    whole: bool
    loops: frozenset[Loop]


@dataclass(frozen=True)
class Plan:
    """What is known of the steps of a program, by their numbers.

    Attributes:
        again: steps whose results are those of an earlier one.
        taken: steps that take a position: the loops and dimensions.
        counted: step and operand -> the loop whose position it is.
        sums: steps of sums of parts.
        joined: concatenations of parts.
        inside: step -> the loops that it is in, and its position in each.
    """

    again: Mapping[int, int] = field(default_factory=dict)
    taken: Mapping[int, Sequence[tuple[Loop, int]]] = field(default_factory=dict)
    counted: Mapping[tuple[int, int], Loop] = field(default_factory=dict)
    sums: Mapping[int, Sum] = field(default_factory=dict)
    joined: Mapping[int, Loop] = field(default_factory=dict)
    inside: Mapping[int, Mapping[Loop, int]] = field(default_factory=dict)

    def first(self, step: int) -> int:
        """The step that stands for another."""
        return _first(self.again, step)

    def parts(self, step: int) -> tuple[tuple[int, ...], tuple[Loop, ...]]:
        """The steps that one stands for, in the order of their loops' positions, and the loops."""
        loops = tuple(self.inside.get(step, ()))
        own = [i for i in self.inside if self.first(i) == step] or [step]
        return tuple(sorted(own, key=lambda i: [self.inside[i][loop] for loop in loops])), loops


def _first(again: Mapping[int, int], step: int) -> int:
    while step in again:
        step = again[step]
    return step


def plan(
    steps: Sequence[Instruction],
    constants: Mapping[int, Any],
    outputs: Iterable[int],
    is_loop: Callable[[Loop], bool] = lambda loop: True,
) -> Plan:
    """Finds the loops of a program, those that `is_loop` says are some."""
    program = Program(steps, constants, {*outputs})
    return _planned(program, _accepted(program, filter(is_loop, _merged(_found(program)))))


def exchangeable(
    steps: Sequence[Instruction],
    constants: Mapping[int, Any],
    outputs: Iterable[int],
    leaves: Mapping[int, Any],
) -> list[list[Together]]:
    """Arrays that a sum's terms read alike, each its own: exchanged as wholes, they would be the same sum.

    Args:
        steps: of a program.
        constants: the same.
        outputs: the same.
        leaves: the model's arrays: value -> equal for those that may be exchanged.
    """
    program = Program(steps, constants, {*outputs}, leaves)
    found = []
    for loop in _accepted(program, filter(lambda loop: loop.arrays, _merged(_found(program)))):
        inside = loop.inside
        arrays = {value for own in loop.arrays for value in own}
        made = {value for i in inside for value in program.steps[i].results}
        beside = {value for i in inside for value in program.steps[i].operands} - made - arrays
        readers = {i for value in arrays for i in program.readers.get(value, ())}
        # Of parts that see nothing else, such as biases that are added up, there is nothing to tell.
        if beside - {*constants} and readers <= inside and all(program.name(i) in SUMS for i in loop.exits):
            found.append(sorted(loop.arrays))
    return found


def _kinds(program: Program) -> dict[int, int]:
    """The same number for values that may be the same value of the body of a loop."""
    numbers: dict[Any, int] = {}
    kinds: dict[int, int] = {}

    def kind(value: int) -> int:
        if value not in kinds:
            number = program.scalar(value)
            told = ("value", program.identity(value)) if number is None else ("scalar", type(number))
            told = program.leaves.get(value, told)
            kinds[value] = numbers.setdefault(told, len(numbers))
        return kinds[value]

    for step in program.steps:
        told = (step.primitive, parameters(step.eqn), *map(kind, step.operands))
        for place, value in enumerate(step.results):
            own = (*told, 0 if _parts_alike(step.eqn) else place)
            kinds[value] = numbers.setdefault(own, len(numbers))
    return kinds


def _parts_alike(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name == "split" and len({*eqn.params["sizes"]}) == 1


def _found(program: Program) -> Iterator[Loop]:
    """The loops behind each sum and each concatenation."""
    kinds = _kinds(program)
    for i, step in enumerate(program.steps):
        name, made = program.name(i), step.results[0] if step.results else None
        if name in SUMS and made is not None and not program.is_partial(made):
            steps, terms = program.sum_of(i)
            alike: dict[int, list[int]] = {}
            for term in terms:
                alike.setdefault(kinds.get(term, -1), []).append(term)
            for kind, own in alike.items():
                if kind >= 0 and len(own) > 1 and (loop := _matched(program, own)) is not None:
                    loop.exits |= steps
                    yield loop
        elif name == "concatenate" and len(step.operands) > 1:
            alike_all = len({kinds.get(value, -1) for value in step.operands}) == 1
            if alike_all and (loop := _matched(program, step.operands, ordered=True)) is not None:
                loop.exits.add(i)
                yield loop


def _matched(program: Program, values: Sequence[int], *, ordered: bool = False) -> Loop | None:
    """Values as one value of each part of a loop, if they are; in the order of parts, if so asked."""
    order: tuple[int, ...] | None = tuple(range(len(values))) if ordered else None
    steps: set[Together] = set()
    taken: dict[Together, int] = {}
    counted: set[tuple[Together, int]] = set()
    arrays: set[Together] = set()
    stack, seen = [tuple(values)], set[tuple[int, ...]]()
    while stack:
        own = stack.pop()
        if own in seen or len({program.identity(value) for value in own}) == 1:
            continue
        seen.add(own)
        if len({program.identity(value) for value in own}) < len(own):
            return None
        if program.leaves.keys() >= {*own} and len({program.leaves[value] for value in own}) == 1:
            arrays.add(own)
            continue
        if not program.made_by.keys() >= {*own}:
            return None
        found, places = zip(*(program.made_by[value] for value in own), strict=True)
        eqns = [program.steps[i].eqn for i in found]
        positions: tuple[int, ...] | None = None
        if len({*found}) == 1:
            if not _parts_alike(eqns[0]) or len(eqns[0].outvars) != len(own):
                return None
            positions, taken[found] = places, eqns[0].params["axis"]
        elif len({*found}) < len(own) or len({*places}) > 1:
            return None
        elif len({(eqn.primitive, parameters(eqn, whole=True)) for eqn in eqns}) > 1:
            cut = _cut(program, [program.steps[i] for i in found])
            if cut is None:
                return None
            positions, taken[found] = cut
        else:
            for j, operands in enumerate(zip(*(program.steps[i].operands for i in found), strict=True)):
                numbers = [program.scalar(value) for value in operands]
                if all(isinstance(number, int) for number in numbers) and len({*numbers}) > 1:
                    counted.add((found, j))
                    positions = tuple(numbers) if positions in (None, tuple(numbers)) else ()
                else:
                    stack.append(operands)
        steps.add(found)
        if positions is not None:
            order = order or positions
            if positions != order or sorted(positions) != [*range(len(own))]:
                return None
    if not (taken or counted or arrays):
        return None
    order = order or tuple(range(len(values)))
    by_position = np.argsort(order).tolist()

    def sort(own: Together) -> Together:
        return tuple(own[i] for i in by_position)

    return Loop(
        len(values),
        {*map(sort, steps)},
        {sort(own): dimension for own, dimension in taken.items()},
        {(sort(own), j) for own, j in counted},
        set(),
        {*map(sort, arrays)},
    )


def _cut(program: Program, steps: Sequence[Instruction]) -> tuple[tuple[int, ...], int] | None:
    """Which part of one array each of some slices is, and along which dimension, if they share it out."""
    eqns = [step.eqn for step in steps]
    one_array = len({program.identity(step.operands[0]) for step in steps}) == 1
    if not one_array or any(eqn.primitive.name != "slice" or _steps(eqn) != {1} for eqn in eqns):
        return None
    shape: tuple[int, ...] = eqns[0].invars[0].aval.shape  # type: ignore[attr-defined]
    starts = np.array([eqn.params["start_indices"] for eqn in eqns])
    sizes = np.subtract(eqns[0].params["limit_indices"], starts[0])
    differing = np.flatnonzero(np.ptp(starts, axis=0))
    if len(differing) != 1:
        return None
    dimension = int(differing[0])
    positions, rest = np.divmod(starts[:, dimension], sizes[dimension])
    if rest.any() or shape[dimension] != len(steps) * sizes[dimension]:
        return None
    return tuple(positions.tolist()), dimension


def _steps(eqn: JaxprEqn) -> set[int]:
    return {*(eqn.params["strides"] or (1,))}


def _merged(loops: Iterable[Loop]) -> list[Loop]:
    """As few loops as there are: of two that share steps, the parts are the same."""
    found: list[Loop] = []
    for loop in loops:
        same = [other for other in found if other.steps & loop.steps]
        for other in same:
            found.remove(other)
            loop.steps |= other.steps
            loop.taken |= other.taken
            loop.counted |= other.counted
            loop.exits |= other.exits
            loop.arrays |= other.arrays
        found.append(loop)
    return found


def _accepted(program: Program, loops: Iterable[Loop]) -> Iterator[Loop]:
    """Those of whose parts nothing is read but within, and at exits."""
    for loop in loops:
        inside = loop.inside
        made = {value for i in inside for value in program.steps[i].results}
        readers = {i for value in made for i in program.readers.get(value, ())}
        if not made & program.outputs and readers <= inside | loop.exits:
            yield loop


def _planned(program: Program, loops: Iterable[Loop]) -> Plan:
    again: dict[int, int] = {}
    within: dict[int, list[tuple[Loop, Together]]] = {}
    taken: dict[int, list[tuple[Loop, int]]] = {}
    counted: dict[tuple[int, int], Loop] = {}
    sums: dict[int, Sum] = {}
    joined: dict[int, Loop] = {}
    ends: dict[int, set[Loop]] = {}

    for loop in loops:
        shown = {own: {_first(again, i) for i in own} for own in loop.steps}
        if any(len(steps) != len({*own}) for own, steps in shown.items()):
            continue  # two loops that are not one within the other
        for own in loop.steps:
            again |= {i: min(own) for i in own if i != min(own) and i not in again}
            for i in {*own}:
                within.setdefault(i, []).append((loop, own))
        for own, dimension in loop.taken.items():
            taken.setdefault(min(own), []).append((loop, dimension))
        counted |= {(min(own), j): loop for own, j in loop.counted}
        joined |= {i: loop for i in loop.exits if program.name(i) == "concatenate"}
        for i in loop.exits:
            if program.name(i) in SUMS:
                ends.setdefault(i, set()).add(loop)
    for i, loops_there in ends.items():
        operands = program.steps[i].operands
        made = [program.made_by.get(value, (-1, 0))[0] for value in operands]
        read = tuple(j for j, step in enumerate(made) if step not in again)
        whole = not program.is_partial(program.steps[i].results[0])
        sums[i] = Sum(read, whole, frozenset(loops_there))

    def positions(step: int) -> dict[Loop, int]:
        """Of a part of a part, those that the steps which stand for it know."""
        found: dict[Loop, int] = {}
        for loop, together in within.get(step, ()):
            found[loop] = together.index(step)
            if step != together[0]:
                found |= {other: at for other, at in positions(together[0]).items() if other is not loop}
        return found

    return Plan(again, taken, counted, sums, joined, {step: positions(step) for step in within})
