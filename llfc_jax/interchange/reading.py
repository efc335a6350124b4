"""What every format does with a file: its digest, and what damage makes libraries raise as one line."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from llfc_jax.errors import UserError, first_line


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into one line.

    Raises:
        UserError: it is damaged, or claims more than there is room for.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: there is not enough memory for what it claims to hold") from error
    except Exception as error:
        raise UserError(f"{path} is damaged, or not what its name says ({first_line(error)})") from error


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
