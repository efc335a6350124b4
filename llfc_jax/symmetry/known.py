"""What is known of a value of the computation: its axes, and what they alone don't tell."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from llfc_jax.symmetry.factors import Axes, Axis, Cases, Factor, dependencies, fix, flatten, nodes
from llfc_jax.symmetry.unification import settle, settle_along


@dataclass(frozen=True, eq=False)
class Itself:
    """A value as the source of positions, by its identity: others may have the same axes."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class Positions(NamedTuple):
    """The axes of an array whose entries are positions along another axis, `into`."""

    axes: Axes
    into: Axis
    source: Hashable
    """Equal for arrays of the same entries in the same order, whatever their shapes; `into`: of 0, 1, ..."""


class Coordinates(NamedTuple):
    """The axes of an array of positions along several axes at once, a column each along its last axis."""

    axes: Axes
    columns: tuple[Positions | None, ...]
    """Of what a column was made; None: of numbers."""


class Among(NamedTuple):
    """Axes of which an array has one position for each of some positions, and who says which.

    Attributes:
        outer: the axes.
        source: of the positions along them.
        along: the axes of the array that count these, in their order.
    """

    outer: tuple[Axis, ...]
    source: Hashable
    along: tuple[int, ...]


class Chosen(NamedTuple):
    """The axes of an array that was looked up, or is made of such."""

    axes: Axes
    among: tuple[Among, ...]


class Partial(NamedTuple):
    """A sum of some parts of a loop that Python has run: one with all of them has the same axes.

    Attributes:
        axes: of the whole sum.
        terms: those that stand for all.
    """

    axes: Axes
    terms: "tuple[Known, ...]"


Direct: TypeAlias = Axes | Positions | Coordinates
"""Of an array that has nothing around it but the iterations of loops."""

Known: TypeAlias = Direct | Chosen | Partial


def axes_of(value: Known) -> Axes:
    """The axes of an array, whatever its entries are."""
    return value.axes if isinstance(value, Positions | Coordinates | Chosen | Partial) else value


def columns_of(value: Known) -> tuple[Positions | None, ...]:
    """The columns of coordinates; positions are one by themselves."""
    match value:
        case Positions():
            return (value,)
        case Coordinates(_, columns):
            return columns
    return (None,)


def surroundings(among: tuple[Among, ...]) -> Axis:
    """What an array has one element of, as the body of a loop has of its iterations."""
    return flatten(axis for one in among for axis in one.outer)


def as_numbers(value: Known, why: object, ambient: Axis = ()) -> Axes:
    """The axes of an array of numbers: what positions point into is fixed, what was looked up is alike."""
    for column in columns_of(value):
        fix(column.into if column else (), why)
    if isinstance(value, Chosen):
        settle(value.axes, why, ambient)
    return axes_of(value)


def settle_value(value: Known, why: object, ambient: Axis) -> None:
    """States what the axes of an array, and those that it points into, may depend on."""
    around = surroundings(value.among) if isinstance(value, Chosen) else ()
    settle(axes_of(value), why, (*ambient, *around))
    for column in columns_of(value):
        settle_along(column.into if column else (), (*axes_of(value), ambient), why)


def told_of(value: Known, among: tuple[Among, ...]) -> Known:
    """An array of numbers that has one position of some axes; of positions, none is told."""
    if not among or isinstance(value, Positions | Coordinates | Chosen | Partial):
        return value
    return Chosen(value, among)


def simplest(value: Known) -> Known:
    """An array without what nothing in it depends on, all statements about it made."""
    if not isinstance(value, Chosen):
        return value
    needed = {
        name
        for factor in nodes(flatten(value.axes))
        for name in (dependencies(factor) if factor.split is None else _of_cases(factor))
        if factor.fixed is None
    }
    among = tuple(one for one in value.among if needed & {*nodes(surroundings((one,)))})
    return Chosen(value.axes, among) if among else value.axes


def _of_cases(factor: Factor) -> set[Factor]:
    return {factor.split.of.root()} if isinstance(factor.split, Cases) else set()
