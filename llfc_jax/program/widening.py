"""A program in single precision: what it computes but for the rounding to shorter formats.

Networks that compute in bfloat16 or float16 round to two or three digits at every step. Of two that are one
function, that hides whether they are; widened, they agree as any others do.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.interpreter import evaluate, interpret, open_jaxpr
from llfc_jax.types import Array, PyTree

_BY_BITS = ("bitcast_convert_type", "custom_partitioning", "ffi_call", "pallas_call")
"""Primitives made for one format, as are callbacks: evaluated in it, between casts."""


def is_short(dtype: Any) -> bool:
    """Whether numbers are floating-point and shorter than single precision."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.dtype(dtype).itemsize < 4


def widened(tree: PyTree) -> PyTree:
    """The same arrays, short ones in single precision."""
    return jax.tree.map(_widened, tree)


def stored_as(tree: PyTree, like: PyTree) -> PyTree:
    """Arrays in the formats of others, which are rounded where these are shorter."""
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype else jnp.asarray(x, y.dtype), tree, like)


def in_single_precision(apply: Callable[..., PyTree], *operands: PyTree) -> Callable[..., PyTree] | None:
    """The function of the same operands that rounds to no shorter format; None if `apply` doesn't either.

    Args:
        apply: traced, not run.
        *operands: whose shapes and formats the function is for.
    """
    jaxpr, output = jax.make_jaxpr(apply, return_shape=True)(*operands)
    if not _has_short(jaxpr):
        return None

    def wide(*operands: PyTree) -> PyTree:
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(operands)]
        return jax.tree.unflatten(jax.tree.structure(output), _evaluated(jaxpr, [*map(_widened, leaves)]))

    return jax.jit(wide)


def _widened(x: Any) -> Any:
    return jnp.asarray(x, jnp.float32) if is_short(jnp.result_type(x)) else x


def _evaluated(jaxpr: ClosedJaxpr | Jaxpr, operands: Sequence[Array]) -> list[Array]:
    return interpret(jaxpr, operands, _widened, _visit)


def _visit(eqn: JaxprEqn, operands: Sequence[Array]) -> Sequence[Array]:
    if not _names_short(eqn):
        return evaluate(eqn, operands)
    name = eqn.primitive.name
    if name == "reduce_precision":  # a cast by another name
        return operands
    if name in _BY_BITS or "callback" in name:
        avals: list[Any] = [atom.aval for atom in eqn.invars]
        own = [jnp.asarray(x, aval.dtype) for x, aval in zip(operands, avals, strict=True)]
        return [*map(_widened, evaluate(eqn, own))]
    return evaluate(eqn.replace(params={key: _wide(value) for key, value in eqn.params.items()}), operands)


def _wide(value: Any) -> Any:
    """A parameter of a primitive, with what it says of short formats said of single precision."""
    match value:
        case ClosedJaxpr() | Jaxpr():
            taken: list[Any] = [atom.aval for atom in open_jaxpr(value).invars]
            avals = [jax.ShapeDtypeStruct(x.shape, _wide(x.dtype)) for x in taken]
            return jax.make_jaxpr(lambda *operands: _evaluated(value, operands))(*avals)
        case tuple():
            members = [_wide(one) for one in value]
            return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
        case np.dtype() | type() if is_short(value):
            return jnp.dtype(jnp.float32)
    return value


def _names_short(eqn: JaxprEqn) -> bool:
    """Whether an equation, or a program that it runs, rounds to a short format."""
    if eqn.primitive.name == "reduce_precision":
        return True
    dtypes = (getattr(atom.aval, "dtype", None) for atom in (*eqn.invars, *eqn.outvars))
    return any(dtype is not None and is_short(dtype) for dtype in dtypes) or any(
        map(_has_short, _inside(eqn))
    )


def _inside(eqn: JaxprEqn) -> list[ClosedJaxpr | Jaxpr]:
    values = [x for value in eqn.params.values() for x in (value if isinstance(value, tuple) else (value,))]
    return [value for value in values if isinstance(value, ClosedJaxpr | Jaxpr)]


def _has_short(jaxpr: ClosedJaxpr | Jaxpr) -> bool:
    return any(map(_names_short, open_jaxpr(jaxpr).eqns))
