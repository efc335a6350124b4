"""The algebra of axes: products, sums and cases of factors.

An axis of size n is a product of *factors*, major to minor: after `(7, 7, 64) -> (3136,)` it is the product
of three. A factor may turn out to be one of three things itself:

* a `Product` of factors;
* a `Sum` of pieces, each a set of its positions with an axis of its own: what a concatenation joins, a slice
  cuts out, a padding surrounds;
* `Cases` of a sum in another axis of the same array: an axis for each of its pieces. The hidden units of
  stacked layers, sliced apart, are a case for each layer.

A factor that is none of these is a class of positions that are permuted alike wherever it appears. Its
permutation may depend on where the array is along other axes, those that it is `within`: the inner axis of
attention heads has a permutation for each head, and moves with it when the heads themselves are permuted.

All statements about a model are "these two are permuted alike", "this cannot be permuted" and "this does
not depend on that". Each only adds constraints, so what holds doesn't depend on the order in which they are
made.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Reason: TypeAlias = Any
"""Why something is fixed: the equation that asks for it, or a few words."""


@dataclass(frozen=True)
class TooManyParts:
    """Why an axis is fixed that could be cut ever further to be permuted part by part.

    Attributes:
        why: what asks for the cuts.
    """

    why: Reason


@dataclass(frozen=True, eq=False)
class Product:
    """A factor that is the product of `parts`, major to minor."""

    parts: "Axis"


@dataclass(frozen=True, eq=False)
class Sum:
    """A factor whose positions are shared out among pieces.

    Attributes:
        positions: for each piece, its positions in the factor, ascending.
        pieces: for each piece, the axis along them.
        why: what took it apart or put it together, where that is known.
    """

    positions: tuple[np.ndarray, ...]
    pieces: "tuple[Axis, ...]"
    why: "Reason | None" = None


@dataclass(frozen=True, eq=False)
class Cases:
    """A factor that is another axis for each piece of the sum `of`."""

    of: "Factor"
    axes: "tuple[Axis, ...]"


@dataclass(eq=False, slots=True)
class Factor:
    """A node of the union-find forest; its root holds the class's state.

    Attributes:
        size: number of positions, at least 2.
        fixed: why the class cannot be permuted; None if it can.
        parent: the node that this one was merged into; None for a root.
        split: what this class was found to consist of; None if it is not split.
        within: factors that its permutations may depend on: those in all of these sets. None yet: on any.
    """

    size: int
    fixed: Reason | None = None
    parent: "Factor | None" = None
    split: Product | Sum | Cases | None = None
    within: "list[frozenset[Factor]]" = field(default_factory=list)

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


def new_axis(size: int, fixed: Reason | None = None) -> Axis:
    """Returns an axis about which nothing is known but its size."""
    return (Factor(size, fixed),) if size > 1 else ()


def new_axes(shape: Iterable[int], fixed: Reason | None = None) -> Axes:
    """Returns the axes of an array about which nothing is known but its shape."""
    return tuple(new_axis(size, fixed) for size in shape)


def flatten(axes: Iterable[Axis]) -> Axis:
    """Returns the one axis that a row-major reshape makes of `axes`."""
    return tuple(factor for axis in axes for factor in axis)


def factors_of(arrays: Iterable[Axes]) -> Axis:
    """Returns all factors of all axes of some arrays."""
    return flatten(axis for axes in arrays for axis in axes)


def size_of(axis: Axis) -> int:
    """Returns the number of positions along an axis."""
    return math.prod(factor.size for factor in axis)


def sum_axis(size: int, pieces: Iterable[tuple[np.ndarray, Axis]]) -> Axis:
    """Returns an axis made of pieces: their positions and their axes."""
    found = [(positions, axis) for positions, axis in pieces if len(positions)]
    if len(found) == 1:
        return found[0][1]
    return (Factor(size, split=Sum(*map(tuple, zip(*found, strict=True)))),)


def resolve(factor: Factor) -> Factor:
    """Returns a factor's representative, split as far as what it depends on is cut."""
    root = factor.root()
    if isinstance(root.split, Cases):
        of = root.split.of.root()
        if isinstance(of.split, Cases):
            _exchange(root, of)
        _collapse(root)
    elif root.split is None and root.fixed is None and root.within:
        for other in dependencies(root):
            if not isinstance(other.split, Sum | Cases):
                continue
            mutual = _pieces_within(other, root)
            if _make_independent(other, root):
                cases = _take_cases(root, other, other.split)
                for part, i in mutual.items():
                    part.within = [dependencies(part) | {cases[i]}]
                break
            root.within.append(dependencies(root) - {other})
    return root.root()


