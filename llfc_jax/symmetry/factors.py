"""Factored axes and their unification.

An axis of size n is a product of *factors*, major to minor: after `(7, 7, 64) -> (3136,)` the axis is the
product of three. Factors that must be permuted alike are unified into one class; a class joined to something
that cannot be permuted is fixed. All statements about a model are of these two kinds and only ever add
constraints, so the order in which they are made does not matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(eq=False, slots=True)
class Factor:
    """A node of the union-find forest; its root holds the class's state.

    Attributes:
        size: number of positions, at least 2.
        fixed: whether the class cannot be permuted.
        parent: the node that this one was merged into; None for a root.
        parts: the factors whose product this class was found to be, major to minor; empty if unsplit.
    """

    size: int
    fixed: bool = False
    parent: "Factor | None" = None
    parts: "tuple[Factor, ...]" = ()

    def root(self) -> "Factor":
        """Returns the representative of this factor's class."""
        root = self
        while root.parent is not None:
            root = root.parent
        node = self
        while node.parent is not None:
            node.parent, node = root, node.parent
        return root


Axis: TypeAlias = tuple[Factor, ...]
"""One axis of an array: its factors, major to minor. An axis of size 1 has none."""

Axes: TypeAlias = tuple[Axis, ...]
"""All axes of an array."""


def new_axis(size: int, fixed: bool = False) -> Axis:
    """Returns an axis about which nothing is known but its size."""
    return (Factor(size, fixed),) if size > 1 else ()


def new_axes(shape: Iterable[int], fixed: bool = False) -> Axes:
    """Returns the axes of an array about which nothing is known but its shape."""
    return tuple(new_axis(size, fixed) for size in shape)


def flatten(axes: Iterable[Axis]) -> Axis:
    """Returns the one axis that a row-major reshape makes of `axes`."""
    return tuple(factor for axis in axes for factor in axis)


def factors_of(arrays: Iterable[Axes]) -> Axis:
    """Returns all factors of all axes of some arrays."""
    return flatten(axis for axes in arrays for axis in axes)


def _pop(stack: list[Factor]) -> Factor:
    """Removes and returns the leading unsplit factor of a stack whose top is the major end."""
    while (factor := stack.pop().root()).parts:
        stack.extend(reversed(factor.parts))
    return factor


def expand(axis: Axis) -> Axis:
    """Returns the axis in terms of its classes as they are split now."""
    stack, factors = list(reversed(axis)), []
    while stack:
        factors.append(_pop(stack))
    return tuple(factors)


def fix(axis: Axis) -> None:
    """States that the positions along `axis` cannot be permuted."""
    for factor in expand(axis):
        factor.fixed = True


def _merge(x: Factor, y: Factor) -> None:
    if x is not y:
        y.parent = x
        x.fixed |= y.fixed


def unify(first: Axis, second: Axis) -> None:
    """States that two axes of equal size are permuted alike, splitting factors where the other side is finer.

    Where two factors straddle each other, as in 6·4 against 4·6, no common product structure exists and both
    are fixed, up to the next position where the two sides meet again.
    """
    left, right = list(reversed(first)), list(reversed(second))
    while left and right:
        x, y = _pop(left), _pop(right)
        if x.size > y.size:
            x, y, left, right = y, x, right, left
        if x.size == y.size:
            _merge(x, y)
        elif y.size % x.size == 0:
            y.parts = (Factor(x.size, y.fixed), Factor(y.size // x.size, y.fixed))
            left.append(x)
            right.append(y)
        else:
            behind, ahead = x.size, y.size
            x.fixed = y.fixed = True
            while behind != ahead:
                if behind > ahead:
                    behind, ahead, left, right = ahead, behind, right, left
                x = _pop(left)
                x.fixed = True
                behind *= x.size
    assert not left + right, "unified axes differ in size"


def unify_all(axes: Sequence[Axis]) -> Axis:
    """States that all of `axes` are permuted alike and returns one of them."""
    for axis in axes[1:]:
        unify(axes[0], axis)
    return axes[0]


def blocks(axis: Axis, size: int, block: int) -> Axis:
    """Cuts an axis into `size // block` equal blocks of fixed order and returns the axis within a block.

    Positions may then still be permuted within the blocks, in all blocks alike.
    """
    order, within = new_axes((size // block, block))
    unify(axis, order + within)
    fix(order)
    return within
