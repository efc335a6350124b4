"""Files that are either whole or absent, whatever happens while they are written."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llfc_jax.errors import UserError


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Name the directory in whatever the operating system refuses.

    Raises:
        UserError: it did, as on a full disk.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{directory} can't be written: {error.strerror or error}") from error


def forbidden(place: Path) -> Path | None:
    """The first file or directory, in and below a place, that this user may not read.

    Many libraries take what they may not read for absent or damaged.
    """
    below = (Path(at, name) for at, directories, names in os.walk(place) for name in (*directories, *names))
    return next((path for path in (place, *below) if not _may_be_read(path)), None)


def check_writable(directory: Path) -> None:
    """Check a directory before work that shall end in it.

    Raises:
        UserError: it can't be written.
    """
    if not os.access(directory, os.W_OK):
        raise UserError(f"{directory} can't be written: no permission, or a read-only file system")


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with NaN and infinities as null, whole or not at all."""
    write_text(path, json.dumps(_without_nan(tree), indent=1, allow_nan=False) + "\n")


def plain(tree: Any) -> Any:
    """A tree as it is when it has been written as JSON and read again."""
    return json.loads(json.dumps(_without_nan(tree), allow_nan=False))


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
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it to make it again") from error


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_nan(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _may_be_read(path: Path) -> bool:
    if not os.path.exists(path):
        return True
    return os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK)
