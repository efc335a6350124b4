"""Rules of what takes arrays apart by position, and puts parts together.

A position that is known cuts an axis into a sum of segments; one that is looked up, and of which no more is
known (`positions.py`), fixes it.
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from llfc_jax.symmetry.factors import Axes, fix, new_axis, size_of
from llfc_jax.symmetry.rule import shape_of
from llfc_jax.symmetry.unification import is_plain, join, take, unify, unify_arrays


def slice_(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Cuts each axis into the positions that are kept and those that are not."""
    params, shape = eqn.params, shape_of(eqn.invars[0])
    strides = params["strides"] or (1,) * len(shape)
    bounds = zip(shape, params["start_indices"], params["limit_indices"], strides, strict=True)
    axes = operands[0]
    for i, (size, start, limit, stride) in enumerate(bounds):
        axes = take(axes, i, np.arange(start, limit, stride), size, eqn)
    return [axes]


def pad(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Joins each axis with one of padding, all of whose positions are alike."""
    axes, shape = operands[0], shape_of(eqn.invars[0])
    for i, (size, (low, high, interior)) in enumerate(zip(shape, eqn.params["padding_config"], strict=True)):
        padded = size + (size - 1) * interior + low + high
        positions = low + np.arange(size) * (interior + 1)
        kept = (positions >= 0) & (positions < padded)
        plain = is_plain(axes, i)
        axes = take(axes, i, np.flatnonzero(kept), size, eqn)
        if padded == len(positions[kept]):
            continue
        if plain:
            axes = (*axes[:i], new_axis(padded, eqn), *axes[i + 1 :])
            continue
        around = np.setdiff1d(np.arange(padded), positions)
        padding = (*axes[:i], new_axis(len(around)), *axes[i + 1 :])
        axes = join([(positions[kept], axes), (around, padding)], i, padded, eqn)
    return [axes]


def concatenate(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Joins axes as segments of one."""
    joined = eqn.params["dimension"]
    sizes = [shape_of(operand)[joined] for operand in eqn.invars]
    ends = np.cumsum(sizes)
    positions = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return [join(zip(positions, operands, strict=True), joined, int(ends[-1]), eqn)]


def split(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """The inverse of a concatenation."""
    cut, ends = eqn.params["axis"], np.cumsum(eqn.params["sizes"])
    parts = [np.arange(end - size, end) for size, end in zip(eqn.params["sizes"], ends, strict=True)]
    return [take(operands[0], cut, positions, int(ends[-1]), eqn) for positions in parts]


def dynamic_slice(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the axes that are kept whole, cuts those at a known position and fixes the others."""
    axes, shape = operands[0], shape_of(eqn.invars[0])
    starts = eqn.invars[1 : 1 + len(shape)]
    for i, (size, kept, start) in enumerate(zip(shape, eqn.params["slice_sizes"], starts, strict=True)):
        if isinstance(start, Literal):
            first = min(max(int(start.val), 0), size - kept)
            axes = take(axes, i, np.arange(first, first + kept), size, eqn)
    return [_window(eqn, axes, [size_of(axis) for axis in axes], eqn.params["slice_sizes"])]


def dynamic_update_slice(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Unifies what is written with what is around it; fixes where it is written."""
    operand, update = operands[:2]
    kept = _window(eqn, operand, shape_of(eqn.invars[0]), shape_of(eqn.invars[1]))
    unify_arrays([kept, update], eqn)
    return [operand]


def _window(eqn: JaxprEqn, axes: Axes, shape: Sequence[int], sizes: Sequence[int]) -> Axes:
    """Returns the axes of a window of the given sizes at an unknown position in an array."""
    window = []
    for axis, size, kept in zip(axes, shape, sizes, strict=True):
        if kept != size:
            fix(axis, eqn)
        window.append(axis if kept == size else new_axis(kept, fixed=eqn))
    return tuple(window)


def gather(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the indices' axes and those that are kept whole of the operand; fixes what is looked up."""
    operand, (*batch, coordinates) = operands
    numbers = eqn.params["dimension_numbers"]
    fix(coordinates, eqn)
    paired = numbers.operand_batching_dims
    for i, j in zip(paired, numbers.start_indices_batching_dims, strict=True):
        unify(operand[i], batch[j], eqn)
    looked_up = [i for i in range(len(operand)) if i not in paired]
    shape, sizes = shape_of(eqn.invars[0]), eqn.params["slice_sizes"]
    window = _window(
        eqn,
        tuple(operand[i] for i in looked_up),
        [shape[i] for i in looked_up],
        [sizes[i] for i in looked_up],
    )
    kept = iter(
        axis for i, axis in zip(looked_up, window, strict=True) if i not in numbers.collapsed_slice_dims
    )
    indexed = iter(batch)
    ndim = len(shape_of(eqn.outvars[0]))
    return [tuple(next(kept) if i in numbers.offset_dims else next(indexed) for i in range(ndim))]


def scatter(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Unifies what is kept whole of the operand with the updates; fixes what the indices choose."""
    operand, (*batch, coordinates), updates = operands
    numbers, shape = eqn.params["dimension_numbers"], shape_of(eqn.invars[0])
    windows, paired = numbers.update_window_dims, numbers.operand_batching_dims
    chosen = {*numbers.scatter_dims_to_operand_dims, *numbers.inserted_window_dims}
    kept = [i for i in range(len(shape)) if i not in (*numbers.inserted_window_dims, *paired)]
    out = list(operand)
    fix(coordinates, eqn)
    for i, j in zip(paired, numbers.scatter_indices_batching_dims, strict=True):
        unify(operand[i], batch[j], eqn)
    for axis, written in zip(batch, [x for i, x in enumerate(updates) if i not in windows], strict=True):
        unify(axis, written, eqn)
    for i, j in zip(kept, windows, strict=True):
        if i in chosen or shape[i] != shape_of(eqn.invars[2])[j]:
            chosen.add(i)
            fix(updates[j], eqn)
        else:
            unify(operand[i], updates[j], eqn)
    for i in chosen:
        fix(operand[i], eqn)
        out[i] = new_axis(shape[i], fixed=eqn)
    return [tuple(out)]
