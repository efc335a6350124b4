"""What each primitive says about the axes of its operands and results.

A rule takes an equation and the axes of its operands, states what has to hold for the operation to commute
with the permutations, and returns the axes of its results. An axis along which an operation mixes positions
is another one in the result: what depends on a position along the one cannot depend on one along the other.
A primitive without a rule carries what it would be batched over (`carrying.py`) and fixes the rest. To fix
every axis it touches (`opaque`) is always safe: its results then depend on nothing that is permuted.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from jax.extend.core import JaxprEqn, Literal

from llfc_jax.symmetry.factors import Axes, Axis, factors_of, fix, flatten, new_axes, new_axis, size_of
from llfc_jax.symmetry.unification import is_plain, join, separate, take, unify, unify_arrays

Rule: TypeAlias = Callable[[JaxprEqn, Sequence[Axes]], Sequence[Axes]]


def shape_of(atom: object) -> tuple[int, ...]:
    """Returns the shape of a jaxpr's variable or literal; () for what isn't an array."""
    return tuple(getattr(getattr(atom, "aval", None), "shape", ()))


def opaque(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Fixes every axis of operands and results."""
    fix(factors_of(operands), eqn)
    return [new_axes(shape_of(result), fixed=eqn) for result in eqn.outvars]


def _elementwise(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Unifies the operands axis by axis; scalars and axes of size 1 are broadcast and have no factors."""
    shape = shape_of(eqn.outvars[0])
    arrays = [axes for axes in operands if axes]
    if any(len(axes) != len(shape) for axes in arrays):
        return opaque(eqn, operands)
    return [unify_arrays(arrays, eqn) if arrays else ()]


def _identity(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    return operands


def _iota(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    shape, counted = eqn.params["shape"], eqn.params["dimension"]
    return [tuple(new_axis(size, fixed=eqn if i == counted else None) for i, size in enumerate(shape))]


def _dot_general(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Unifies contracted and batched axes; the free ones are carried."""
    lhs, rhs = operands
    (lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    lhs_free = tuple(axis for i, axis in enumerate(lhs) if i not in (*lhs_contracting, *lhs_batch))
    rhs_free = tuple(axis for i, axis in enumerate(rhs) if i not in (*rhs_contracting, *rhs_batch))
    # Said first: what the two sides are found to be apart is never made for axes that don't depend on it.
    for axes, contracting, free in ((lhs, lhs_contracting, lhs_free), (rhs, rhs_contracting, rhs_free)):
        _keep_apart([axes[i] for i in contracting], free, eqn)
    for i, j in zip((*lhs_contracting, *lhs_batch), (*rhs_contracting, *rhs_batch), strict=True):
        unify(lhs[i], rhs[j], eqn)
    batch = tuple(lhs[i] for i in lhs_batch)
    separate((*batch, *(lhs[i] for i in lhs_contracting)), (*lhs_free, *rhs_free), eqn)
    return [batch + lhs_free + rhs_free]


def _keep_apart(contracted: Sequence[Axis], free: Sequence[Axis], eqn: JaxprEqn) -> None:
    """States that what is contracted and what is not don't depend on each other."""
    separate(contracted, free, eqn)
    separate(free, contracted, eqn)


def _conv_general_dilated(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Contracts input features, carries batch and output features, fixes the axes that a kernel slides along.

    With g groups the input features are g·i and the output features g·o, and the kernel has i and g·o: groups
    can be permuted as units, and so can the positions within a group, in all groups alike.
    """
    if eqn.params["batch_group_count"] != 1:
        return opaque(eqn, operands)
    lhs, rhs = operands
    lhs_spec, rhs_spec, out_spec = eqn.params["dimension_numbers"]
    rhs_shape, groups = shape_of(eqn.invars[1]), eqn.params["feature_group_count"]
    out_features, in_features = rhs_shape[rhs_spec[0]], rhs_shape[rhs_spec[1]]

    for j in rhs_spec[2:]:
        if rhs_shape[j] > 1:
            fix(rhs[j], eqn)
    group, inner, outer = new_axes((groups, in_features, out_features // groups))
    unify(rhs[rhs_spec[0]], group + outer, eqn)
    _keep_apart([rhs[j] for j in rhs_spec[1:]], [outer], eqn)
    unify(lhs[lhs_spec[1]], group + inner, eqn)
    unify(rhs[rhs_spec[1]], inner, eqn)

    out = list(new_axes(shape_of(eqn.outvars[0]), fixed=eqn))
    out[out_spec[0]] = lhs[lhs_spec[0]]
    out[out_spec[1]] = group + outer
    steps = zip(eqn.params["window_strides"], eqn.params["padding"], eqn.params["lhs_dilation"], strict=True)
    for i, j, k, step in zip(lhs_spec[2:], rhs_spec[2:], out_spec[2:], steps, strict=True):
        if rhs_shape[j] == 1 and step == (1, (0, 0), 1):  # each position on its own
            out[k] = lhs[i]
        else:
            fix(lhs[i], eqn)
            fix(rhs[j], eqn)
    window = (*(lhs[i] for i in lhs_spec[2:]), *(rhs[j] for j in rhs_spec[2:]))
    separate((group, inner), window, eqn)
    return [tuple(out)]


def _reduce(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Drops the reduced axes: sum, product, maximum, ... do not depend on the order of their terms."""
    return [tuple(axis for i, axis in enumerate(operands[0]) if i not in eqn.params["axes"])]


def _argreduce(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Drops the reduced axes and fixes them: the result is a position along them."""
    for i in eqn.params["axes"]:
        fix(operands[0][i], eqn)
    return _reduce(eqn, operands)


def _reduce_window(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the axes on which the window is trivial and fixes the others."""
    params, out = eqn.params, list(new_axes(shape_of(eqn.outvars[0]), fixed=eqn))
    windows = zip(
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params["base_dilation"],
        strict=True,
    )
    for i, (axis, window) in enumerate(zip(operands[0], windows, strict=True)):
        if window == (1, 1, (0, 0), 1):
            out[i] = axis
        else:
            fix(axis, eqn)
    return [tuple(out)]


def _ordered(parameter: str) -> Rule:
    """The rule of an operation that treats all positions alike, but for the axes named by `parameter`."""

    def rule(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
        named = eqn.params[parameter]
        named = (named,) if isinstance(named, int) else named
        axes = list(unify_arrays(operands, eqn))
        for i in named:
            fix(axes[i], eqn)
            axes[i] = new_axis(shape_of(eqn.invars[0])[i], fixed=eqn)
        return [tuple(axes)] * len(operands)

    return rule


def _transpose(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    return [tuple(operands[0][i] for i in eqn.params["permutation"])]


def _reshape(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    if eqn.params["dimensions"] is not None:
        return opaque(eqn, operands)
    new = eqn.params["new_sizes"]
    out: list[Axis] = list(new_axes(new))
    for old_group, new_group in _common_groups(shape_of(eqn.invars[0]), new):
        old_axis = flatten(operands[0][i] for i in old_group)
        if len(new_group) == 1:
            out[new_group[0]] = old_axis
        else:
            unify(old_axis, flatten(out[i] for i in new_group), eqn)
    return [tuple(out)]


def _common_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Groups of axes of equal size between which a reshape takes place, as many as there are."""
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        starts, sizes = (i, j), [1, 1]
        while sizes[0] != sizes[1] or (i, j) == starts:
            if j == len(new) or (i < len(old) and sizes[0] <= sizes[1]):
                sizes[0] *= old[i]
                i += 1
            else:
                sizes[1] *= new[j]
                j += 1
        groups.append((list(range(starts[0], i)), list(range(starts[1], j))))
    return groups


def _squeeze(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    return [tuple(axis for i, axis in enumerate(operands[0]) if i not in eqn.params["dimensions"])]


def _broadcast_in_dim(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the operand's axes; the result is constant along the new ones, which are free."""
    out = list(new_axes(eqn.params["shape"]))
    for i, axis in zip(eqn.params["broadcast_dimensions"], operands[0], strict=True):
        out[i] = axis or out[i]
    return [tuple(out)]


def _tile(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    return [tuple(new_axis(n) + axis for n, axis in zip(eqn.params["reps"], operands[0], strict=True))]


def _slice(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Cuts each axis into the positions that are kept and those that are not."""
    params, shape = eqn.params, shape_of(eqn.invars[0])
    strides = params["strides"] or (1,) * len(shape)
    bounds = zip(shape, params["start_indices"], params["limit_indices"], strides, strict=True)
    axes = operands[0]
    for i, (size, start, limit, stride) in enumerate(bounds):
        axes = take(axes, i, np.arange(start, limit, stride), size, eqn)
    return [axes]


def _pad(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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
        axes = join([(positions[kept], axes), (around, padding)], i, padded)
    return [axes]


def _concatenate(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    joined = eqn.params["dimension"]
    sizes = [shape_of(operand)[joined] for operand in eqn.invars]
    ends = np.cumsum(sizes)
    positions = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    return [join(zip(positions, operands, strict=True), joined, int(ends[-1]))]


def _split(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """The inverse of a concatenation."""
    cut, ends = eqn.params["axis"], np.cumsum(eqn.params["sizes"])
    parts = [np.arange(end - size, end) for size, end in zip(eqn.params["sizes"], ends, strict=True)]
    return [take(operands[0], cut, positions, int(ends[-1]), eqn) for positions in parts]


def _stack(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    new = eqn.params["axis"]
    rows = [(np.array([i]), (*axes[:new], (), *axes[new:])) for i, axes in enumerate(operands)]
    return [join(rows, new, len(operands))]


def _unstack(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    cut, count = eqn.params["axis"], len(eqn.outvars)
    rows = [take(operands[0], cut, np.array([i]), count, eqn) for i in range(count)]
    return [(*axes[:cut], *axes[cut + 1 :]) for axes in rows]


def _dynamic_slice(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the axes that are kept whole, cuts those at a known position and fixes the others."""
    axes, shape = operands[0], shape_of(eqn.invars[0])
    starts = eqn.invars[1 : 1 + len(shape)]
    for i, (size, kept, start) in enumerate(zip(shape, eqn.params["slice_sizes"], starts, strict=True)):
        if isinstance(start, Literal):
            first = min(max(int(start.val), 0), size - kept)
            axes = take(axes, i, np.arange(first, first + kept), size, eqn)
    return [_window(eqn, axes, [size_of(axis) for axis in axes], eqn.params["slice_sizes"])]


def _dynamic_update_slice(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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


def _gather(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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


def _scatter(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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


def _fft(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the axes that it does not act on, which are all but the last few."""
    carried = len(operands[0]) - len(eqn.params["fft_lengths"])
    fix(flatten(operands[0][carried:]), eqn)
    return [(*operands[0][:carried], *new_axes(shape_of(eqn.outvars[0])[carried:], fixed=eqn))]


def _ragged_dot(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Contracts and carries as a matrix product does; fixes what is cut into groups, and their order."""
    lhs, rhs, *others = operands
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch) = numbers.dot_dimension_numbers
    grouped = numbers.rhs_group_dimensions
    ragged = numbers.lhs_ragged_dimensions
    if not grouped or {*ragged} & {*lhs_contracting, *lhs_batch}:
        return opaque(eqn, operands)
    fix(factors_of(others), eqn)
    fix(flatten((*(lhs[i] for i in ragged), *(rhs[i] for i in grouped))), eqn)
    for i, j in zip((*lhs_contracting, *lhs_batch), (*rhs_contracting, *rhs_batch), strict=True):
        unify(lhs[i], rhs[j], eqn)
    lhs_free = [axis for i, axis in enumerate(lhs) if i not in (*lhs_contracting, *lhs_batch)]
    rhs_free = [axis for i, axis in enumerate(rhs) if i not in (*rhs_contracting, *rhs_batch, *grouped)]
    mixed = (*lhs_free, *(rhs[i] for i in grouped))
    separate((*(lhs[i] for i in (*lhs_contracting, *lhs_batch)), *rhs_free), mixed, eqn)
    return [(*(lhs[i] for i in lhs_batch), *lhs_free, *rhs_free)]


_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type
    cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf
    erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite layout_constraint le
    le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi name ne neg nextafter not
    one_minus_square or polygamma population_count pow real reduce_precision regularized_incomplete_beta
    rem round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic shift_right_logical
    sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(
        ("device_put", "optimization_barrier", "pcast", "psum", "psum_invariant", "pvary"), _identity
    ),
    **{f"reduce_{op}": _reduce for op in ("sum", "prod", "max", "min", "and", "or", "xor")},
    **{f"reduce_window_{op}": _reduce_window for op in ("sum", "max", "min")},
    **{f"cum{op}": _ordered("axis") for op in ("sum", "prod", "max", "min", "logsumexp")},
    **{f"scatter{op}": _scatter for op in ("", "-add", "-mul", "-min", "-max", "_sub", "-sub")},
    "argmax": _argreduce,
    "argmin": _argreduce,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv_general_dilated,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "fft": _fft,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "ragged_dot_general": _ragged_dot,
    "reshape": _reshape,
    "rev": _ordered("dimensions"),
    "slice": _slice,
    "sort": _ordered("dimension"),
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
}
"""Primitive name -> rule."""
