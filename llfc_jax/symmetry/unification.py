"""Stating that axes are permuted alike, and what the permutations of an array's axes may depend on."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from llfc_jax.symmetry.cutting import refine, terms
from llfc_jax.symmetry.factors import (
    Axes,
    Axis,
    Cases,
    Factor,
    Product,
    Reason,
    Sum,
    TooManyParts,
    canonical,
    dependencies,
    expand,
    fix,
    has_sum,
    is_fixed,
    new_axis,
    nodes,
    resolve,
    restrict,
    size_of,
    visible,
)


def unify(first: Axis, second: Axis, why: Reason) -> None:
    """States that two axes of equal size are permuted alike, splitting each where the other is finer.

    Sums are cut until both sides have the same pieces. Where two factors straddle each other, as in 6·4
    against 4·6, no common product structure exists and both are fixed, up to the next position where the two
    sides meet again.
    """
    left, right = list(reversed(first)), list(reversed(second))
    while left and right:
        x, y = resolve(left[-1]), resolve(right[-1])
        small, large = sorted((x, y), key=lambda factor: factor.size)
        if x.size == y.size:
            left.pop(), right.pop()
            _unify_factors(x, y, why)
        elif isinstance(x.split, Product):
            left[-1:] = reversed(x.split.parts)
        elif isinstance(y.split, Product):
            right[-1:] = reversed(y.split.parts)
        elif x.split is None and y.split is None and large.size % small.size == 0:
            _factorise(large, small.size)
        else:
            _unify_terms(tuple(reversed(left)), tuple(reversed(right)), why)
            return
    assert not left + right, "unified axes differ in size"


def unify_all(axes: Sequence[Axis], why: Reason) -> Axis:
    """States that all of `axes` are permuted alike and returns one of them."""
    for axis in axes[1:]:
        unify(axes[0], axis, why)
    return axes[0]


def unify_arrays(arrays: Sequence[Axes], why: Reason) -> Axes:
    """States that arrays are permuted alike, axis by axis but for those of size 1; returns the axes of one.

    What others may depend on comes first: the cases of two axes are told to be of one sum once this is known.
    """
    found: list[Axis] = [()] * len(arrays[0])
    columns = [[axis for axis in axes if axis] or [()] for axes in zip(*arrays, strict=True)]
    for i in sorted(range(len(columns)), key=lambda i: _dependence(columns[i])):
        found[i] = unify_all(columns[i], why)
    return tuple(found)


def _dependence(axes: Sequence[Axis]) -> int:
    """On how many factors the axes depend."""
    if len(axes) == 1:
        return 0
    return sum(
        1 if factor.split is not None else len(dependencies(factor))
        for axis in axes
        for factor in nodes(axis)
        if factor.fixed is None
    )


def _factorise(factor: Factor, outer: int) -> None:
    """Splits an unsplit factor into a product."""
    first, second = (Factor(size, factor.fixed) for size in (outer, factor.size // outer))
    first.within = [names | {second} for names in factor.within]
    second.within = [names | {first} for names in factor.within]
    factor.split = Product((first, second))


def _unify_factors(x: Factor, y: Factor, why: Reason) -> None:
    """Unifies two representatives of equal size."""
    if x is y:
        return
    if y.split is None:
        x, y = y, x
    if x.split is None and (y.split is None or x not in nodes((y,))):
        _merge(x, y)
    elif isinstance(y.split, Cases) or isinstance(x.split, Cases):
        if not isinstance(y.split, Cases):
            x, y = y, x
        assert isinstance(y.split, Cases)
        of = y.split.of.root()
        for i, axis in enumerate(y.split.axes):
            unify(restrict((x,), of, i), axis, why)
        if isinstance(x.split, Cases) and x.split.of.root() is of and x.parent is None:
            _link(x, y)
    elif isinstance(x.split, Product) and isinstance(y.split, Product):
        unify(x.split.parts, y.split.parts, why)
    else:
        _unify_terms((x,), (y,), why)
        if x.parent is None and y.parent is None and _same_pieces(x.split, y.split):
            _link(x, y)


def _same_pieces(first: Product | Sum | Cases | None, second: Product | Sum | Cases | None) -> bool:
    if not (isinstance(first, Sum) and isinstance(second, Sum)):
        return False
    pairs = zip(first.positions, second.positions, strict=False)
    return len(first.positions) == len(second.positions) and all(np.array_equal(x, y) for x, y in pairs)


def _link(x: Factor, y: Factor) -> None:
    """Makes one class of two that have been found to be split alike."""
    x.parent = y
    y.within += x.within


def _merge(x: Factor, y: Factor) -> None:
    """Makes the unsplit class `x` part of the class `y`."""
    inside = set(nodes((y,))) if y.split is not None else set()
    x.parent = y
    if x.fixed is not None:
        fix((y,), x.fixed)
    for factor in list(nodes((y,))):
        factor.within += [names | inside for names in x.within]


def _unify_terms(first: Axis, second: Axis, why: Reason) -> None:
    """Unifies axes whose first factors differ in size, or of which one is a sum."""
    if has_sum(first) or has_sum(second):
        if not _cut_alike(first, second, why):
            return
        by_start = {int(term.positions[0]): term for term in terms(second)}
        for term in terms(first):
            unify(term.axis, by_start[int(term.positions[0])].axis, why)
        return
    for head in (resolve(first[0]), resolve(second[0])):
        if isinstance(head.split, Cases):
            of, count = head.split.of.root(), len(head.split.axes)
            for i in range(count):
                unify(restrict(first, of, i), restrict(second, of, i), why)
            return
    _fix_straddling(first, second, why)


def _cut_alike(first: Axis, second: Axis, why: Reason) -> bool:
    """Cuts two axes until both have the same pieces; returns whether they have.

    Fixed axes are permuted alike without this, by nothing at all: they are cut only where one of them is.
    Axes that share factors, as one and the same shifted, may be cut again and again: they are fixed.
    """
    for _ in range(_MOST_CUTS):
        labels, other = _labels(first), _labels(second)
        if _refines(labels, other) and _refines(other, labels):
            return True
        if is_fixed(first) and is_fixed(second) and not (_refines(labels, other) or _refines(other, labels)):
            return False
        refine(first, other, why)
        refine(second, labels, why)
    for axis in (first, second):
        fix(axis, TooManyParts(why))
    return False


_MOST_CUTS = 4
"""How often two axes are cut where the other is: once, unless they share factors."""


def _labels(axis: Axis) -> np.ndarray:
    """The term that each position of an axis is in."""
    labels = np.zeros(size_of(axis), np.int64)
    for i, term in enumerate(terms(axis)):
        labels[term.positions] = i
    return labels


def _refines(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether positions with one label of `fine` have one label of `coarse`."""
    return len(np.unique(fine * (coarse.max() + 1) + coarse)) == fine.max() + 1


