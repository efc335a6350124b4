"""Whether what was read is what `results.schema` says; one line where it isn't."""

import functools
import itertools
import types
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    NotRequired,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from llfc_jax.errors import UserError
from llfc_jax.results.schema import FILLED, PARALLEL, SCHEMA_VERSION, Overview, Results

_AXES = ("alphas", "epoch")
"""What lists may be parallel to."""

_LARGEST = 1e300
"""A number beyond this has no place in float64."""

_NAMES: dict[Any, str] = {
    float: "a number", int: "an integer", str: "a text", bool: "true or false", type(None): "null"
}  # fmt: skip


def check(results: Any) -> Results | Overview:
    """The results as they came, found to be complete and of the right types.

    Args:
        results: what was read from `results.json`, of a run or, where there are `groups`, of many.

    Raises:
        UserError: names the entry at fault, what was expected and what was found.
    """
    found = results.get("schema_version") if isinstance(results, Mapping) else None
    if found != SCHEMA_VERSION:
        raise UserError(f"no schema_version {SCHEMA_VERSION}, the only one that this release reads")
    if "groups" in results:
        _conform(results, Overview, "", None)
        return cast(Overview, results)
    _conform(results, Results, "", None)
    for measure in _types(Results):
        entries = results.get(measure)
        if isinstance(entries, Mapping) and measure != "config":  # whose alphas are as the user wrote them
            _check_alike(measure, entries)
    return cast(Results, results)


def _check_alike(measure: str, entries: Mapping[str, Any]) -> None:
    """All paths of a measure have the same layers; alphas rise from path to path as they should."""
    first = None
    for path, entry in entries.items():
        if not isinstance(entry, Mapping):
            return
        alphas = entry.get("alphas", [])
        rising = all(x < y for x, y in itertools.pairwise(alphas))
        if not rising or not all(0 <= alpha <= 1 for alpha in alphas):
            raise _wrong(f"{measure}.{path}.alphas", "rising numbers in [0, 1]", alphas)
        if measure == "lmc" and not ({0, 1} <= {*alphas}):
            raise _wrong(f"{measure}.{path}.alphas", "0 and 1 among them", alphas)
        layers = [layer["layer"] for layer in entry.get("layers", [])]
        first = layers if first is None else first
        if layers != first:
            raise _wrong(f"{measure}.{path}.layers", "those of the first path", f"{len(layers)} others")


def _conform(value: Any, kind: Any, where: str, length: int | None) -> None:
    """Check a value against a type.

    Args:
        value: what was found.
        kind: what is expected: a type that occurs in the schema.
        where: the entry's name.
        length: of the lists that are parallel to an axis above.
    """
    if kind is Any:
        return
    if get_origin(kind) is Annotated:
        base, mark = get_args(kind)
        _conform(value, base, where, length)
        _check_mark(value, mark, where, length)
    elif is_typeddict(kind):
        _conform_entries(value, kind, where, length)
    elif get_origin(kind) is dict:
        key_kind, value_kind = get_args(kind)
        for key, item in _mapping(value, where).items():
            _conform(key, key_kind, f"{where}.{key}".lstrip("."), length)
            _conform(item, value_kind, f"{where}.{key}".lstrip("."), length)
    elif get_origin(kind) is list:
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        for index, item in enumerate(value):
            _conform(item, get_args(kind)[0], f"{where}[{index}]", length)
    elif not any(_is_a(value, one) for one in _alternatives(kind)):
        raise _wrong(where, " or ".join(_NAMES[one] for one in _alternatives(kind)), value)


def _conform_entries(value: Any, kind: Any, where: str, length: int | None) -> None:
    entries, hints = _mapping(value, where), _types(kind)
    for axis in _AXES:
        if axis in hints and isinstance(entries.get(axis), list):
            length = len(entries[axis])
    for name, expected in hints.items():
        inside = f"{where}.{name}".lstrip(".")
        if name in entries:
            _conform(entries[name], expected, inside, length)
        elif name in kind.__required_keys__:
            raise UserError(f"{inside}: expected {'one' if where else 'this entry'}; found none")


def _check_mark(value: Any, mark: Any, where: str, length: int | None) -> None:
    if mark == FILLED and not value:
        raise _wrong(where, "one entry at least", value)
    if mark == PARALLEL and length is not None and len(value) != length:
        raise UserError(
            f"{where}: expected {length} entries, as many as alphas or epochs; found {len(value)}"
        )
    if callable(mark):
        try:
            mark(value)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind in (float, int):
        return isinstance(value, int if kind is int else int | float) and abs(value) < _LARGEST
    return isinstance(value, kind)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


@functools.cache
def _types(kind: Any) -> dict[str, Any]:
    """Entry -> its type, that within `NotRequired`."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: get_args(one)[0] if get_origin(one) is NotRequired else one for name, one in hints.items()}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object", value)
    return value


def _wrong(where: str, expected: str, found: Any) -> UserError:
    shown = repr(found)
    return UserError(
        f"{where}: expected {expected}; found {shown if len(shown) <= 60 else shown[:57] + '...'}"
    )
