"""Where in a user's program an equation comes from."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.interpreter import called_jaxpr, open_jaxpr
from llfc_jax.symmetry.factors import Reason, TooManyParts

_LIBRARIES = ("jax", "flax", "equinox", "torchax", "optax")
"""Folders of libraries, whose lines tell nothing of a user's model."""

Calls: TypeAlias = tuple[JaxprEqn, ...]
"""An equation and the calls that it is in, innermost first."""

Lines: TypeAlias = Mapping[int, list[Calls]]
"""Identity of an equation -> everywhere that the program runs it."""


def shown(reason: Reason, lines: Lines) -> str:
    """What holds something fixed, as it is shown to people: a primitive, with its lines."""
    if isinstance(reason, TooManyParts):
        return f"too many parts in {shown(reason.why, lines)}"
    if isinstance(reason, str):
        return reason
    found = (next(filter(None, map(_user_line, calls)), "") for calls in lines.get(id(reason), ()))
    places = ", ".join(dict.fromkeys(filter(None, found)))
    return f"{reason.primitive.name} ({places})" if places else str(reason.primitive.name)


def lines_of(jaxpr: ClosedJaxpr | Jaxpr) -> Lines:
    """Where every equation is; one of a library's function is on the lines of the calls of it."""
    lines: dict[int, list[Calls]] = {}
    _collect(jaxpr, (), lines)
    return lines


def _collect(jaxpr: ClosedJaxpr | Jaxpr, outer: Calls, lines: dict[int, list[Calls]]) -> None:
    for eqn in open_jaxpr(jaxpr).eqns:
        calls = (eqn, *outer)
        lines.setdefault(id(eqn), []).append(calls)
        called = called_jaxpr(eqn)
        for value in eqn.params.values() if called is None else (called,):
            for inner in value if isinstance(value, tuple) else (value,):
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    _collect(inner, calls, lines)


def _user_line(eqn: JaxprEqn) -> str:
    traceback = eqn.source_info.traceback
    frames: Sequence[Any] = traceback.frames if traceback else ()
    for frame in frames:
        path = PurePath(frame.file_name)
        if not {*path.parts[:-1]} & {*_LIBRARIES}:
            return f"{path.name}:{frame.line_num}"
    return ""
