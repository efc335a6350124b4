"""Rules of sums of products: what is summed over moves alike in both factors, the rest is carried."""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from llfc_jax.symmetry.factors import Axes, Axis, factors_of, fix, flatten, new_axes
from llfc_jax.symmetry.rule import opaque, shape_of
from llfc_jax.symmetry.unification import separate, unify


def dot_general(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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


def conv_general_dilated(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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


def ragged_dot(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
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
    separate((*(lhs[i] for i in (*lhs_contracting, *lhs_batch)), *rhs_free), lhs_free, eqn)
    return [(*(lhs[i] for i in lhs_batch), *lhs_free, *rhs_free)]
