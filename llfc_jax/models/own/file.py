"""FILE.py:NAME: a Python file of the user's, and something in it."""

import contextlib
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from llfc_jax.errors import UserError, first_line
from llfc_jax.storage.paths import expand

FIELD = "config.model.name"


class Origin(NamedTuple):
    """Where a network comes from."""

    written: str
    """As in `config.model.name`."""
    path: Path
    name: str
    sha256: str


def origin(written: str, sha256: str | None = None) -> Origin:
    """The file, and what in it.

    Args:
        written: FILE.py:NAME.
        sha256: what the file has to be; None for any.

    Raises:
        UserError: there is no such file, or it is another one, or nothing in it is named.
    """
    found = re.fullmatch(r"(.+\.py):([^\W\d]\w*)", written)
    if found is None:
        raise UserError(f"{FIELD}: expected FILE.py:NAME; found {written}")
    path = expand(found[1], FIELD)
    found_digest = digest(path)
    if sha256 not in (None, found_digest):
        raise UserError(f"config.model.sha256: expected that of {path}, {found_digest}; found {sha256}")
    return Origin(written, path, found[2], found_digest)


def digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: it can't be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{FIELD}: {path}: {error.strerror or error}") from error


def load(found: Origin) -> Any:
    """What the file calls so.

    Raises:
        UserError: the file is at fault, or has no such name.
    """
    module = _module(found.path.resolve(), found.sha256, found.written)
    if not hasattr(module, found.name):
        theirs = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
        ]
        raise UserError(
            f"{FIELD}: {found.path} has no {found.name}; expected one of {', '.join(theirs) or 'nothing'}"
        )
    return getattr(module, found.name)


@cache
def _module(path: Path, sha256: str, written: str) -> ModuleType:
    """Run a file once; its directory is on the path from then on, as that of a script is."""
    name = f"llfc_jax_own_{sha256[:16]}"
    with at_fault(written, path):
        specification = importlib.util.spec_from_file_location(name, path)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module  # where dataclasses, Linen's modules among them, look for it
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        try:
            specification.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


@contextlib.contextmanager
def at_fault(written: str, path: Path) -> Iterator[None]:
    """Within it whatever the user's code raises becomes one line, with the place in the file.

    Raises:
        UserError: instead.
    """
    try:
        yield
    except UserError as error:
        if str(error).startswith("config."):
            raise
        reason = re.sub(r"^(from_torch|apply_train): ", "", str(error))
        raise UserError(f"{FIELD}={written}: {reason}") from error
    except SystemExit as stop:
        raise UserError(f"{FIELD}={written}: it ends the process, by sys.exit({stop.code!r})") from stop
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise
        where = _place(error, path.resolve())
        raise UserError(f"{FIELD}={written}: {where}{type(error).__name__}: {first_line(error)}") from error


def _place(error: Exception, path: Path) -> str:
    """FILE:LINE, of the last line of the user's that was run: in the file, else beside it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}: "
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    theirs = [(file, line) for file, line in frames if file.parent == path.parent]
    return f"{theirs[-1][0].name}:{theirs[-1][1]}: " if theirs else ""
