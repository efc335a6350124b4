"""The two networks of `config.pair`, and the one architecture that both are run as."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.interchange import Source, conventions, read_own, read_variables
from llfc_jax.models.model import Model
from llfc_jax.storage.paths import expand
from llfc_jax.types import Variables

NAMES = ("a", "b")

_ROWS = 12
"""Of the table that says which layer is which."""

Given = Mapping[str, tuple[Variables, Source]]
"""`a` and `b`, and where each came from."""


def files(config: ConfigDict) -> dict[str, Path]:
    """Where `a` and `b` are.

    Raises:
        UserError: one of them isn't there.
    """
    paths = {name: expand(config.pair[name], f"config.pair.{name}") for name in NAMES}
    for name, path in paths.items():
        if not path.exists():
            raise UserError(f"config.pair.{name}: {path}: no such file or directory")
    return paths


def load(
    config: ConfigDict,
    paths: Mapping[str, Path],
    network: Model,
    input_shape: tuple[int, ...],
    num_classes: int,
) -> tuple[Model, Given]:
    """Read both files; a network of the zoo is built anew by the conventions of the programs that wrote them.

    A field of `config.model` that is set says more than the convention.

    Raises:
        UserError: a file can't be read, or doesn't fit the model; or the files are of programs whose
            conventions differ.
    """
    entry = config.pair.entry or None
    given = {name: _read(path, name, entry, network, input_shape) for name, path in paths.items()}
    if not isinstance(network, models.Network):
        return network, given
    model = config.model.to_dict()
    for field in {field: None for _, source in given.values() for field in source["conventions"]}:
        if model[field] is None:
            model[field] = _agreed(field, given)
    return models.build(model, input_shape, num_classes), given


def describe(network: Model, source: Source) -> Iterator[str]:
    """What a user should know of an import, a line each."""
    yield from source.get("notes", ())
    pairing = source.get("pairing", ())
    for ours, theirs in pairing[:_ROWS]:
        yield f"{ours:16} is {theirs}"
    if len(pairing) > _ROWS:
        yield f"... {len(pairing) - _ROWS} more, as results.json lists them"
    described = conventions.described(network) if isinstance(network, models.Network) else {}
    fields = ", ".join(f"{field}={value}" for field, value in described.items())
    if fields:
        yield f"it is run with {fields} (config.model.…): no file says so, {source['framework']} wrote it"


def _read(
    path: Path, name: str, entry: str | None, network: Any, input_shape: tuple[int, ...]
) -> tuple[Variables, Source]:
    try:
        if isinstance(network, models.OwnNetwork):
            return read_own(path, network, entry=entry)
        return read_variables(path, network, input_shape, entry=entry)
    except UserError as error:
        raise UserError(f"config.pair.{name}: {error}") from error


def _agreed(field: str, given: Given) -> Any:
    """What both files' programs do.

    Raises:
        UserError: they differ.
    """
    (_, a), (_, b) = (given[name] for name in NAMES)
    one, other = (source["conventions"].get(field) for source in (a, b))
    if one is not None and other is not None and one != other:
        raise UserError(
            f"config.model.{field}: a is from {a['framework']} ({one}), b from {b['framework']} ({other}), "
            "and one architecture can't be both: set it"
        )
    return other if one is None else one
