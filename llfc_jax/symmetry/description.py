"""Symmetries as text: what moves, and what holds the rest."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from llfc_jax.symmetry.spec import LeafSpec, PermutationSpec, Positions, around, readable_path


def _moved_axes(path: str, leaf: LeafSpec, name: str) -> list[str]:
    labels = []
    for piece in leaf.pieces:
        for axis, (factors, own) in enumerate(zip(piece.axes, piece.positions, strict=True)):
            if not piece.moved_by(name, axis):
                continue
            where = [] if len(own) == leaf.shape[axis] else [_range(own)]
            if len(factors) > 1:
                where.append("·".join(f"({size})" if perm == name else str(size) for size, perm in factors))
            others = [
                f" at {i}={_range(at)}"
                for i, at in enumerate(piece.positions)
                if i != axis and len(at) < leaf.shape[i]
            ]
            labels.append(f"{readable_path(path)}[{':'.join([str(axis), *where])}]{','.join(others)}")
    return labels


def _range(own: Positions) -> str:
    """Positions as they are shown to people."""
    if isinstance(own, range):
        step = f" by {own.step}" if len(own) > 1 and own.step > 1 else ""
        return f"{own[0]}-{own[-1]}{step}" if len(own) > 1 else str(own[0])
    runs = np.split(np.asarray(own), np.flatnonzero(np.diff(own) > 1) + 1)
    return "+".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def describe(spec: PermutationSpec) -> str:
    """Returns the symmetries of `spec` as text: each permutation, its size, the array axes it moves.

    `Dense_0/kernel[0:7·7·(64)]` says that axis 0 has the factors 7·7·64 and that the last of them is moved,
    `Dense_1/kernel[0:8-19]` that positions 8 to 19 of axis 0 are, and `kernel[1] at 0=2` that axis 1 is moved
    where the position along axis 0 is 2.

    Example:
        >>> print(describe(PermutationSpec({"P0": 4}, {"['w']": LeafSpec((3, 4), (None, "P0"))})))
        1 permutation
        P0 (4): w[1]
    """
    lines = [f"{len(spec.sizes)} permutation{'s' if len(spec.sizes) > 1 else ''}"]
    if not spec.sizes:
        lines = ["no permutation symmetry: every axis is fixed"]
    for name, size in spec.sizes.items():
        moved = [label for path, leaf in spec.leaves.items() for label in _moved_axes(path, leaf, name)]
        outer = [f" in each of {spec.sizes[other]}" for other in reversed(around(name, spec.sizes))]
        lines += _wrapped(f"{name} ({size}{''.join(outer)}): {', '.join(moved)}")
    for line in held_fixed(spec):
        lines += _wrapped(line)
    return "\n".join(lines)


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, width=100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def held_fixed(spec: PermutationSpec) -> tuple[str, ...]:
    """Returns what keeps axes of a model's arrays from being permuted and which, the longest axes first.

    Some are fixed; some move, but alike at all positions along an axis that is looked up. Last come whole
    arrays that could be exchanged, such as those of experts in a list.

    Example:
        >>> leaves = {"['w']": LeafSpec((3, 4), (None, None))}
        >>> held_fixed(PermutationSpec({}, leaves, {"['w']": ("an input", "sort (model.py:7)")}))
        ('fixed by sort (model.py:7): w[1] (4)', 'fixed by an input: w[0] (3)')
    """
    return (
        *_by_reason("fixed by {}", spec.fixed, spec),
        *_by_reason("alike at all positions looked up by {}", spec.alike, spec),
        *(f"alike, but not exchanged: {_exchanged(group)}" for group in spec.exchangeable),
    )


def _exchanged(group: Sequence[Sequence[str]]) -> str:
    return "; ".join(" with ".join(map(readable_path, paths)) for paths in group)


def _by_reason(said: str, kept: Mapping[str, tuple[str, ...]], spec: PermutationSpec) -> list[str]:
    found: dict[str, list[tuple[int, str]]] = {}
    for path, reasons in kept.items():
        for axis, reason in enumerate(reasons):
            if reason:
                size = spec.leaves[path].shape[axis]
                found.setdefault(reason, []).append((size, f"{readable_path(path)}[{axis}] ({size})"))
    by_size = sorted(found.items(), key=lambda item: -max(size for size, _ in item[1]))
    return [f"{said.format(reason)}: {', '.join(axis for _, axis in axes)}" for reason, axes in by_size]
