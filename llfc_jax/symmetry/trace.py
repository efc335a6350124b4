"""Permutation symmetries of a model, by propagating axis identities through its jaxpr.

Every value v of the computation, from parameters θ and inputs x, is kept *equivariant*: permuting θ by π
permutes v(θ, x) along those of its axes that belong to π, and nothing else. Inputs and outputs are fixed, so
the output of the permuted network is the output of the network.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.interpreter import interpret, open_jaxpr
from llfc_jax.symmetry.factors import (
    Axes,
    Factor,
    expand,
    factors_of,
    fix,
    flatten,
    new_axes,
    new_axis,
    unify,
)
from llfc_jax.symmetry.rules import RULES, opaque, shape_of
from llfc_jax.symmetry.spec import LeafSpec, PermutationSpec
from llfc_jax.types import PyTree


def permutation_spec(apply: Callable[..., PyTree], variables: PyTree, *inputs: PyTree) -> PermutationSpec:
    """Derives which permutations of which parameter axes leave a model's outputs unchanged.

    The model is traced, not run. What is found is always a symmetry; it may not be all of them:

    * an axis that an operation without a rule touches is fixed, and so is one along which a constant varies;
    * a slice, padding or concatenation along an axis splits it in blocks (the largest that fit all the cuts)
      whose order is fixed, and within which positions move in all blocks alike;
    * the inner axes of attention heads, and the channels within the groups of a GroupNorm or a grouped
      convolution, move alike in all heads or groups; so do the units of layers stacked in one scanned array.

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
    fixed = [new_axes(shape, fixed=True) for shape in shapes[len(paths) :]]
    used: list[Factor] = []
    fix(factors_of(_run(jaxpr, [*leaves, *fixed], used)))

    on_leaves = set(expand(factors_of(leaves)))
    free = [f for f in dict.fromkeys(expand(tuple(used))) if f in on_leaves and not f.fixed]
    names = {factor: f"P{i}" for i, factor in enumerate(free)}
    return PermutationSpec(
        sizes={name: factor.size for factor, name in names.items()},
        leaves={
            path: _leaf_spec(shape, axes, names)
            for path, shape, axes in zip(paths, shapes, leaves, strict=False)
        },
    )


def _leaf_spec(shape: tuple[int, ...], axes: Axes, names: dict[Factor, str]) -> LeafSpec:
    view: list[int] = []
    perms: list[str | None] = []
    for size, axis in zip(shape, axes, strict=True):
        factors = expand(axis)
        view += [factor.size for factor in factors] or [size]
        perms += [names.get(factor) for factor in factors] or [None]
    return LeafSpec(tuple(view), tuple(perms), shape)


def constant_axes(value: Any) -> Axes:
    """Returns the axes of a constant: free are those along which it is uniform."""
    if not np.shape(value):
        return ()
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
        return new_axes(value.shape, fixed=True)
    array = np.asarray(value)
    return tuple(
        new_axis(size, fixed=size > 1 and not bool((array == array.take([0], axis)).all()))
        for axis, size in enumerate(array.shape)
    )


def _run(jaxpr: ClosedJaxpr | Jaxpr, operands: Sequence[Axes], used: list[Factor]) -> list[Axes]:
    """Propagates axes through a jaxpr; appends to `used` what its primitives read, in order."""
    # Constants get axes anew at each use: two layers that read one are not permuted alike for it.
    return interpret(jaxpr, operands, constant_axes, partial(propagate, used=used))


def propagate(eqn: JaxprEqn, operands: Sequence[Axes], used: list[Factor]) -> Sequence[Axes]:
    """Returns the axes of a primitive's results, having stated what it asks of its operands' axes.

    Args:
        eqn: a primitive applied; not a call.
        operands: their axes.
        used: the factors that primitives read, in order; appended to.
    """
    name = eqn.primitive.name
    if any(0 in shape_of(atom) for atom in (*eqn.invars, *eqn.outvars)):
        return opaque(eqn, operands)  # the factors of an empty array don't determine its shape
    if name in _CONTROL_FLOW:
        return _CONTROL_FLOW[name](eqn, operands, used)
    used.extend(factors_of(operands))
    return RULES.get(name, opaque)(eqn, operands)


def _unify_arrays(first: Sequence[Axes], second: Sequence[Axes]) -> None:
    for x, y in zip(first, second, strict=True):
        unify(flatten(x), flatten(y))


def _scan(eqn: JaxprEqn, operands: Sequence[Axes], used: list[Factor]) -> Sequence[Axes]:
    """The carry is permuted alike in all iterations; the axis of iterations is fixed.

    Scanned operands and stacked results are those with one axis more than the body sees.
    """
    jaxpr = eqn.params["jaxpr"]
    body = open_jaxpr(jaxpr)
    scanned = [len(shape_of(x)) > len(shape_of(y)) for x, y in zip(eqn.invars, body.invars, strict=True)]
    stacked = [len(shape_of(x)) > len(shape_of(y)) for x, y in zip(eqn.outvars, body.outvars, strict=True)]
    fix(flatten(axes[0] for axes, is_scanned in zip(operands, scanned, strict=True) if is_scanned))
    slices = [axes[1:] if is_scanned else axes for axes, is_scanned in zip(operands, scanned, strict=True)]
    results = _run(jaxpr, slices, used)
    carry_end, num_carry = scanned.count(False), stacked.count(False)
    _unify_arrays(slices[carry_end - num_carry : carry_end], results[:num_carry])
    iterations = new_axis(eqn.params["length"], fixed=True)
    return [*results[:num_carry], *((iterations, *axes) for axes in results[num_carry:])]


def _while(eqn: JaxprEqn, operands: Sequence[Axes], used: list[Factor]) -> Sequence[Axes]:
    """The carry is permuted alike in all iterations."""
    in_cond = eqn.params["cond_nconsts"]
    in_body = in_cond + eqn.params["body_nconsts"]
    carry = operands[in_body:]
    fix(factors_of(_run(eqn.params["cond_jaxpr"], [*operands[:in_cond], *carry], used)))
    _unify_arrays(carry, _run(eqn.params["body_jaxpr"], [*operands[in_cond:in_body], *carry], used))
    return carry


def _cond(eqn: JaxprEqn, operands: Sequence[Axes], used: list[Factor]) -> Sequence[Axes]:
    """All branches see and return the same axes; the index is a scalar, which no permutation changes."""
    first, *others = (_run(branch, operands[1:], used) for branch in eqn.params["branches"])
    for other in others:
        _unify_arrays(first, other)
    return first


_CONTROL_FLOW = {"cond": _cond, "scan": _scan, "while": _while}
