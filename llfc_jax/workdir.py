"""The directory of one run: who owns it, and files that are either whole or absent."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llfc_jax.errors import UserError

CONFIG, RESULTS = "config.json", "results.json"


def check_owner(workdir: Path, config: dict[str, Any]) -> None:
    """Check that `workdir` belongs to this configuration, or to none yet.

    Raises:
        UserError: it belongs to another one.
    """
    if not (workdir / CONFIG).exists():
        return
    config, owner = json.loads(json.dumps(config)), read_json(workdir / CONFIG)
    if owner != config:
        field, theirs, ours = _first_difference(owner, config)
        raise UserError(
            f"{workdir} belongs to another run: config.{field} was {theirs!r} there and is {ours!r} now; "
            f"choose another directory{_hint(workdir, field)}"
        )


def _hint(workdir: Path, field: str) -> str:
    """How to measure the networks of a run in another way, where no other training is asked for."""
    if field.partition(".")[0] not in ("measures", "lmc", "llfc", "align", "merge", "corrections", "eval"):
        return ""
    a, b = (f"--config.pair.{name}={workdir / 'checkpoints' / name}" for name in "ab")
    return f", and to take its networks as they are, add {a} {b}"


def claim(workdir: Path, config: dict[str, Any]) -> None:
    """Make `workdir` the place of this configuration.

    Raises:
        UserError: it belongs to another configuration, or can't be written.
    """
    check_owner(workdir, config)
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        if not (workdir / CONFIG).exists():
            write_json(workdir / CONFIG, config)


@contextlib.contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Name the workdir in whatever the operating system refuses.

    Raises:
        UserError: it did, as on a full disk.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{workdir} can't be written: {error.strerror or error}") from error


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with NaN and infinities as null, whole or not at all."""
    write_text(path, json.dumps(_without_nan(tree), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; whatever happens meanwhile, a reader sees the old one or the new one."""
    beside = path.with_name(f"{path.name}.tmp")
    try:
        beside.write_bytes(content)
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