def _collapse(factor: Factor) -> None:
    """Makes of cases that are all one axis this axis: nothing depends on which case it is."""
    assert isinstance(factor.split, Cases)
    first, *others = (visible(axis) for axis in factor.split.axes)
    if all(other == first for other in others):
        become(factor, tuple(first))


def become(factor: Factor, axis: Axis) -> None:
    """States that a factor is an axis of the same size."""
    if len(axis) > 1:
        factor.split = Product(axis)
        return
    (factor.parent,) = (other.root() for other in axis)
    factor.parent.within += factor.within


def _pieces_within(factor: Factor, other: Factor) -> dict[Factor, int]:
    """What of a sum moves within another factor, and the piece that it is of.

    Of two that may each move within the other, neither is told to be the outer one where one of them is cut:
    they move within each other piece by piece.
    """
    if not isinstance(factor.split, Sum):
        return {}
    parts = {part: i for i, piece in enumerate(factor.split.pieces) for part in expand(piece)}
    return {part: i for part, i in parts.items() if part.fixed is None and other in dependencies(part)}


def _take_cases(factor: Factor, other: Factor, split: Sum | Cases) -> list[Factor]:
    """Turns an unsplit factor into cases of what it depends on, which is split; returns them.

    In each case, what it may depend on has come down to what it is there.
    """
    of = other if isinstance(split, Sum) else split.of.root()
    assert isinstance(of.split, Sum)
    pieces = of.split.pieces
    cases = [Factor(factor.size) for _ in pieces]
    factor.split = Cases(of, tuple((case,) for case in cases))
    for i, case in enumerate(cases):
        for names in factor.within:
            here = [pieces[i] if name is of else restrict((name,), of, i) for name in canonical(names)]
            case.within.append(frozenset(visible(flatten(here))) - {case})
    return cases


def _make_independent(factor: Factor, other: Factor) -> bool:
    """States that a factor depends on nothing that depends on `other`: who moves within whom must be told.

    Returns whether this can be: not if the factor consists of `other`, or of cases of what does.
    """
    parts = _parts(factor)
    if other in parts:
        return False
    for part in parts:
        if part.split is None and part.fixed is None and part.within:
            part.within = [frozenset(name for name in dependencies(part) if not _depends(name, other))]
    return True


def _depends(factor: Factor, other: Factor) -> bool:
    """Whether a factor is another, or may depend on it or on what does."""
    seen: set[Factor] = set()
    stack = [factor]
    while stack:
        parts = _parts(stack.pop()) - seen
        if other in parts:
            return True
        seen |= parts
        free = (part for part in parts if part.split is None and part.fixed is None)
        stack.extend(name for part in free for name in dependencies(part))
    return False


def _parts(factor: Factor) -> set[Factor]:
    """A factor, and all that it consists of or is cases of."""
    found: set[Factor] = set()
    stack = [factor]
    while stack:
        node = stack.pop().root()
        if node in found:
            continue
        found.add(node)
        match node.split:
            case Product(parts):
                stack.extend(parts)
            case Sum(_, axes):
                stack.extend(flatten(axes))
            case Cases(of, axes):
                stack.extend((of, *flatten(axes)))
    return found


