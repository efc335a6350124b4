"""From the axes of a model's arrays, all statements made, to its permutation spec."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from llfc_jax.symmetry.cutting import cut, terms
from llfc_jax.symmetry.factors import (
    Axes,
    Axis,
    Factor,
    Reason,
    Sum,
    dependencies,
    expand,
    fix,
    flatten,
    has_sum,
    nodes,
    restrict,
    size_of,
)
from llfc_jax.symmetry.lookups import Used, alike
from llfc_jax.symmetry.provenance import Lines, shown
from llfc_jax.symmetry.spec import LeafSpec, PermutationSpec, Piece, Positions, made_of
from llfc_jax.symmetry.unification import settle


class Block(NamedTuple):
    """A part of an array all of whose axes are products of unsplit factors, and where it is.

    Attributes:
        positions: along each axis.
        axes: its own.
        choices: the sums that it is a part of, and the piece of each.
    """

    positions: tuple[np.ndarray, ...]
    axes: Axes
    choices: Mapping[Factor, int] = {}


def read(arrays: Mapping[str, tuple[Axes, tuple[int, ...]]], used: Used, lines: Lines) -> PermutationSpec:
    """Names what is free and used, and says where on each array it is.

    Args:
        arrays: path -> axes and shape of each array of the model.
        used: what the model reads, in order.
        lines: where the equations are that fix something.
    """
    names = name_factors([axes for axes, _ in arrays.values()], used.factors)
    axes_of = {path: axes for path, (axes, _) in arrays.items()}
    return PermutationSpec(
        sizes={name: factor.size for factor, name in names.items()},
        leaves={path: leaf_spec(axes, shape, names) for path, (axes, shape) in arrays.items()},
        fixed={path: tuple(_what_fixes(axis, lines) for axis in axes) for path, axes in axes_of.items()},
        alike=alike(axes_of, used.lookups, names, lines),
    )


def name_factors(
    leaves: Sequence[Axes], used: Iterable[Factor], paired: Sequence[Axis] = ()
) -> dict[Factor, str]:
    """The name of each class that can be permuted, in the order in which the model uses them.

    What moves within another has its name in front, `P0/P1`, and comes after it.

    Args:
        leaves: the axes of each array of the model.
        used: what the model reads, in order.
        paired: axes that can't be permuted, but pairs of which can be turned: `R0`, `R1`.
    """
    used = tuple(dict.fromkeys(used))
    _fix_unused(leaves, used)
    _separate(leaves)
    turned = {f for axis in paired for f in expand(axis) if f.size == size_of(axis)}
    for axis in paired:
        fix(tuple(f for f in expand(axis) if f not in turned), "a part of pairs")
    on_leaves = {factor for axes in leaves for factor in expand(flatten(axes))}
    free = [f for f in dict.fromkeys(expand(used)) if f in on_leaves and f.fixed is None]
    chains = _chains(leaves, free, [f for f in free if f not in turned])
    free.sort(key=lambda factor: len(chains[factor]))
    names: dict[Factor, str] = {}
    for letter, own in (
        ("P", [f for f in free if f not in turned]),
        ("R", [f for f in free if f in turned]),
    ):
        for i, factor in enumerate(own):
            around = chains[factor]
            names[factor] = f"{names[around[-1]]}/{letter}{i}" if around else f"{letter}{i}"
    return names


def _chains(
    leaves: Sequence[Axes], free: Sequence[Factor], permuted: Sequence[Factor]
) -> dict[Factor, tuple[Factor, ...]]:
    """For each class, what it moves within, outermost first: all that it may depend on, if that is a chain.

    Of two that may each depend on the other, the one that is minor in the first array that has both moves
    within the other. Of what is no chain, the longest is kept, by the number of blocks.
    """
    order = [{factor: i for i, factor in enumerate(reversed(expand(flatten(axes))))} for axes in leaves]

    def minor(factor: Factor, other: Factor) -> bool:
        both = next((rank for rank in order if factor in rank and other in rank), None)
        return both is not None and both[factor] < both[other]

    may = {factor: set(dependencies(factor)) & {*permuted} for factor in free}
    around = {f: {g for g in may[f] if f not in may[g] or minor(f, g)} for f in free}
    chains: dict[Factor, tuple[Factor, ...]] = {}

    def chain(factor: Factor, open_: frozenset[Factor]) -> tuple[Factor, ...]:
        if factor not in chains:
            found = [
                (*chain(other, open_ | {factor}), other) for other in around[factor] if other not in open_
            ]
            fitting = [c for c in found if {*c} <= around[factor]]
            chains[factor] = max(fitting, key=lambda c: (size_of(c), len(c)), default=())
        return chains[factor]

    return {factor: chain(factor, frozenset()) for factor in free}


def _what_fixes(axis: Axis, lines: Lines) -> str:
    fixed = [factor.fixed for factor in expand(axis) if factor.fixed is not None]
    if not fixed:
        fixed = [*_what_separates(axis)]
    reasons = [shown(reason, lines) for reason in fixed]
    return ", ".join(dict.fromkeys(reasons))


def _what_separates(axis: Axis) -> Iterator[Reason]:
    """What leaves positions by themselves, which no factor stands for that could be fixed."""
    for factor in nodes(axis):
        if isinstance(factor.split, Sum) and () in factor.split.pieces and factor.split.why is not None:
            yield factor.split.why


def _fix_unused(leaves: Sequence[Axes], used: Axis) -> None:
    read_by_model = set(expand(used))
    for axes in leaves:
        for factor in expand(flatten(axes)):
            if factor not in read_by_model and factor.fixed is None:
                factor.fixed = "never used"


def _separate(leaves: Sequence[Axes]) -> None:
    """Cuts what is fixed into single positions where something moves differently at each of them."""
    separated = False
    while not separated:
        separated = True
        for axes in leaves:
            settle(axes, "a leaf")
            for factor in expand(flatten(axes)):
                if factor.fixed is not None:
                    continue
                for other in dependencies(factor):
                    if other.fixed is not None and other.split is None:
                        cut(other, np.arange(other.size), other.fixed)
                        separated = False


def leaf_spec(
    axes: Axes, shape: tuple[int, ...], names: Mapping[Factor, str], *, join: bool = True
) -> LeafSpec:
    """Says where on an array of the model each named class is, from its first positions to its last.

    Args:
        axes: of the array.
        shape: the same.
        names: of the classes.
        join: whether pieces that the same permutations move are made one where they can be.
    """
    pieces = [_piece(block, names) for block in blocks(axes, shape)]
    for axis in range(len(shape)) if join else ():
        pieces = _joined(pieces, axis)
    return made_of(shape, tuple(sorted(pieces, key=lambda piece: [own[0] for own in piece.positions])))


def blocks(axes: Axes, shape: Sequence[int]) -> list[Block]:
    """The parts of an array all of whose axes are products of unsplit factors."""
    return _take_apart(Block(tuple(np.arange(size) for size in shape), axes))


def _take_apart(block: Block) -> list[Block]:
    """Takes a part of an array apart until no axis is a sum."""
    for i, axis in enumerate(block.axes):
        if not has_sum(axis):
            continue
        found = []
        for term in terms(axis):
            axes = list(block.axes)
            for of, piece in term.choices:
                axes = [restrict(other, of.root(), piece) for other in axes]
            axes[i] = term.axis
            positions = list(block.positions)
            positions[i] = positions[i][term.positions]
            taken = {of.root(): piece for of, piece in term.choices}
            found += _take_apart(Block(tuple(positions), tuple(axes), {**block.choices, **taken}))
        return found
    return [block]


def _piece(block: Block, names: Mapping[Factor, str]) -> Piece:
    axes = []
    for own, axis in zip(block.positions, block.axes, strict=True):
        factors = tuple((factor.size, names.get(factor)) for factor in expand(axis))
        axes.append(factors if any(name for _, name in factors) else ((len(own), None),))
    return Piece(tuple(map(positions_of, block.positions)), tuple(axes))


def positions_of(own: np.ndarray) -> Positions:
    """As a range where it is one."""
    if len(own) < 2:
        return range(int(own.sum()), int(own.sum()) + len(own))
    steps = np.diff(own)
    if (steps == steps[0]).all():
        return range(int(own[0]), int(own[-1]) + 1, int(steps[0]))
    return tuple(own.tolist())


def _joined(pieces: Sequence[Piece], axis: int) -> list[Piece]:
    """Joins pieces that differ only in where they are along an axis, on whose minor factor none is moved."""
    groups: dict[object, list[Piece]] = {}
    for i, piece in enumerate(pieces):
        *major, (_, minor) = piece.axes[axis]
        others = (
            piece.positions[:axis],
            piece.positions[axis + 1 :],
            piece.axes[:axis],
            piece.axes[axis + 1 :],
        )
        groups.setdefault(i if minor else (*others, *major), []).append(piece)
    return [piece for group in groups.values() for piece in _union(group, axis)]


def _union(pieces: Sequence[Piece], axis: int) -> list[Piece]:
    """As few pieces as they make, in order of where they are."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.positions[axis][0]):
        both = _together(found[-1], piece, axis) if found else None
        found[-1:] = [*found[-1:], piece] if both is None else [both]
    return found


def _together(first: Piece, second: Piece, axis: int) -> Piece | None:
    """One piece for two, where they share out each position of the major factors in the same way."""
    major = first.axes[axis][:-1]
    rows = math.prod(size for size, _ in major)
    own = np.concatenate([np.reshape(piece.positions[axis], (rows, -1)) for piece in (first, second)], axis=1)
    order = np.argsort(own[0])
    together = own[:, order]
    if not (np.diff(together.ravel()) > 0).all():
        return None
    return Piece(
        (*first.positions[:axis], positions_of(together.ravel()), *first.positions[axis + 1 :]),
        (*first.axes[:axis], (*major, (len(order), None)), *first.axes[axis + 1 :]),
    )
