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
    """

    positions: tuple[np.ndarray, ...]
    pieces: "tuple[Axis, ...]"


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


@dataclass(frozen=True, eq=False)
class Term:
    """A part of an axis that is a product of factors which are no sums.

    Attributes:
        choices: the sums on the way and the piece taken of each.
        positions: its positions in the axis, ascending.
        axis: its factors.
    """

    choices: "tuple[tuple[Factor, int], ...]"
    positions: np.ndarray
    axis: Axis


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
            if _make_independent(other, root):
                _take_cases(root, other, other.split)
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


def _take_cases(factor: Factor, other: Factor, split: Sum | Cases) -> None:
    """Turns an unsplit factor into cases of what it depends on, which is split."""
    of = other if isinstance(split, Sum) else split.of.root()
    axes = split.pieces if isinstance(split, Sum) else split.axes
    factor.split = Cases(of, tuple(_case(factor, other, set(visible(axis))) for axis in axes))


def _make_independent(factor: Factor, other: Factor) -> bool:
    """States that nothing that a factor depends on depends on `other`: who moves within whom must be told.

    Returns whether this can be: not if the factor consists of `other`, or of cases of what does.
    """
    seen, stack = set(), [factor]
    while stack:
        node = stack.pop().root()
        if node is other:
            return False
        if node in seen:
            continue
        seen.add(node)
        match node.split:
            case Product(parts):
                stack.extend(parts)
            case Sum(_, axes):
                stack.extend(flatten(axes))
            case Cases(of, axes):
                stack.extend((of, *flatten(axes)))
            case None if node.fixed is None and node.within:
                found = dependencies(node) - {other}
                node.within = [found]
                stack.extend(found)
    return True


def _case(factor: Factor, other: Factor, inside: set[Factor]) -> Axis:
    """What an unsplit factor is where `other`, that it depends on, has shrunk to what is `inside`."""
    within = [frozenset((canonical(names) - {other}) | inside) for names in factor.within]
    return (Factor(factor.size, within=within),)


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
            case Sum(positions, pieces):
                inside: Sum | Cases = Sum(positions, tuple(restrict(piece, of, i) for piece in pieces))
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


def terms(axis: Axis) -> list[Term]:
    """Returns the terms whose sum an axis is: (a + b) c = a c + b c, c (a + b) = c a + c b.

    What is another axis for each piece of a sum, major or minor to it, is the one for the piece taken.
    """
    if not axis:
        return [Term((), np.zeros(1, np.int64), ())]
    head, rest = resolve(axis[0]), axis[1:]
    inner = size_of(rest)
    match head.split:
        case Product(parts):
            return terms(parts + rest)
        case Sum(positions, pieces):
            found = []
            for i, (own, piece) in enumerate(zip(positions, pieces, strict=True)):
                for term in terms(piece + restrict(rest, head, i)):
                    major, minor = np.divmod(term.positions, inner)
                    found.append(Term(((head, i), *term.choices), own[major] * inner + minor, term.axis))
            return found
    found = []
    for term in terms(rest):
        heads: Axis = (head,)
        for of, taken in term.choices:
            heads = restrict(heads, of.root(), taken)
        rows = np.arange(head.size)[:, None] * inner
        positions = (rows + term.positions).ravel()
        if heads == (head,):
            found.append(Term(term.choices, positions, (head, *term.axis)))
            continue
        for part in terms(heads + term.axis):
            found.append(Term((*term.choices, *part.choices), positions[part.positions], part.axis))
    return found


def refine(axis: Axis, labels: np.ndarray) -> None:
    """Cuts an axis so that positions with different labels are in different terms."""
    if not axis or (labels == labels[0]).all():
        return None
    head, rest = resolve(axis[0]), axis[1:]
    match head.split:
        case Product(parts):
            return refine(parts + rest, labels)
        case Sum(positions, pieces):
            rows = labels.reshape(head.size, -1)
            for i, (own, piece) in enumerate(zip(positions, pieces, strict=True)):
                refine(piece + restrict(rest, head, i), rows[own].ravel())
            return None
    rows = labels.reshape(head.size, -1)
    distinct, kinds = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) == 1:
        return refine(rest, rows[0])
    cut(head, kinds.reshape(-1))
    return refine(axis, labels)


def cut(factor: Factor, labels: np.ndarray) -> None:
    """Turns an unsplit factor or cases into the sum of the sets of positions with equal labels."""
    positions = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    match factor.split:
        case Cases(of, axes):
            for axis in axes:
                refine(axis, labels)
            pieces = []
            for own in positions:
                parts = tuple(select(axis, own) for axis in axes)
                split = Cases(of, parts)
                pieces.append((Factor(len(own), split=split),) if len(own) > 1 else ())
        case None:
            pieces = [
                (Factor(len(own), factor.fixed, within=list(factor.within)),) if len(own) > 1 else ()
                for own in positions
            ]
    factor.split = Sum(positions, tuple(pieces))


def select(axis: Axis, positions: np.ndarray) -> Axis:
    """Returns the axis along some positions, ascending, of one that has been refined by them."""
    kept = [term for term in terms(axis) if np.isin(term.positions[0], positions)]
    return sum_axis(len(positions), ((np.searchsorted(positions, t.positions), t.axis) for t in kept))
