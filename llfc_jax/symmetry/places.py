"""Where groups of units are on the values of a program: along which axis, and in which parts of it.

A matrix that makes queries and keys has the same units twice along one axis. A map may act in other ways on
the two, so they are two places. Which is which after values are cut or joined is told by positions. So it is
with arrays that are stacked: those of scanned layers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from llfc_jax.program.flat import Flat, Instruction
from llfc_jax.symmetry.cutting import refine
from llfc_jax.symmetry.exponents import Key
from llfc_jax.symmetry.factors import Axes, Axis, Cases, Factor, Sum, expand, is_fixed, nodes
from llfc_jax.symmetry.reading import Block, blocks

Point: TypeAlias = tuple[int, ...]
"""A position along each axis."""


@dataclass
class Places:
    """The groups on the values of a program.

    Attributes:
        flat: the program.
        axes: of each value.
        names: of each class of units; None if it has none.
    """

    flat: Flat
    axes: Sequence[Axes]
    names: Mapping[Factor, str | None]
    _stacks: set[int] = field(default_factory=set)
    _parts: dict[frozenset[tuple[Factor, int]], int] = field(default_factory=lambda: {frozenset(): 0})
    _blocks: dict[int, list[tuple[Block, list[Key]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Takes stacks apart."""
        for value in range(self.flat.num_leaves):
            copies = _copies(self.flat, value)
            for axis, labels in _slices(self.flat, copies):
                if is_fixed(self.axes[value][axis]):
                    refine(self.axes[value][axis], labels, "a stack")
                    self._stacks |= copies

    def keys(self) -> dict[int, list[Key]]:
        """Value -> where groups are on it, axis by axis."""
        return {value: self._keys(value) for value in range(len(self.axes))}

    def blocks(self, value: int) -> list[tuple[Block, list[Key]]]:
        """The parts of a value none of whose axes is a sum, and the groups on each."""
        if value not in self._blocks:
            found = blocks(self.axes[value], self.flat.avals[value].shape)
            repeated = self._repeated(value)
            sums = [_sums(axis) for axis in self.axes[value]]
            self._blocks[value] = [(block, [*self._on(value, block, sums, repeated)]) for block in found]
        return self._blocks[value]

    def at(self, value: int, point: Point) -> list[Key]:
        """The groups at a point of a value."""
        for block, keys in self.blocks(value):
            if all(i in own for i, own in zip(point, block.positions, strict=True)):
                return keys
        raise ValueError(f"expected a point within {self.flat.avals[value].shape}, found {point}")

    def before(self, instruction: Instruction, operand: int, result: int) -> Iterator[tuple[Key, Key]]:
        """Where what one operand has of each group is on one result, told by positions: pairs, old and new.

        Args:
            instruction: one of `MOVING`.
            operand: which.
            result: which.
        """
        old, new = instruction.operands[operand], instruction.results[result]
        for block, keys in self.blocks(new):
            for end in (0, -1):
                point = tuple(int(own[end]) for own in block.positions)
                source = _source(self.flat, instruction, operand, result, point)
                for here in self.at(old, source) if source is not None else ():
                    yield from ((here, key) for key in keys if key.group == here.group)

    def lost(self, instruction: Instruction, operand: int, result: int) -> Iterator[Key]:
        """What an operand has where a result's numbers are from, and the result has not: one position of it.

        Args:
            instruction: one of `MOVING`.
            operand: which.
            result: which.
        """
        for block, keys in self.blocks(instruction.results[result]):
            point = tuple(int(own[0]) for own in block.positions)
            source = _source(self.flat, instruction, operand, result, point)
            for here in self.at(instruction.operands[operand], source) if source is not None else ():
                if here.group not in {key.group for key in keys}:
                    yield here

    def _keys(self, value: int) -> list[Key]:
        plain = self._groups(value)
        if not self._repeated(value):
            return [Key(value, i, name) for i, name in plain]
        counts: Counter[Key] = Counter()
        for _, keys in self.blocks(value):
            counts |= Counter(keys)
        return sorted(counts.elements(), key=lambda key: key.axis)

    def _groups(self, value: int) -> list[tuple[int, str]]:
        """Axis and name of each group, as often as it is there."""
        axes = ((i, factor) for i, axis in enumerate(self.axes[value]) for factor in expand(axis))
        return [(i, name) for i, factor in axes if (name := self.names.get(factor)) is not None]

    def _repeated(self, value: int) -> set[tuple[int, str]]:
        found = Counter(self._groups(value))
        return {place for place, count in found.items() if count > 1 or value in self._stacks}

    def _on(
        self, value: int, block: Block, sums: Sequence[set[Factor]], repeated: set[tuple[int, str]]
    ) -> Iterator[Key]:
        for i, axis in enumerate(block.axes):
            stacked = value in self._stacks
            choices = frozenset(item for item in block.choices.items() if stacked or item[0] in sums[i])
            for name in (self.names.get(factor) for factor in expand(axis)):
                if name is not None:
                    part = self._parts.setdefault(choices, len(self._parts)) if (i, name) in repeated else 0
                    yield Key(value, i, name, part)


