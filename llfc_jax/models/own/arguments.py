"""The arguments of a network of the user's own, by the signature of what makes it."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from llfc_jax.errors import UserError

_FIELD = "config.model.args"
_FLAX = ("parent", "name")
"""What every Linen module has besides its own."""


def arguments(
    make: Callable[..., Any], name: str, given: Mapping[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    """What to call `make` with.

    Args:
        make: a class or a function.
        name: what it is called.
        given: `config.model.args`, as the command line reads them: numbers, words, lists, True, None.
        known: what is filled in where `make` has such an argument and no default for it.

    Raises:
        UserError: an argument is unknown, missing, or of another kind than its default.

    Example:
        >>> arguments(lambda width, rate=0.1: None, "Net", {"width": 3, "rate": 1}, {})
        {'width': 3, 'rate': 1.0}
    """
    parameters = {one.name: one for one in asked_for(make) if one.name not in _FLAX or one.name in given}
    kinds = {one.kind for one in parameters.values()}
    named = [name for name, one in parameters.items() if one.kind in _NAMED]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for argument in given:
            if argument not in named:
                close = difflib.get_close_matches(argument, named, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise UserError(
                    f"{_FIELD}.{argument}: {name} has no such argument; {hint}expected one of "
                    f"{', '.join(named) or 'none'}"
                )
    found = {
        argument: _fitted(argument, value, parameters[argument].default) if argument in parameters else value
        for argument, value in given.items()
    }
    for argument in named:
        if argument not in found and parameters[argument].default is inspect.Parameter.empty:
            if argument not in known:
                raise UserError(
                    f"{_FIELD}.{argument}: expected a value, for which {name} has no default; found none"
                )
            found[argument] = known[argument]
    return found


def asked_for(make: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a function, or of a class: of its `__init__`, which metaclasses may hide."""
    if inspect.isclass(make):
        return list(inspect.signature(make.__init__).parameters.values())[1:]  # type: ignore[misc]
    return list(inspect.signature(make).parameters.values())


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _fitted(argument: str, value: Any, default: Any) -> Any:
    """A value in the type of the default."""
    if value is None or default is None or default is inspect.Parameter.empty:
        return value
    kind, found = type(default), type(value)
    if found is kind:
        return value
    if kind is float and found is int:
        return float(value)
    if kind is str and found in (int, float, bool):
        return str(value)
    if kind is bool and str(value).lower() in ("true", "false", "0", "1"):
        return str(value).lower() in ("true", "1")
    if kind in (tuple, list):
        return kind(value) if found in (tuple, list) else kind([value])
    if kind in (int, float, bool, str):
        raise UserError(f"{_FIELD}.{argument}: expected {_KINDS[kind]}, as {default!r} is; found {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
