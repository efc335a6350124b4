"""Where in a user's program an equation comes from."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.interpreter import open_jaxpr
from llfc_jax.symmetry.factors import Reason

_LIBRARIES = ("jax", "flax", "equinox", "torchax", "optax")
"""Folders of libraries, whose lines tell nothing of a user's model."""

Lines: TypeAlias = Mapping[int, dict[str, None]]
"""Identity of an equation -> the lines of the user's program that run it, as keys."""


def shown(reason: Reason, lines: Lines) -> str:
    """What holds something fixed, as it is shown to people: a primitive, with its lines."""
    if isinstance(reason, str):
        return reason
    found = ", ".join(lines.get(id(reason), ()))
    return f"{reason.primitive.name} ({found})" if found else str(reason.primitive.name)


def lines_of(jaxpr: ClosedJaxpr | Jaxpr) -> Lines:
    """The lines of every equation; an equation of a library's function has those of the calls of it."""
    lines: dict[int, dict[str, None]] = {}
    _collect(jaxpr, (), lines)
    return lines


def _collect(jaxpr: ClosedJaxpr | Jaxpr, outer: tuple[str, ...], lines: dict[int, dict[str, None]]) -> None:
    for eqn in open_jaxpr(jaxpr).eqns:
        own = _user_line(eqn) or outer
        lines.setdefault(id(eqn), {}).update(dict.fromkeys(own))
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple) else (value,):
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    _collect(inner, own, lines)


def _user_line(eqn: JaxprEqn) -> tuple[str, ...]:
    traceback = eqn.source_info.traceback
    frames: Sequence[Any] = traceback.frames if traceback else ()
    for frame in frames:
        path = PurePath(frame.file_name)
        if not {*path.parts[:-1]} & {*_LIBRARIES}:
            return (f"{path.name}:{frame.line_num}",)
    return ()
