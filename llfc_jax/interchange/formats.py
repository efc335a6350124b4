"""Files of named arrays: NumPy's, safetensors, PyTorch's, Flax's msgpack, and directories of Orbax.

The content is told by its first bytes, whatever the file is called. No file can run code: NumPy and PyTorch
are told to refuse pickled objects, the other formats have none. No file can fill the memory: shapes are read
first, and an array only when a network asks for it.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import flax.serialization
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from llfc_jax.errors import UserError
from llfc_jax.interchange import orbax_files, torch_files
from llfc_jax.interchange.reading import readable
from llfc_jax.interchange.stored import (
    Arrays,
    File,
    Stored,
    flatten,
    in_memory,
    in_natural_order,
    unreadable,
)
from llfc_jax.storage import files

__all__ = ["FORMATS", "Arrays", "File", "flatten", "holds", "read", "write"]

FORMATS = {".npz": "npz", ".safetensors": "safetensors", ".pt": "pt", ".pth": "pt"}
"""Suffix of a file that is written -> its format."""

_WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "flax_model.msgpack",
)
"""What Hugging Face's `save_pretrained` calls the weights in its directory, in the order of preference."""

_OTHERS = {
    b"\x89HDF": "a file of HDF5, as Keras writes them",
    b"\x93NUMPY": "a single array of NumPy; save the arrays of a network by name, as np.savez does",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; git lfs pull fetches it",
    b"\x1f\x8b": "compressed by gzip; gunzip it first",
}
"""First bytes of files that people mistake for weights -> what they are."""

_SAFETENSORS_TYPES: dict[str, Any] = {
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(bool),
    "BF16": jnp.bfloat16,
    "C64": np.dtype("complex64"),
}


def read(path: Path) -> File:
    """Names, shapes and types of all arrays of a file, of a directory of Orbax, or of a directory with one.

    Raises:
        UserError: there is no such file, it is in none of the formats, or it is damaged.
    """
    if path.is_dir():
        inside = _weights_in(path)
        if inside is None:
            return orbax_files.read(path)
        path = inside
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    if not path.is_file():
        raise UserError(f"{path}: expected a file or a directory; found a device or a pipe")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    try:
        with path.open("rb") as file:
            return _read_file(path, file)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error


def write(path: Path, arrays: Mapping[str, np.ndarray], format: str) -> None:
    """Write a file, or a directory of Orbax: whole or not at all, and `read` gives back the same.

    Args:
        path: where to; a file there is replaced.
        arrays: by name; for `orbax`, slashes in the names make a tree. The files of NumPy have no bfloat16,
            which is widened there to float32.
        format: one of the values of `FORMATS`, or `orbax`.

    Raises:
        UserError: PyTorch is needed and not installed, the format has no such arrays, or the path can't be
            written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "orbax":
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(path.absolute(), unflatten_dict(dict(arrays), sep="/"))
        else:
            files.write_bytes(path, _WRITERS[format](arrays, path))
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error


def holds(path: Path, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a path holds exactly what `write` would write there."""
    try:
        found = read(path).arrays
    except UserError:
        return False
    if path.suffix == ".npz":
        arrays = _widened(arrays)
    return found.keys() == arrays.keys() and all(
        (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        and found[name].tobytes() == array.tobytes()
        for name, array in arrays.items()
    )


def _read_file(path: Path, file: BufferedReader) -> File:
    start = file.read(64)
    for first, title in _OTHERS.items():
        if start.startswith(first):
            raise UserError(f"{path} is {title}")
    if start.startswith(b"PK"):
        with readable(path), zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if any(member.filename.endswith("data.pkl") for member in members):
            return torch_files.read(path, members, _digest(file))
        return _read_npz(path, file, members)
    if torch_files.is_legacy(start):
        return torch_files.read(path, [], _digest(file))
    if start[8:9] == b"{":
        return _read_safetensors(path, file)
    if start and (0x81 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF)):
        return _read_msgpack(path, file)
    if path.suffix in FORMATS:
        raise UserError(f"{path} is damaged, or not what its name says (no format has such first bytes)")
    raise UserError(
        f"{path}: expected a file of PyTorch, safetensors, NumPy (.npz) or Flax (msgpack), or a directory of "
        "Orbax; found none of them"
    )


