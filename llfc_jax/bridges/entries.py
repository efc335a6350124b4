"""The arrays within what a module returns, by name."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llfc_jax.errors import UserError

LOGITS = "logits"
"""The entry that is the outputs where a module returns several and none was asked for."""


def entries(value: Any, is_array: Callable[[Any], bool]) -> dict[str, Any]:
    """The arrays of nested tuples, mappings and dataclasses by their paths; of a lone array, by the name "".

    Example:
        >>> entries({"logits": 1.0, "cache": (None, 2.0, [3.0])}, lambda value: isinstance(value, float))
        {'logits': 1.0, 'cache.1': 2.0, 'cache.2.0': 3.0}
    """
    return {".".join(path): array for path, array in _walk(value, is_array, ())}


def _walk(
    value: Any, is_array: Callable[[Any], bool], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if is_array(value):
        yield path, value
        return
    for name, item in _items(value):
        yield from _walk(item, is_array, (*path, name))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        yield from ((str(index), item) for index, item in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def chosen(found: Mapping[str, Any], output: str | int | None, where: str) -> str:
    """The name of the entry that is the network's outputs.

    Args:
        found: what a module returns, by name, with shape and dtype.
        output: a name, or a position in a tuple; `None`: the only one, or `logits`.
        where: what `output` is called by the caller, for messages.

    Raises:
        UserError: there is no such entry, or several where none was asked for.
    """
    listed = ", ".join(
        f"{name or 'the array'} {array.dtype}{list(array.shape)}" for name, array in found.items()
    )
    if not found:
        raise UserError(f"{where}: expected a module that returns arrays; found none in what it returns")
    if output is not None:
        if str(output) not in found:
            raise UserError(f"{where}: expected one of {listed}; found {output}")
        return str(output)
    if len(found) == 1:
        return next(iter(found))
    if LOGITS in found:
        return LOGITS
    raise UserError(f"{where}: expected the name of one, as the module returns several: {listed}; found none")
