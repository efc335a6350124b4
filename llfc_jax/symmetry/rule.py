"""What a rule of a primitive is, and the rule that is always safe."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from jax.extend.core import JaxprEqn

from llfc_jax.symmetry.factors import Axes, factors_of, fix, new_axes

Rule: TypeAlias = Callable[[JaxprEqn, Sequence[Axes]], Sequence[Axes]]
"""Equation, axes of its operands -> axes of its results, all stated that has to hold."""


def shape_of(atom: object) -> tuple[int, ...]:
    """Returns the shape of a jaxpr's variable or literal; () for what isn't an array."""
    return tuple(getattr(getattr(atom, "aval", None), "shape", ()))


def opaque(eqn: JaxprEqn, operands: Sequence[Axes]) -> Sequence[Axes]:
    """Fixes every axis of operands and results."""
    fix(factors_of(operands), eqn)
    return [new_axes(shape_of(result), fixed=eqn) for result in eqn.outvars]