def _exchange(factor: Factor, of: Factor) -> None:
    """Turns cases of a sum that has itself become cases of another into cases of the latter."""
    split, outer = factor.split, of.split
    assert isinstance(split, Cases)
    assert isinstance(outer, Cases)
    axes = []
    for i, case in enumerate(outer.axes):
        inner = [restrict(axis, outer.of, i) for axis in split.axes]
        # The sum is one factor in each case, by construction in `restrict`.
        axes.append((Factor(factor.size, split=Cases(case[0], tuple(inner)), within=list(factor.within)),))
    factor.split = Cases(outer.of, tuple(axes))


def canonical(names: Iterable[Factor]) -> frozenset[Factor]:
    """Returns the representatives of some factors, those that are products replaced by their parts."""
    found: set[Factor] = set()
    stack = list(names)
    while stack:
        root = stack.pop().root()
        if isinstance(root.split, Product):
            stack.extend(root.split.parts)
        else:
            found.add(root)
    return frozenset(found)


def dependencies(factor: Factor) -> frozenset[Factor]:
    """Returns what the permutations of a class may depend on, as far as it is known."""
    return frozenset.intersection(*map(canonical, factor.within)) if factor.within else frozenset()


def nodes(axis: Axis) -> Iterator[Factor]:
    """Yields every factor on every level of an axis but products, those within cases and sums included."""
    for factor in axis:
        root = resolve(factor)
        match root.split:
            case Product(parts):
                yield from nodes(parts)
            case Sum(_, axes) | Cases(_, axes):
                yield root
                for part in axes:
                    yield from nodes(part)
            case None:
                yield root


def expand(axis: Axis) -> Axis:
    """Returns the unsplit factors of an axis, one case and one piece after the other."""
    return tuple(factor for factor in nodes(axis) if factor.split is None)


def fix(axis: Axis, why: Reason) -> None:
    """States that the positions along `axis` cannot be permuted."""
    for factor in expand(axis):
        factor.fixed = factor.fixed or why


def is_fixed(axis: Axis) -> bool:
    """Returns whether no position along an axis can be permuted."""
    return all(factor.fixed is not None for factor in expand(axis))


def restrict(axis: Axis, of: Factor, piece: int) -> Axis:
    """Returns what an axis is where the sum `of`, in another axis, has come down to one of its pieces."""
    found: list[Factor] = []
    for factor in axis:
        root = resolve(factor)
        match root.split:
            case Product(parts):
                found.extend(restrict(parts, of, piece))
            case Cases(other, axes) if other.root() is of:
                found.extend(axes[piece])
            case Sum() | Cases() if of in _cases_inside(root):
                _pull_out(root, of)
                found.extend(restrict((root,), of, piece))
            case _:
                found.append(root)
    return tuple(found)


def _cases_inside(factor: Factor) -> set[Factor]:
    return {node.split.of.root() for node in nodes((factor,)) if isinstance(node.split, Cases)}


def _pull_out(factor: Factor, of: Factor) -> None:
    """Turns a factor with cases of `of` deep inside it into cases of `of`."""
    split, count = factor.split, len(of.split.pieces) if isinstance(of.split, Sum) else 0
    axes = []
    for i in range(count):
        match split:
            case Sum(positions, pieces, why):
                inside: Sum | Cases = Sum(positions, tuple(restrict(piece, of, i) for piece in pieces), why)
            case Cases(other, cases):
                inside = Cases(other, tuple(restrict(case, of, i) for case in cases))
        axes.append((Factor(factor.size, split=inside, within=list(factor.within)),))
    factor.split = Cases(of, tuple(axes))


def visible(axis: Axis) -> list[Factor]:
    """Returns the factors whose product an axis is, sums and cases unopened."""
    found: list[Factor] = []
    for factor in axis:
        root = resolve(factor)
        found.extend(visible(root.split.parts) if isinstance(root.split, Product) else [root])
    return found


def has_sum(axis: Axis) -> bool:
    """Returns whether an axis has a sum among its own factors."""
    for factor in axis:
        root = resolve(factor)
        if isinstance(root.split, Sum) or (isinstance(root.split, Product) and has_sum(root.split.parts)):
            return True
    return False
