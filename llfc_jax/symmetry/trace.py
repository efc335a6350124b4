"""Permutation symmetries of a model, by propagating axis identities through its jaxpr.

Every value v of the computation, from parameters θ and inputs x, is kept *equivariant*: permuting θ by π
permutes v(θ, x) along those of its axes that belong to π, and nothing else. Inputs and outputs are fixed, so
the output of the permuted network is the output of the network.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.interpreter import interpret
from llfc_jax.program.scans import scan_of
from llfc_jax.symmetry.carrying import carried
from llfc_jax.symmetry.chosen import at_one_position, taken_apart
from llfc_jax.symmetry.factors import (
    Axes,
    Axis,
    Reason,
    factors_of,
    fix,
    flatten,
    is_fixed,
    new_axes,
    new_axis,
)
from llfc_jax.symmetry.known import (
    Chosen,
    Coordinates,
    Known,
    Positions,
    as_numbers,
    axes_of,
    settle_value,
    simplest,
    surroundings,
    told_of,
)
from llfc_jax.symmetry.lookups import Used, lookups
from llfc_jax.symmetry.positions import positions_rule
from llfc_jax.symmetry.provenance import lines_of
from llfc_jax.symmetry.reading import read
from llfc_jax.symmetry.rule import opaque, shape_of
from llfc_jax.symmetry.rules import RULES
from llfc_jax.symmetry.spec import PermutationSpec
from llfc_jax.symmetry.steps import is_summed, steps_of
from llfc_jax.symmetry.unification import settle, unify_all, unify_arrays
from llfc_jax.symmetry.unrolled import exchangeable, plan
from llfc_jax.symmetry.unrolled_rules import Propagation
from llfc_jax.types import PyTree


def permutation_spec(apply: Callable[..., PyTree], variables: PyTree, *inputs: PyTree) -> PermutationSpec:
    """Derives which permutations of which parameter axes leave a model's outputs unchanged.

    The model is traced, not run. What is found is always a symmetry; it may not be all of them: an axis that
    an operation without a rule acts on is fixed, and so is one along which a constant varies. Positions that
    are cut out one by one stay where they are, unless all of them are, for parts that differ in nothing else
    and are summed, such as experts in a loop over a stack of them. Whole arrays are not exchanged, such as
    those of experts that are summed: `describe` tells which could be.

    Args:
        apply: `apply(variables, *inputs)` returns the outputs that have to stay, a pytree.
        variables: all arrays of the network, parameters and running statistics alike, in any pytree; arrays
            or `jax.ShapeDtypeStruct`s.
        *inputs: example inputs, arrays or `jax.ShapeDtypeStruct`s.

    Example:
        >>> import jax.numpy as jnp
        >>> weights = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 3))}
        >>> spec = permutation_spec(lambda w, x: jnp.tanh(x @ w["in"]) @ w["out"], weights, jnp.ones((1, 5)))
        >>> spec.sizes
        {'P0': 8}
        >>> spec.leaves["['out']"].perms
        ('P0', None)
    """
    jaxpr = jax.make_jaxpr(apply)(variables, *inputs)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]]
    shapes = [shape_of(var) for var in jaxpr.jaxpr.invars]
    leaves = [new_axes(shape) for shape in shapes[: len(paths)]]
    inputs_axes = [new_axes(shape, fixed="an input") for shape in shapes[len(paths) :]]
    for axes in leaves:
        settle(axes, "a leaf")
    used = Used([], [])
    fix(factors_of(_run(jaxpr, [*leaves, *inputs_axes], used)), "an output")
    arrays = dict(zip(paths, zip(leaves, shapes, strict=False), strict=True))
    kinds = {i: (var.aval.shape, var.aval.dtype) for i, var in enumerate(jaxpr.jaxpr.invars[: len(paths)])}
    groups = exchangeable(*steps_of(jaxpr, len(shapes)), kinds)
    told = tuple(tuple(tuple(paths[i] for i in own) for own in group) for group in groups)
    return replace(read(arrays, used, lines_of(jaxpr)), exchangeable=told)


def constants(ambient: Axis = ()) -> Callable[[Any], Known]:
    """Returns what finds the axes of a constant: free are those along which it is uniform.

    These are others at each use: two layers that read one constant are not permuted alike for it.
    """
    found: dict[int, Axes] = {}

    def axes_of_constant(value: Any) -> Known:
        if id(value) not in found:
            axes = _uniform_axes(value)
            settle(axes, "a constant", ambient)
            if not is_fixed(flatten(axes)):
                return axes
            found[id(value)] = axes
        return found[id(value)]

    return axes_of_constant


def _uniform_axes(value: Any) -> Axes:
    if not np.shape(value):
        return ()
    varies = "a constant that varies along it"
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
        return new_axes(value.shape, fixed=varies)
    array = np.asarray(value)
    return tuple(
        new_axis(size, varies if size > 1 and not bool((array == array.take([0], axis)).all()) else None)
        for axis, size in enumerate(array.shape)
    )


def _run(
    jaxpr: ClosedJaxpr | Jaxpr,
    operands: Sequence[Known],
    used: Used,
    ambient: Axis = (),
) -> list[Axes]:
    """Propagates axes through a jaxpr; appends to `used` what its primitives read, in order."""
    visit = propagation(jaxpr, len(operands), used, ambient)
    results = interpret(jaxpr, operands, constants(ambient), visit)
    return _numbers(results, "positions that leave a program", ambient)


def propagation(jaxpr: ClosedJaxpr | Jaxpr, count: int, used: Used, ambient: Axis) -> Propagation:
    """What returns the axes of the results of each primitive of a program, one after the other."""
    return Propagation(plan(*steps_of(jaxpr, count)), propagate, used, ambient)


def propagate(eqn: JaxprEqn, operands: Sequence[Known], used: Used, ambient: Axis = ()) -> Sequence[Known]:
    """Returns the axes of a primitive's results, having stated what it asks of its operands' axes.

    Args:
        eqn: a primitive applied; not a call.
        operands: their axes.
        used: what primitives read, in order; appended to.
        ambient: what the iterations of the loops around are counted by.
    """
    name = eqn.primitive.name
    used.factors.extend(factors_of(map(axes_of, operands)))
    used.lookups.extend(lookups(eqn, [axes_of(operand) for operand in operands]))
    if not eqn.outvars:
        results: Sequence[Known] = []  # an effect, such as printing
    elif all(0 in shape_of(result) for result in eqn.outvars):
        results = [new_axes(shape_of(result), fixed=eqn) for result in eqn.outvars]
    elif any(0 in shape_of(atom) for atom in (*eqn.invars, *eqn.outvars)) and name != "concatenate":
        # the factors of an empty array don't tell its shape
        results = opaque(eqn, _numbers(operands, eqn, ambient))
    elif name in _CONTROL_FLOW:
        bare, among = at_one_position(eqn, operands)
        around = (*ambient, *surroundings(among))
        found = _CONTROL_FLOW[name](eqn, _numbers(bare, eqn, around), used, around)
        results = [told_of(value, among) for value in found]
    else:
        taken, among = taken_apart(eqn, operands, ambient)
        known = positions_rule(eqn, taken)
        results = RULES.get(name, carried)(eqn, _numbers(taken, eqn, ambient)) if known is None else known
        results = [told_of(value, among) for value in results]
    for value in (*operands, *results):
        settle_value(value, eqn, ambient)
    return [_another(simplest(value)) for value in results]


def _another(value: Known) -> Known:
    """The same as an object of its own: by this, readers of one value know that it is one."""
    return value if isinstance(value, Positions | Coordinates | Chosen) else (*value,)


def _numbers(values: Sequence[Known], why: Reason, ambient: Axis) -> list[Axes]:
    return [as_numbers(value, why, ambient) for value in values]


def _unify_each(first: Sequence[Axes], second: Sequence[Axes], eqn: JaxprEqn) -> None:
    for pair in zip(first, second, strict=True):
        unify_arrays(pair, eqn)


def scan_axes(
    eqn: JaxprEqn, operands: Sequence[Axes], run: Callable[[Sequence[Axes], Axis], Sequence[Axes]]
) -> Sequence[Axes]:
    """The axes of a scan's results: the carry is permuted alike in all iterations.

    What is taken apart may be permuted in another way in each iteration. The order of iterations is fixed,
    unless all that is carried on is a sum.

    Args:
        eqn: the scan.
        operands: the axes of its operands.
        run: the axes of what the body takes, and the axis that counts iterations -> of what it returns.
    """
    scan = scan_of(eqn)
    constants, carry, taken_apart = scan.operands(operands)
    counted = (axes[0] for axes in taken_apart)
    iterations = unify_all([new_axis(scan.length, None if is_summed(eqn) else eqn), *counted], eqn)
    rows = (axes[1:] for axes in taken_apart)
    carried_on, stacked = scan.results(run([*constants, *carry, *rows], iterations))
    _unify_each(carry, carried_on, eqn)
    return [*carried_on, *((iterations, *axes) for axes in stacked)]


def _scan(eqn: JaxprEqn, operands: Sequence[Axes], used: Used, ambient: Axis) -> Sequence[Axes]:
    def run(slices: Sequence[Axes], iterations: Axis) -> Sequence[Axes]:
        return _run(scan_of(eqn).body, slices, used, (*ambient, *iterations))

    return scan_axes(eqn, operands, run)


def _while(eqn: JaxprEqn, operands: Sequence[Axes], used: Used, ambient: Axis) -> Sequence[Axes]:
    """The carry is permuted alike in all iterations."""
    in_cond = eqn.params["cond_nconsts"]
    in_body = in_cond + eqn.params["body_nconsts"]
    carry = operands[in_body:]
    goes_on = _run(eqn.params["cond_jaxpr"], [*operands[:in_cond], *carry], used, ambient)
    fix(factors_of(goes_on), eqn)
    results = _run(eqn.params["body_jaxpr"], [*operands[in_cond:in_body], *carry], used, ambient)
    _unify_each(carry, results, eqn)
    return carry


def _cond(eqn: JaxprEqn, operands: Sequence[Axes], used: Used, ambient: Axis) -> Sequence[Axes]:
    """All branches see and return the same axes; the index is a scalar, which no permutation changes."""
    first, *others = (_run(branch, operands[1:], used, ambient) for branch in eqn.params["branches"])
    for other in others:
        _unify_each(first, other, eqn)
    return first


def _linear_solve(eqn: JaxprEqn, operands: Sequence[Axes], used: Used, ambient: Axis) -> Sequence[Axes]:
    """The solution is what the solver makes of its constants and the right side."""
    lengths, solver = eqn.params["const_lengths"], eqn.params["jaxprs"].solve
    start = lengths.matvec + lengths.vecmat
    right_side = operands[sum(lengths) :]
    return _run(solver, [*operands[start : start + lengths.solve], *right_side], used, ambient)


_CONTROL_FLOW = {"cond": _cond, "custom_linear_solve": _linear_solve, "scan": _scan, "while": _while}
