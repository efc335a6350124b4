"""What doesn't lie on a line: networks may differ in counters and keys, but not in integer weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from llfc_jax.errors import UserError
from llfc_jax.program.interpreter import interpret
from llfc_jax.symmetry import readable_path
from llfc_jax.types import PyTree


def check_integers_unread(fn: Callable[[PyTree, Any], PyTree], a: PyTree, b: PyTree, inputs: Any) -> None:
    """Check that nothing depends on an array of integers in which A and B differ.

    Between the two there is none to put there: `lerp` keeps A's, and a path would jump at its end.

    Args:
        fn: variables, inputs -> a pytree of arrays; pure. It is traced, not run.
        a: a pytree of arrays.
        b: a pytree of the same structure and shapes.
        inputs: what `fn` sees.

    Raises:
        UserError: names the first that the outputs depend on.

    Example:
        >>> a, b = ({"w": jnp.ones(2), "step": jnp.int32(step)} for step in (1, 2))
        >>> check_integers_unread(lambda v, x: v["w"] * x, a, b, jnp.ones(2))
    """
    named = jax.tree.leaves_with_path(a)
    differ = [_differ(x, y) for (_, x), y in zip(named, jax.tree.leaves(b), strict=True)]
    if not any(differ):
        return
    jaxpr = jax.make_jaxpr(fn)(a, inputs)
    unread: frozenset[int] = frozenset()

    def visit(eqn: JaxprEqn, read: list[frozenset[int]]) -> list[frozenset[int]]:
        return [unread.union(*read)] * len(eqn.outvars)

    leaves = [frozenset({index}) if differs else unread for index, differs in enumerate(differ)]
    operands = leaves + [unread] * (len(jaxpr.in_avals) - len(leaves))
    for index in sorted(unread.union(*interpret(jaxpr, operands, lambda _: unread, visit))):
        path, leaf = named[index]
        where, found = readable_path(jax.tree_util.keystr(path)), jnp.result_type(leaf)
        raise UserError(
            f"{where}: expected floating-point numbers, which can be interpolated; found {found}, in which "
            "A and B differ and on which the outputs depend"
        )


def _differ(x: Any, y: Any) -> bool:
    moves = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return not moves and not bool(jnp.all(jnp.asarray(x) == jnp.asarray(y)))
