"""The directory of one run: who owns it, and files that are either whole or absent."""

import json
import math
import os
from pathlib import Path
from typing import Any

from llfc_jax.errors import UserError

CONFIG, RESULTS = "config.json", "results.json"


def claim(workdir: Path, config: dict[str, Any]) -> None:
    """Make `workdir` the place of this configuration, or check that it already is.

    Raises:
        UserError: it belongs to another configuration, or can't be written.
    """
    config = json.loads(json.dumps(config))
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not (workdir / CONFIG).exists():
            write_json(workdir / CONFIG, config)
    except OSError as error:
        raise UserError(f"--workdir={workdir} can't be written: {error.strerror}") from error
    owner = read_json(workdir / CONFIG)
    if owner != config:
        field, theirs, ours = _first_difference(owner, config)
        raise UserError(
            f"--workdir={workdir} belongs to another run: config.{field} was {theirs!r} there "
            f"and is {ours!r} now; choose another --workdir"
        )


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with NaN and infinities as null; a reader sees the old file or the new one."""
    text = json.dumps(_without_nan(tree), indent=1, allow_nan=False)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it to make it again") from error


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_nan(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _first_difference(theirs: Any, ours: Any, field: str = "") -> tuple[str, Any, Any]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in [*ours, *theirs]:
            if theirs.get(name) != ours.get(name):
                return _first_difference(theirs.get(name), ours.get(name), f"{field}.{name}".lstrip("."))
    return field, theirs, ours
