"""Files of safetensors, which keep no order."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from llfc_jax.errors import UserError
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.reading import digest, readable
from llfc_jax.interchange.stored import File, Stored, in_natural_order, unreadable
from llfc_jax.storage import files

_TYPES: dict[str, Any] = {
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(bool),
    "BF16": jnp.bfloat16,
    "C64": np.dtype("complex64"),
}


def recognises(path: Path, start: bytes) -> bool:
    """Whether a file has a header in JSON behind that header's length."""
    del path
    return start[8:9] == b"{"


def read(path: Path) -> File:
    """All tensors, of which the header is read.

    Raises:
        UserError: the file is damaged, or has no tensors.
    """
    with readable(path):
        with safetensors.safe_open(path, "np") as content:  # checks the whole header
            content.keys()
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    stored = {name: _stored(path, name, one, 8 + length) for name, one in header.items()}
    if not stored:
        raise UserError(f"{path}: expected arrays; found none")
    return File(in_natural_order(stored), "safetensors", digest(path), {}, False, {})


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """The same arrays make the same file.

    Raises:
        UserError: the format has no such arrays.
    """
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in contiguous.items():
        if array.dtype not in [np.dtype(kind) for kind in _TYPES.values()]:
            raise UserError(f"{path}: safetensors have no {array.dtype}, which {name!r} is; choose npz")
    files.write_bytes(path, safetensors.numpy.save(contiguous))


def _stored(path: Path, name: str, header: Mapping[str, Any], start: int) -> Stored:
    shape, kind, (begin, end) = tuple(header["shape"]), header["dtype"], header["data_offsets"]
    if kind not in _TYPES:
        title = "float8" if kind.startswith("F8") else kind
        return unreadable(shape, title, f"{path}: {name!r}: {title} is not supported")
    dtype = np.dtype(_TYPES[kind])

    def load() -> np.ndarray:
        with readable(path), path.open("rb") as file:
            file.seek(start + begin)
            return np.frombuffer(file.read(end - begin), dtype).reshape(shape)

    return Stored(shape, str(dtype), load)


FORMAT = Format("safetensors", recognises, read, write, (".safetensors",))