def _fix_straddling(first: Axis, second: Axis, why: Reason) -> None:
    left, right = list(reversed(first)), list(reversed(second))
    sizes = [1, 1]
    while sizes[0] != sizes[1] or sizes == [1, 1]:
        side, stack = (0, left) if sizes[0] <= sizes[1] else (1, right)
        factor = resolve(stack.pop())
        if isinstance(factor.split, Product):
            stack.extend(reversed(factor.split.parts))
            continue
        fix((factor,), why)
        sizes[side] *= factor.size
    unify(tuple(reversed(left)), tuple(reversed(right)), why)


def settle(axes: Axes, why: Reason, ambient: Axis = ()) -> None:
    """States that the axes of an array depend on each other and on `ambient` alone.

    A factor that the array has twice doesn't tell which of the two is meant: nothing can depend on it.

    Args:
        axes: those of the array.
        why: what the array is for.
        ambient: what the array has one element of: the iteration, within a loop.
    """
    settled = False
    while not settled:
        around = Counter(visible(ambient))
        shown = [Counter(visible(axis)) for axis in axes]
        for own in shown:
            around.update(own)
        settled = all(_settle_axis(axis, around - own, why) for axis, own in zip(axes, shown, strict=True))


def settle_along(axis: Axis, others: Sequence[Axis], why: Reason) -> None:
    """States that an axis depends on itself and on `others` alone."""
    around = Counter(factor for other in others for factor in visible(other))
    while not _settle_axis(axis, around, why):
        pass


def _settle_axis(axis: Axis, around: Counter[Factor], why: Reason) -> bool:
    """States that an axis depends on itself and on what is `around`; returns whether nothing changed."""
    own = visible(axis)
    if all(factor.fixed is not None for factor in own):
        return True
    inside, settled = around + Counter(own), True
    for factor in own:
        others = inside - Counter((factor,))
        if _narrow(factor, {other for other, count in others.items() if count == 1}, why):
            return False
        match factor.split:
            case Sum(_, pieces):
                for i, piece in enumerate(pieces):
                    settled &= _settle_axis(piece, _at(others, factor, i), why)
            case Cases(of, cases) if isinstance(chosen := of.root().split, Sum):
                without = others - Counter((of.root(),))
                for i, (case, piece) in enumerate(zip(cases, chosen.pieces, strict=True)):
                    settled &= _settle_axis(case, _at(without, of.root(), i) + Counter(visible(piece)), why)
    return settled