def _digest(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _read_npz(path: Path, file: BufferedReader, members: list[zipfile.ZipInfo]) -> File:
    stored: dict[str, Stored] = {}
    others: list[str] = []
    with readable(path), zipfile.ZipFile(file) as archive:
        for member in members:
            if not member.filename.endswith(".npy"):
                others.append(member.filename)
                continue
            with archive.open(member) as content:
                stored[member.filename.removesuffix(".npy")] = _npy(path, member, content)
    if not stored:
        raise UserError(f"{path}: expected arrays; found {', '.join(others[:5]) or 'none'}")
    return File(stored, "npz", _digest(file), {}, True, {}, tuple(others))


def _npy(path: Path, member: zipfile.ZipInfo, content: Any) -> Stored:
    """One array of an `.npz`, of which the header alone is read."""
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


def _read_safetensors(path: Path, file: BufferedReader) -> File:
    digest = _digest(file)
    with readable(path):
        with safetensors.safe_open(path, "np") as content:  # checks the whole header
            content.keys()
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    stored = {name: _tensor(path, name, one, 8 + length) for name, one in header.items()}
    if not stored:
        raise UserError(f"{path}: expected arrays; found none")
    return File(in_natural_order(stored), "safetensors", digest, {}, False, {})


def _tensor(path: Path, name: str, header: Mapping[str, Any], start: int) -> Stored:
    shape, kind, (begin, end) = tuple(header["shape"]), header["dtype"], header["data_offsets"]
    if kind not in _SAFETENSORS_TYPES:
        title = "float8" if kind.startswith("F8") else kind
        return unreadable(shape, title, f"{path}: {name!r}: {title} is not supported")
    dtype = np.dtype(_SAFETENSORS_TYPES[kind])

    def load() -> np.ndarray:
        with readable(path), path.open("rb") as file:
            file.seek(start + begin)
            return np.frombuffer(file.read(end - begin), dtype).reshape(shape)

    return Stored(shape, str(dtype), load)


def _read_msgpack(path: Path, file: BufferedReader) -> File:
    digest = _digest(file)
    file.seek(0)
    with readable(path):
        tree = flax.serialization.msgpack_restore(file.read())
        stored = {name: in_memory(leaf) for name, leaf in flatten(tree).items() if leaf.dtype != object}
    if not stored:
        raise UserError(f"{path}: expected arrays; found none")
    return File(in_natural_order(stored), "msgpack", digest, {}, False, {})


def _weights_in(directory: Path) -> Path | None:
    """The file of weights in a directory that isn't Orbax's."""
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    if orbax_files.is_one(directory):
        return None
    suffixes = (*FORMATS, ".bin", ".ckpt", ".th", ".tar", ".msgpack")
    found = sorted(path for path in directory.iterdir() if path.suffix in suffixes and path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:6])
        raise UserError(f"{directory}: expected one file of weights; found {names}: give one of them")
    return found[0] if found else None


def _read_shards(index: Path) -> File:
    """Several files as one, by the index that Hugging Face writes beside them."""
    with readable(index):
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise UserError(f"{index}: expected the names of files beside it")
    shards = [read(index.with_name(name)) for name in names]
    stored = {name: one for shard in shards for name, one in shard.stored.items()}
    digest = hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()
    return File(in_natural_order(stored), shards[0].format, digest, {}, False, {})


def _widened(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """NumPy's own types alone."""
    return {
        name: array.astype(np.float32) if array.dtype == jnp.bfloat16 else array
        for name, array in arrays.items()
    }


def _write_npz(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    del path
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, array in _widened(arrays).items():
            with file.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return content.getvalue()


def _write_safetensors(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in contiguous.items():
        if array.dtype not in [np.dtype(kind) for kind in _SAFETENSORS_TYPES.values()]:
            raise UserError(f"{path}: safetensors have no {array.dtype}, which {name!r} is; choose npz")
    return safetensors.numpy.save(contiguous)


_WRITERS: dict[str, Callable[[Mapping[str, np.ndarray], Path], bytes]] = {
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "pt": torch_files.content,
}
"""Format -> what goes into the file."""
