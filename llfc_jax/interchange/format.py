"""What a format of files is: how one is told, read and written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llfc_jax.interchange.stored import Arrays, File


def _as_they_are(arrays: Mapping[str, np.ndarray]) -> Arrays:
    return dict(arrays)


class Format(NamedTuple):
    """A format of files, or of directories, that hold arrays by name."""

    title: str
    """What messages call it."""
    recognises: Callable[[Path, bytes], bool]
    """Path, first 64 bytes (of a directory, none) -> whether it is one, or a damaged one."""
    read: Callable[[Path], File]
    """Raises UserError; may raise OSError."""
    write: Callable[[Path, Mapping[str, np.ndarray]], None] | None = None
    """Whole or not at all; raises UserError; may raise OSError. None: the format is read only."""
    suffixes: tuple[str, ...] = ()
    """That a file has to have to be written; none: a directory, of any name."""
    kept: Callable[[Mapping[str, np.ndarray]], Arrays] = _as_they_are
    """Arrays -> what is read of them once they are written."""