def _at(around: Counter[Factor], of: Factor, piece: int) -> Counter[Factor]:
    """What is around where a sum has come down to one of its pieces."""
    found: Counter[Factor] = Counter()
    for factor, count in around.items():
        for here in visible(restrict((factor,), of, piece)):
            found[here] += count
    return found


def separate(axes: Iterable[Axis], others: Iterable[Axis], why: Reason) -> None:
    """States that axes don't depend on others: what is contracted is permuted alike along what is not."""
    excluded = {factor for axis in others for factor in nodes(axis)}
    for factor in [factor for axis in axes for factor in nodes(axis)]:
        root = factor.root()
        if not root.within or excluded & frozenset().union(*map(canonical, root.within)):
            _narrow(factor, set(dependencies(root) - excluded), why)


def _narrow(factor: Factor, allowed: set[Factor], why: Reason) -> bool:
    """States what one factor may depend on; returns whether this made something alike."""
    if factor.parent is not None or factor.fixed is not None:
        return False
    if isinstance(factor.split, Cases):
        found = frozenset(allowed & dependencies(factor) if factor.within else allowed) - {factor}
        if factor.split.of.root() in allowed and (not factor.within or factor.split.of.root() in found):
            return False
        axes = factor.split.axes
        if len(axes[0]) == 1:
            factor.parent = axes[0][0].root()
        else:
            factor.split = Product(axes[0])
        unify_all(axes, why)
        return True
    if factor.split is None:
        _allow(factor, frozenset(allowed) - {factor})
    return False


def _allow(factor: Factor, allowed: frozenset[Factor]) -> None:
    """States what a class may depend on, beside what was stated.

    All statements are kept of which none follows from another: what two of them allow by different names may
    turn out to be one.
    """
    if any(names <= allowed for names in factor.within):
        return
    stated = [canonical(names) for names in factor.within]
    if not any(names <= allowed for names in stated):
        kept = [names for names in stated if not allowed <= names] + [allowed]
        factor.within = kept if len(kept) <= _MOST_STATED else [frozenset.intersection(*kept)]


_MOST_STATED = 8
"""Statements of what a class may depend on that are kept; of more, what all of them allow by now."""


def take(axes: Axes, dimension: int, positions: np.ndarray, size: int, why: Reason) -> Axes:
    """Returns the axes of the part of an array at some positions, ascending, along one dimension."""
    axis = axes[dimension]
    if len(positions) == size:
        return axes
    if is_plain(axes, dimension):
        return (*axes[:dimension], new_axis(len(positions), why), *axes[dimension + 1 :])
    refine(axis, np.isin(np.arange(size), positions), why)
    blocks = []
    for term in terms(axis):
        if np.isin(term.positions[0], positions):
            block = list(axes)
            for of, piece in term.choices:
                block = [restrict(other, of.root(), piece) for other in block]
            block[dimension] = term.axis
            blocks.append((np.searchsorted(positions, term.positions), tuple(block)))
    return join(blocks, dimension, len(positions), why)


def is_plain(axes: Axes, dimension: int) -> bool:
    """Returns whether an axis is fixed and no other axis of the array depends on where one is along it."""
    own = set(nodes(axes[dimension]))
    if any(factor.fixed is None for factor in own):
        return False
    others = [factor for i, axis in enumerate(axes) if i != dimension for factor in nodes(axis)]
    return not any(factor.fixed is None and own & dependencies(factor) for factor in others)


def join(blocks: Iterable[tuple[np.ndarray, Axes]], dimension: int, size: int, why: Reason) -> Axes:
    """Returns the axes of an array made of others along one dimension: their positions in it and their axes.

    Along the other dimensions each may be permuted in its own way.
    """
    found = [(positions, axes) for positions, axes in blocks if len(positions)]
    if len(found) == 1:
        return found[0][1]
    positions = tuple(own for own, _ in found)
    joined = Factor(size, split=Sum(positions, tuple(axes[dimension] for _, axes in found), why))
    out: list[Axis] = []
    for i, alternatives in enumerate(zip(*(axes for _, axes in found), strict=True)):
        if i == dimension:
            out.append((joined,))
        elif len({expand(axis) for axis in alternatives}) == 1:
            out.append(alternatives[0])
        else:
            out.append((Factor(size_of(alternatives[0]), split=Cases(joined, alternatives)),))
    return tuple(out)