def _copies(flat: Flat, value: int) -> set[int]:
    """A value, and the same in other formats."""
    copies = {value}
    for one in flat.instructions:
        if one.primitive in _COPYING and copies & {*one.operands}:
            copies |= {*one.results}
    return copies


def _slices(flat: Flat, copies: set[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The axis along which all that read a value take it apart, if so, and of each position the slice."""
    shape = flat.avals[min(copies)].shape
    readers = [one for one in flat.instructions if copies & {*one.operands} and not copies & {*one.results}]
    if any(one.primitive != "slice" or {*(one.eqn.params["strides"] or (1,))} != {1} for one in readers):
        return
    params = [one.eqn.params for one in readers]
    windows = [(*zip(one["start_indices"], one["limit_indices"], strict=True),) for one in params]
    along = {i for window in windows for i, own in enumerate(window) if own != (0, shape[i])}
    if len(along) == 1:
        (axis,) = along
        starts, limits = zip(*sorted({window[axis] for window in windows}), strict=True)
        if (*starts, shape[axis]) == (0, *limits):
            yield axis, np.repeat(np.arange(len(starts)), np.subtract(limits, starts))


def _sums(axis: Axis) -> set[Factor]:
    """What an axis is a sum of or cases of."""
    found = set()
    for node in nodes(axis):
        match node.split:
            case Sum():
                found.add(node)
            case Cases(of, _):
                found.add(of.root())
    return found


def _source(flat: Flat, instruction: Instruction, operand: int, result: int, point: Point) -> Point | None:
    """Where in an operand the number at a point of a result is from; None if in another."""
    params = instruction.eqn.params
    shapes = [flat.avals[x].shape for x in (instruction.operands[operand], instruction.results[result])]
    found = list(point)
    match instruction.primitive:
        case "slice":
            strides = params["strides"] or (1,) * len(point)
            pairs = zip(point, params["start_indices"], strides, strict=True)
            found = [start + i * stride for i, start, stride in pairs]
        case "split":
            found[params["axis"]] += sum(params["sizes"][:result])
        case "concatenate":
            before = (flat.avals[x].shape for x in instruction.operands[:operand])
            found[params["dimension"]] -= sum(shape[params["dimension"]] for shape in before)
        case "pad" if operand == 0:
            steps = [
                divmod(i - low, between + 1)
                for i, (low, _, between) in zip(point, params["padding_config"], strict=True)
            ]
            found = [-1 if rest else whole for whole, rest in steps]
        case "pad":
            return None
        case _:
            found = list(map(int, np.unravel_index(np.ravel_multi_index(point, shapes[1]), shapes[0])))
    inside = all(0 <= i < size for i, size in zip(found, shapes[0], strict=True))
    return tuple(found) if inside else None


_COPYING = ("convert_element_type", "copy", "copy_p", "name", "reduce_precision", "sharding_constraint")
MOVING = ("concatenate", "pad", "reshape", "slice", "split", "squeeze", *_COPYING)
"""Primitives of which positions tell where each number of a result is from."""
