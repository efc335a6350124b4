"""What is linear in alpha, computed once at both ends instead of at every alpha.

The first layer sees the same input whatever alpha: its output W_alpha x + b_alpha is
(1 - alpha) (W_A x + b_A) + alpha (W_B x + b_B). A network's program is read to find all such values. Those
that depend on nothing but the input, such as normalised images, are computed once as well.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from llfc_jax.path.interpolation import lerp
from llfc_jax.program.interpreter import evaluate, interpret
from llfc_jax.types import Array, PyTree

_JOINTLY_LINEAR = {
    *("add", "sub", "neg", "reduce_sum", "reduce_window_sum", "add_any", "concatenate", "pad"),
    *("reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "rev", "copy"),
}
"""Linear in all operands at once."""
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}
"""Linear in each of two operands."""


class _Line(NamedTuple):
    """A value that is linear in alpha."""

    a: Array
    b: Array
    """At alpha = 1; `a` itself where the value doesn't depend on the network."""
    sees_input: bool

    @property
    def moves(self) -> bool:
        """Whether it depends on alpha."""
        return self.a is not self.b


def along_line(
    fn: Callable[[PyTree, Any], PyTree], a: PyTree, b: PyTree, inputs: Any
) -> Callable[[Array], PyTree]:
    """Prepare alpha -> fn(lerp(a, b, alpha), inputs), to be mapped over many alphas of one batch.

    Call it within `jit`: what XLA finds to be computed for A and B already it doesn't compute again.

    Args:
        fn: variables, inputs -> a pytree of arrays; pure.
        a: a pytree of arrays.
        b: a pytree of the same structure and shapes.
        inputs: what `fn` sees at every alpha, a pytree of arrays.

    Example:
        >>> product = along_line(lambda w, x: w * x, jnp.float32(1), jnp.float32(3), jnp.ones(2))
        >>> product(jnp.float32(0.5))
        Array([2., 2.], dtype=float32)
    """
    jaxpr, output = jax.make_jaxpr(fn, return_shape=True)(a, inputs)
    ends = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    hoisted: list[list[_Line] | None] = []

    def look_ahead(eqn: JaxprEqn, operands: list[_Line | None]) -> Sequence[_Line | None]:
        lines = _lines(eqn, operands)
        hoisted.append(lines if lines and lines[0].sees_input else None)
        return lines or [None] * len(eqn.outvars)

    operands: list[_Line | None] = [_on_line(*leaves) for leaves in ends]
    operands += [_fixed(leaf, sees_input=True) for leaf in jax.tree.leaves(inputs)]
    interpret(jaxpr, operands, partial(_fixed, sees_input=False), look_ahead)

    def at(alpha: Array) -> PyTree:
        remaining = iter(hoisted)

        def visit(eqn: JaxprEqn, operands: list[Array]) -> list[Array]:
            lines = next(remaining)
            if lines is None:
                return evaluate(eqn, operands)
            return [lerp(line.a, line.b, alpha) if line.moves else line.a for line in lines]

        leaves = interpret(jaxpr, jax.tree.leaves((lerp(a, b, alpha), inputs)), jnp.asarray, visit)
        return jax.tree.unflatten(jax.tree.structure(output), leaves)

    return at


def _on_line(a: Array, b: Array) -> _Line:
    return _Line(a, b.astype(a.dtype) if jnp.issubdtype(a.dtype, jnp.inexact) else a, sees_input=False)


def _fixed(value: Any, sees_input: bool) -> _Line:
    return _Line(value, value, sees_input)


def _lines(eqn: JaxprEqn, operands: list[_Line | None]) -> list[_Line] | None:
    """The results of an operation, if they are linear in alpha."""
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands) or eqn.effects:
        return None
    moving = [operand.moves for operand in known]
    if not _keeps_lines(eqn.primitive.name, moving):
        return None
    of_a = evaluate(eqn, [operand.a for operand in known])
    of_b = evaluate(eqn, [operand.b for operand in known]) if any(moving) else of_a
    sees_input = any(operand.sees_input for operand in known)
    return [_Line(*results, sees_input) for results in zip(of_a, of_b, strict=True)]


def _keeps_lines(primitive: str, moving: list[bool]) -> bool:
    if not any(moving) or primitive in _JOINTLY_LINEAR:
        return True
    return sum(moving) == 1 and (primitive in _PRODUCTS or (primitive == "div" and moving[0]))
