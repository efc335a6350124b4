"""What a `lax.scan` carries, what it takes apart and what it stacks, in an equation of any version of JAX.

Told by shapes: JAX keeps the numbers of operands in parameters that it names anew now and then.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.interpreter import open_jaxpr

Value = TypeVar("Value")


class Scan(NamedTuple):
    """A scan: its operands are constants, the first carry, and what its body takes one row of at a time.

    Its results are the last carry, and the rows that its body returns, stacked.
    """

    body: ClosedJaxpr | Jaxpr
    length: int
    reverse: bool
    num_consts: int
    num_carry: int

    def operands(self, values: Sequence[Value]) -> tuple[list[Value], list[Value], list[Value]]:
        """Of what the scan or its body takes: the constants, the carry, and what is taken apart."""
        end = self.num_consts + self.num_carry
        return list(values[: self.num_consts]), list(values[self.num_consts : end]), list(values[end:])

    def results(self, values: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        """Of what the scan or its body returns: the carry, and what is stacked."""
        return list(values[: self.num_carry]), list(values[self.num_carry :])


def scan_of(eqn: JaxprEqn) -> Scan:
    """The scan that an equation is.

    Example:
        >>> import jax
        >>> running = jax.make_jaxpr(lambda rows: jax.lax.scan(lambda sum, x: (sum + x, x), 0.0, rows))
        >>> scan_of(running(jax.numpy.ones(3)).eqns[-1])[1:]
        (3, False, 0, 1)
    """
    body = open_jaxpr(eqn.params["jaxpr"])
    num_apart = _num_longer(eqn.invars, body.invars)
    num_carry = len(eqn.outvars) - _num_longer(eqn.outvars, body.outvars)
    num_consts = len(eqn.invars) - num_carry - num_apart
    return Scan(eqn.params["jaxpr"], eqn.params["length"], eqn.params["reverse"], num_consts, num_carry)


def _num_longer(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many arrays have an axis more outside of the body than in it."""
    return sum(_num_axes(outer) > _num_axes(inner) for outer, inner in zip(outside, inside, strict=True))


def _num_axes(atom: Any) -> int:
    return len(getattr(atom.aval, "shape", ()))
