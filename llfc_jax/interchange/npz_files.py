"""NumPy's archives of arrays, `.npz`. Pickled objects in them are not read."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.reading import digest, readable
from llfc_jax.interchange.stored import Arrays, File, Stored, unreadable
from llfc_jax.storage import files


def recognises(path: Path, start: bytes) -> bool:
    """Whether a file is an archive."""
    del path
    return start.startswith(b"PK")


def read(path: Path) -> File:
    """All arrays, of which the headers are read.

    Raises:
        UserError: the file is damaged, or has no arrays.
    """
    stored: dict[str, Stored] = {}
    others: list[str] = []
    with readable(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                others.append(member.filename)
                continue
            with archive.open(member) as content:
                stored[member.filename.removesuffix(".npy")] = _stored(path, member, content)
    if not stored:
        raise UserError(f"{path}: expected arrays; found {', '.join(others[:5]) or 'none'}")
    return File(stored, "npz", digest(path), {}, True, {}, tuple(others))


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """The same arrays make the same file; there is no bfloat16, which is widened to float32."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, array in _widened(arrays).items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    files.write_bytes(path, content.getvalue())


def _stored(path: Path, member: zipfile.ZipInfo, content: Any) -> Stored:
    version = np.lib.format.read_magic(content)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(content)
    name = f"{path}: {member.filename.removesuffix('.npy')!r}"
    if dtype.hasobject:
        return unreadable(shape, str(dtype), f"{name}: expected an array; found pickled objects, not read")

    def load() -> np.ndarray:
        with readable(path), zipfile.ZipFile(path) as archive, archive.open(member) as content:
            return np.lib.format.read_array(content, allow_pickle=False)

    return Stored(shape, str(dtype), load)


def _widened(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """NumPy's own types alone."""
    return {
        name: array.astype(np.float32) if array.dtype == jnp.bfloat16 else array
        for name, array in arrays.items()
    }


FORMAT = Format("NumPy (.npz)", recognises, read, write, (".npz",), _widened)
