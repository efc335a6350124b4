"""Equations between the exponents with which a linear map acts on the values of a program.

A map T of the units of one group may act on each value of the program, along each of the group's axes, as a
power T^e: a scaling s of hidden units multiplies their incoming weights by s and the outgoing ones by 1/s.
What each operation asks of these exponents, `exponent_rules` says.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np

from llfc_jax.program.flat import Flat, Instruction

KINDS = ("invertible", "orthogonal", "mean-fixing orthogonal", "sign", "scaling")
"""Kinds of maps, the larger groups first."""
TURNS = ("orthogonal", "mean-fixing orthogonal")
MATRICES = ("invertible", *TURNS)
ROTARY = "rotary"
"""Invertible maps that multiply pairs of units as complex numbers: all that rotary positions commute with."""


class Key(NamedTuple):
    """Where a group is on a value.

    Attributes:
        value: number of the value.
        axis: of the value.
        group: its name.
        part: which of the parts of the axis that the group moves, such as queries or keys that one matrix
            makes; the same number on all values whose axes are the same sums.
    """

    value: int
    axis: int
    group: str
    part: int = 0

    @property
    def place(self) -> tuple[int, str, int]:
        """Where, on any value of the same axes."""
        return self[1:]

    def moved(self, axis: int) -> tuple[int, str, int]:
        """Where it is on a value that has its axis at another place."""
        return axis, self.group, self.part


Row: TypeAlias = dict[Key, Fraction]
"""An equation: the sum of these multiples of exponents is 0."""


@dataclass
class Equations:
    """What a program asks of exponents.

    Attributes:
        flat: the program.
        keys: value -> where groups are on it, axis by axis.
        before: see `Places`.
        lost: the same.
        rows: kind of map -> equations.
        uniform: values that don't vary along a group's axis.
        squares: values that are squares of others, unit by unit, as long as they are only summed.
        constant: values made of weights that rotations need to be uniform: scales of norms.
        scales: products of a value made of weights with what doesn't vary, and that value.
        zeros: values all of whose numbers are 0, beside constants.
    """

    flat: Flat
    keys: Mapping[int, Sequence[Key]]
    before: Callable[[Instruction, int, int], Iterable[tuple[Key, Key]]]
    lost: Callable[[Instruction, int, int], Iterable[Key]]
    rows: dict[str, list[Row]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    uniform: set[Key] = field(default_factory=set)
    squares: dict[Key, Key] = field(default_factory=dict)
    constant: list[Key] = field(default_factory=list)
    scales: dict[Key, Key] = field(default_factory=dict)
    zeros: set[int] = field(default_factory=set)

    def of(self, value: int) -> Sequence[Key]:
        """Where groups are on a value; constants have none."""
        return self.keys.get(value, ())

    def state(self, kinds: Iterable[str], *terms: tuple[Key, int]) -> None:
        """States that a sum of multiples of exponents is 0."""
        for kind in kinds:
            row: Row = {}
            for key, factor in terms:
                row[key] = row.get(key, Fraction(0)) + factor
            self.rows[kind].append(row)

    def equal(self, kinds: Iterable[str], first: Key, *others: Key) -> None:
        """States that exponents are equal."""
        for other in others:
            self.state(kinds, (first, 1), (other, -1))

    def none(self, kinds: Iterable[str], *keys: Key) -> None:
        """States that maps don't act on values."""
        for key in keys:
            self.state(kinds, (key, 1))
            if key in self.squares and any(kind in TURNS for kind in kinds):
                self.state(TURNS, (self.squares[key], 1))

    def carry(self, new: Key, *old: Key, kinds: Iterable[str] = KINDS) -> None:
        """States that a value has the numbers of a group that others have, or multiples that don't vary.

        It is uniform only where all that it has them from are; of several it has no squares.
        """
        if len(old) > 1 or not self.squares.keys() & {*old}:
            self.pass_on(new, *old, kinds=kinds)
            return
        self.equal(kinds, new, *old)
        self.squares[new] = self.squares[old[0]]

    def is_zero(self, value: int) -> bool:
        """Whether a value is a constant 0."""
        constant = self.flat.constants.get(value)
        return value in self.zeros or (constant is not None and not np.any(np.asarray(constant)))

    def varying(self, keys: Sequence[Key]) -> list[Key]:
        """Those of some places along which the value isn't uniform."""
        return [key for key in keys if key not in self.uniform]

    def settle_uniform(self, result: Key, present: Sequence[Key]) -> bool:
        """Whether all that an elementwise operation reads is uniform; if so, nothing acts on the result."""
        if self.varying(present):
            return False
        self.uniform.add(result)
        self.none(KINDS, result)
        return True

    def pass_on(self, new: Key, *old: Key, kinds: Iterable[str] = KINDS) -> None:
        """States the same of an operation that mixes them along other axes: squares are squares no more."""
        self.equal(kinds, new, *old)
        if {*old} <= self.uniform:
            self.uniform.add(new)
        self.none(TURNS, *(key for key in old if key in self.squares))

    def ndim(self, value: int) -> int:
        """The number of axes of a value."""
        return len(self.flat.avals[value].shape)


def columns(found: Equations, instruction: Instruction) -> Iterable[tuple[Key, list[Key], list[int]]]:
    """For each group on the result of an elementwise operation, where it is on operands, and the others."""
    read = [key for operand in instruction.operands for key in found.of(operand)]
    places = {key.place for key in found.of(instruction.results[0])}
    found.none(KINDS, *(key for key in read if key.place not in places))
    for key in found.of(instruction.results[0]):
        present = [other for other in read if other.place == key.place]
        having = {other.value for other in present}
        yield key, present, [operand for operand in instruction.operands if operand not in having]


def unknown(found: Equations, instruction: Instruction) -> None:
    """The rule of what nothing is known of: no map acts on what it touches."""
    found.none(KINDS, *(key for x in (*instruction.operands, *instruction.results) for key in found.of(x)))


Rule: TypeAlias = Callable[[Equations, Instruction], None]
"""States what an operation asks."""
