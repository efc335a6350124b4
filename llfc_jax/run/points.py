"""The runs that replicates and sweeps are made of: points of a product of fields' values."""

import copy
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from ml_collections import ConfigDict

from llfc_jax.errors import UserError
from llfc_jax.run import configuration

SEED, REPLICATES, MODEL, IMPORTED = "seed", "replicates", "model.name", "pair.a"

SWEEP = "sweep"
"""What a record of many runs has besides the configuration: field -> its values, as written."""

MOST = 1_000
"""More runs than anybody waits for."""

_IN_NAMES = "=,.()[]'+- "
"""What stays as it is in the name of a directory, besides letters and digits."""


class Axis(NamedTuple):
    """A field, and the values that it takes, as written."""

    field: str
    values: tuple[str, ...]


class Point(NamedTuple):
    """One run of many."""

    config: ConfigDict
    changes: tuple[tuple[str, str], ...]
    """Fields and values, as written, that make it of the configuration of all."""


def parse(flags: Iterable[str]) -> tuple[Axis, ...]:
    """Axes as `--sweep` takes them, FIELD=VALUE,VALUE,...; a comma in brackets is part of a value.

    Raises:
        UserError: one is none, or a field comes twice.

    Example:
        >>> parse(["train.spawn_epochs=0,0.5", "model.hidden=(64, 64),(128,)"])[1].values
        ('(64, 64)', '(128,)')
    """
    axes = tuple(map(_axis, flags))
    fields = [axis.field for axis in axes]
    for field in fields:
        if fields.count(field) > 1:
            raise UserError(f"--sweep {field}: expected all its values in one flag; found {field} twice")
    return axes


def points(config: ConfigDict, axes: Sequence[Axis]) -> dict[str, Point]:
    """Name, which is that of a directory -> one run, of all that the axes and `config.replicates` ask for.

    Seeds vary fastest. The name of a single run is empty: the directory is its own.

    Raises:
        UserError: there is no such field or value, two runs have one name, or networks from files are to be
            trained by several seeds.

    Example:
        >>> config = configuration.load("test", [("replicates", "2"), ("seed", "3")])
        >>> found = points(config, parse(["model.width=1,2"]))
        >>> list(found)[1:], found["model.width=2,seed=4"].config.model.width
        (['model.width=1,seed=4', 'model.width=2,seed=3', 'model.width=2,seed=4'], 2.0)
    """
    axes = sorted([*axes, *_replicates(config, axes)], key=_is_of_seeds)  # whose runs share their programs
    if (count := math.prod(len(axis.values) for axis in axes)) > MOST:
        raise UserError(f"--sweep: expected {MOST} runs at most; found {count}")
    found: dict[str, Point] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        changes = tuple(zip((axis.field for axis in axes), values, strict=True))
        point = Point(_changed(config, changes), changes)
        name = quote(
            ",".join(f"{field}={_shown(point.config, field)}" for field, _ in changes), safe=_IN_NAMES
        )
        if name in found:
            raise UserError(f"--sweep: expected different values; found {name} twice")
        if len(name.encode()) > configuration.LONGEST_NAME:
            raise UserError(f"--sweep: expected values that fit into the name of a directory; found {name}")
        found[name] = point
    return found


def grown(
    config: ConfigDict, axes: Sequence[Axis], earlier: Mapping[str, Sequence[str]], replicates: int
) -> tuple[ConfigDict, tuple[Axis, ...]]:
    """The configuration and the axes of a sweep, with the values and the replicates of an earlier one, too.

    Args:
        config: what the runs share.
        axes: of the sweep.
        earlier: the same fields -> their values, as written.
        replicates: how many there were.

    Example:
        >>> config = configuration.load("test", [])
        >>> _, axes = grown(config, parse(["model.width=2.0,4"]), {"model.width": ["1", "2"]}, 1)
        >>> axes[0].values
        ('1', '2', '4')
    """
    together = copy.deepcopy(config)
    together.replicates = max(config.replicates, replicates)
    return together, tuple(Axis(axis.field, _together(config, axis, earlier[axis.field])) for axis in axes)


def _together(config: ConfigDict, axis: Axis, earlier: Sequence[str]) -> tuple[str, ...]:
    """In the order of the axis, if it has all of the earlier values; else what is new comes last."""

    def meant(value: str) -> str:
        return _shown(_changed(config, [(axis.field, value)]), axis.field)

    own, known = ([*map(meant, values)] for values in (axis.values, earlier))
    if set(known) <= set(own):
        return axis.values
    return (*earlier, *(value for value, one in zip(axis.values, own, strict=True) if one not in known))


def _axis(flag: str) -> Axis:
    field, equals, written = flag.removeprefix("--config.").removeprefix("config.").partition("=")
    values = _split(written)
    if not (field and equals and all(values)):
        raise UserError(f"--sweep: expected FIELD=VALUE,VALUE,...; found {flag!r}")
    if field == REPLICATES:
        raise UserError("--sweep replicates: expected a field of single runs; seed=0,1,2 sweeps over seeds")
    return Axis(field, values)


def _is_of_seeds(axis: Axis) -> bool:
    return axis.field == SEED


def _split(text: str) -> tuple[str, ...]:
    """At the commas outside of brackets.

    Example:
        >>> _split("1,(2, 3),[4]"), _split("")
        (('1', '(2, 3)', '[4]'), ('',))
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return tuple(part.strip() for part in parts)


def _replicates(config: ConfigDict, axes: Sequence[Axis]) -> list[Axis]:
    """The axis of the seeds, where there are several."""
    fields = [axis.field for axis in axes]
    several = config.replicates > 1
    if several and SEED in fields:
        raise UserError(f"config.replicates={config.replicates} doesn't go with --sweep seed")
    imported = config.pair.a is not None or IMPORTED in fields
    if imported and (several or SEED in fields):
        raise UserError("config.pair.a and b: expected networks to train; those from files have no seed")
    seeds = range(config.seed, config.seed + config.replicates)
    return [Axis(SEED, tuple(map(str, seeds)))] if several else []


def _changed(config: ConfigDict, changes: Iterable[tuple[str, str]]) -> ConfigDict:
    changed = copy.deepcopy(config)
    changed.replicates = 1
    for field, value in changes:
        configuration.override(changed, field, value)
    return changed


def _shown(config: ConfigDict, field: str) -> str:
    """The value that a field has come to, alike for numbers that are equal."""
    value = config
    for name in field.split("."):
        value = value[name]
    return str(tuple(map(_plain, value)) if isinstance(value, tuple) else _plain(value))


def _plain(value: Any) -> Any:
    """Whole numbers without a fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
