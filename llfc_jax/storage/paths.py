"""Paths as users write them."""

import os
from pathlib import Path

from llfc_jax.errors import UserError


def is_in_file(name: str) -> bool:
    """Whether a name is FILE.py:NAME, of something in a file of Python.

    Example:
        >>> is_in_file("nets/mynet.py:Net"), is_in_file("mynet.py"), is_in_file("vgg16")
        (True, True, False)
    """
    return name.partition(":")[0].endswith(".py")


def expand(path: str | Path, field: str) -> Path:
    """The path with `~` and `~user` replaced by a home directory, which shells leave alone after `--flag=`.

    Args:
        path: as written.
        field: what an error names.

    Raises:
        UserError: there is no such user, no file can have such a name, or libraries of C++, which take it for
            UTF-8, would look for another.
    """
    try:
        expanded = Path(path).expanduser()
        is_utf8 = _is_utf8(expanded.absolute())
        if is_utf8:
            expanded.exists()
        if "\0" in str(expanded):
            raise ValueError("embedded null character")
    except RuntimeError as error:
        raise UserError(f"{field}={str(path)!r}: no home directory of such a user") from error
    except (OSError, ValueError) as error:  # too long, not permitted, or with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{field}={str(path)!r}: {reason}") from error
    if not is_utf8:
        raise UserError(
            f"{field}={str(path)!r}: expected a name in UTF-8, and a locale (LC_ALL) that says so"
        )
    return expanded


def _is_utf8(path: Path) -> bool:
    try:
        return os.fsencode(path) == str(path).encode()
    except UnicodeEncodeError:
        return False
