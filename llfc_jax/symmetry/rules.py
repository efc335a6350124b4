"""What each primitive says about the axes of its operands and results.

A rule takes an equation and the axes of its operands, states what has to hold for the operation to commute
with the permutations, and returns the axes of its results. An axis along which an operation mixes positions
is another one in the result: what depends on a position along the one cannot depend on one along the other.
A primitive without a rule carries what it would be batched over (`carrying.py`) and fixes the rest. To fix
every axis it touches (`opaque`) is always safe: its results then depend on nothing that is permuted.
"""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from llfc_jax.symmetry import contraction_rules, indexing_rules, rotary
from llfc_jax.symmetry.factors import Axes, Axis, fix, flatten, new_axes, new_axis
from llfc_jax.symmetry.rule import Rule, opaque, shape_of
from llfc_jax.symmetry.unification import unify, unify_arrays


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


def _fft(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Carries the axes that it does not act on, which are all but the last few."""
    carried = len(operands[0]) - len(eqn.params["fft_lengths"])
    fix(flatten(operands[0][carried:]), eqn)
    return [(*operands[0][:carried], *new_axes(shape_of(eqn.outvars[0])[carried:], fixed=eqn))]


_NAMES = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e bitcast_convert_type
    cbrt ceil clamp clz complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf
    erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite layout_constraint le
    le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi name ne neg nextafter not
    one_minus_square or polygamma population_count pow real reduce_precision regularized_incomplete_beta
    rem round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic shift_right_logical
    sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta
"""

ELEMENTWISE = frozenset(_NAMES.split())
"""Primitives that do the same for each entry."""

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(
        ("device_put", "optimization_barrier", "pcast", "psum", "psum_invariant", "pvary"), _identity
    ),
    **{f"reduce_{op}": _reduce for op in ("sum", "prod", "max", "min", "and", "or", "xor")},
    **{f"reduce_window_{op}": _reduce_window for op in ("sum", "max", "min")},
    **{f"cum{op}": _ordered("axis") for op in ("sum", "prod", "max", "min", "logsumexp")},
    **{f"scatter{op}": indexing_rules.scatter for op in ("", "-add", "-mul", "-min", "-max", "_sub", "-sub")},
    "argmax": _argreduce,
    "argmin": _argreduce,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": indexing_rules.concatenate,
    "conv_general_dilated": contraction_rules.conv_general_dilated,
    "dot_general": contraction_rules.dot_general,
    "dynamic_slice": indexing_rules.dynamic_slice,
    "dynamic_update_slice": indexing_rules.dynamic_update_slice,
    "fft": _fft,
    "gather": indexing_rules.gather,
    "iota": _iota,
    "pad": indexing_rules.pad,
    "ragged_dot_general": contraction_rules.ragged_dot,
    "reshape": _reshape,
    "rev": _ordered("dimensions"),
    "rotary_enter": rotary.enter,
    "rotary_leave": rotary.leave,
    "slice": indexing_rules.slice_,
    "sort": _ordered("dimension"),
    "split": indexing_rules.split,
    "squeeze": _squeeze,
    "tile": _tile,
    "transpose": _transpose,
}
"""Primitive name -> rule."""
