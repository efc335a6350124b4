"""Evaluating a jaxpr over any kind of value: axis identities, arrays, or both at once."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from llfc_jax.types import Array

Value = TypeVar("Value")

_CONTROL_FLOW = ("cond", "scan", "while")
"""Primitives that may run a jaxpr many times or never, even where one fits their operands."""


def _unstacked(array: Array, *, axis: int) -> list[Array]:
    return [jax.lax.index_in_dim(array, i, axis, keepdims=False) for i in range(array.shape[axis])]


def _stacked(*arrays: Array, axis: int) -> list[Array]:
    return [jax.lax.concatenate([jax.lax.expand_dims(array, [axis]) for array in arrays], axis)]


_MADE_OF: Mapping[str, Callable[..., list[Array]]] = {"stack": _stacked, "unstack": _unstacked}
"""Primitives since JAX 0.12 -> the older ones that do the same."""


def interpret(
    jaxpr: ClosedJaxpr | Jaxpr,
    operands: Sequence[Value],
    constant: Callable[[Any], Value],
    visit: Callable[[JaxprEqn, list[Value]], Sequence[Value]],
) -> list[Value]:
    """Evaluates a jaxpr, entering the jaxprs that it calls; what a value is, the two functions decide.

    Args:
        jaxpr: the program.
        operands: the values of its inputs.
        constant: array -> value. Called anew at each use of a constant.
        visit: equation, values of its operands -> values of its results. Sees primitives in the order of
            evaluation, control flow among them, but no calls.

    Returns:
        The values of the outputs.
    """
    body = open_jaxpr(jaxpr)
    constants = dict(zip(body.constvars, getattr(jaxpr, "consts", ()), strict=True))
    values = dict(zip(body.invars, operands, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            return constant(atom.val)
        return constant(constants[atom]) if atom in constants else values[atom]

    for eqn in body.eqns:
        arguments = [read(atom) for atom in eqn.invars]
        if (called := called_jaxpr(eqn)) is not None:
            results: Sequence[Value] = interpret(called, arguments, constant, visit)
        else:
            results = visit(eqn, arguments)
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in body.outvars]


def called_jaxpr(eqn: JaxprEqn) -> ClosedJaxpr | Jaxpr | None:
    """The jaxpr that an equation evaluates on its operands and whose results it returns, if it is a call.

    Not told by name, so that composites, custom derivatives and batching rules, checkpoints and what JAX will
    add are all entered: a call carries one jaxpr, and this takes the operands and returns the results. What
    carries none, but is made of other operations, is expanded: since JAX 0.12 `jnp.interp`, `jnp.digitize`
    and `jax.lax.custom_root` are. So is what is new and does what slices and concatenations do.
    """
    carried = [value for value in eqn.params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
    if eqn.primitive.name in _MADE_OF:
        return _expanded(eqn)
    if not carried and eqn.primitive.is_high(*(atom.aval for atom in eqn.invars), **eqn.params):
        return _expanded(eqn)
    if len(carried) != 1 or eqn.primitive.name in _CONTROL_FLOW:
        return None
    body = open_jaxpr(carried[0])
    fits = _shapes(body.invars) == _shapes(eqn.invars) and _shapes(body.outvars) == _shapes(eqn.outvars)
    return carried[0] if fits else None


@lru_cache(maxsize=256)
def _expanded(eqn: JaxprEqn) -> ClosedJaxpr:
    """The operations that one is made of; the same object each time, since equations are told by identity."""

    def expand(*operands: Array) -> Sequence[Array]:
        made_of = _MADE_OF.get(eqn.primitive.name, eqn.primitive.to_lojax)
        return made_of(*operands, **eqn.params)

    avals: list[Any] = [atom.aval for atom in eqn.invars]
    with eqn.ctx.manager:
        return jax.make_jaxpr(expand)(
            *(jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=x.weak_type) for x in avals)
        )


def _shapes(atoms: Sequence[Any]) -> list[tuple[int, ...] | None]:
    return [getattr(atom.aval, "shape", None) for atom in atoms]


def evaluate(eqn: JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """The arrays that an equation makes of arrays, in the context in which it was traced."""
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
    return results if eqn.primitive.multiple_results else [results]


def open_jaxpr(jaxpr: ClosedJaxpr | Jaxpr) -> Jaxpr:
    """Returns a jaxpr without the constants that close it."""
    return jaxpr.jaxpr if hasattr(jaxpr, "jaxpr") else jaxpr
