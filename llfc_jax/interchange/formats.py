"""Files of named arrays, in every format of the registry, and directories with such files.

The content is told by its first bytes, whatever the file is called. No file can run code: NumPy and PyTorch
are told to refuse pickled objects, the other formats have none. No file can fill the memory: shapes are read
first, and an array only when a network asks for it.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.interchange import msgpack_files, npz_files, orbax_files, safetensors_files, torch_files
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.reading import readable
from llfc_jax.interchange.stored import Arrays, File, flatten, in_natural_order

__all__ = ["FORMATS", "Arrays", "File", "flatten", "holds", "read", "write"]

FORMATS: dict[str, Format] = {
    "safetensors": safetensors_files.FORMAT,
    "pt": torch_files.FORMAT,
    "npz": npz_files.FORMAT,
    "msgpack": msgpack_files.FORMAT,
    "orbax": orbax_files.FORMAT,
}
"""Name -> format. The first that recognises a file reads it."""

_WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "flax_model.msgpack",
)
"""What Hugging Face's `save_pretrained` calls the weights in its directory, in the order of preference."""

_STEP = re.compile(r"checkpoint_[0-9]{1,18}")
"""What Flax's `save_checkpoint` called the file of a step."""

_OTHERS = {
    b"\x89HDF": "a file of HDF5, as Keras writes them",
    b"\x93NUMPY": "an array of NumPy, or several without names, as Equinox's tree_serialise_leaves "
    "writes them; save the arrays of a network by name, as np.savez does",
    b"\x89PNG": "an image",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; git lfs pull fetches it",
    b"\x1f\x8b": "compressed by gzip; gunzip it first",
}
"""First bytes of files that people mistake for weights -> what they are."""


def read(path: Path) -> File:
    """Names, shapes and types of all arrays of a file, of a directory of Orbax, or of a directory with one.

    Raises:
        UserError: there is no such file, it is in none of the formats, or it is damaged.
    """
    try:
        inside = _weights_in(path) if path.is_dir() else path
        return _read(inside)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}") from error


def write(path: Path, arrays: Mapping[str, np.ndarray], format: str) -> None:
    """Write a file, or a directory of Orbax: whole or not at all, and `read` gives back the same.

    Args:
        path: where to; a file there is replaced.
        arrays: by name; for `orbax`, slashes in the names make a tree. The files of NumPy have no bfloat16,
            which is widened there to float32.
        format: a key of `FORMATS`, of one that is written.

    Raises:
        UserError: PyTorch is needed and not installed, the format has no such arrays, or the path can't be
            written.
    """
    writer = FORMATS[format].write
    assert writer is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(path, arrays)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error


def holds(path: Path, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a path holds exactly what `write` would write there."""
    try:
        file = read(path)
        found = file.arrays
    except UserError:
        return False
    arrays = FORMATS[file.format].kept(arrays)
    return found.keys() == arrays.keys() and all(
        (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        and found[name].tobytes() == array.tobytes()
        for name, array in arrays.items()
    )


def _read(path: Path) -> File:
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    start = _start(path)
    for first, title in _OTHERS.items():
        if start.startswith(first):
            raise UserError(f"{path} is {title}")
    for format in FORMATS.values():
        if format.recognises(path, start):
            return format.read(path)
    if path.is_file() and tarfile.is_tarfile(path):
        raise UserError(f"{path} is a tar archive; unpack it first")
    if path.suffix in _suffixes():
        raise UserError(f"{path} is damaged, or not what its name says (no format has such first bytes)")
    titles = ", ".join(format.title for format in FORMATS.values())
    raise UserError(f"{path}: expected weights in one of the formats {titles}; found none of them")


def _start(path: Path) -> bytes:
    """The first bytes of a file; of a directory, none."""
    if path.is_dir():
        return b""
    if not path.is_file():
        raise UserError(f"{path}: expected a file or a directory; found a device or a pipe")
    with path.open("rb") as file:
        return file.read(64)


def _is_known(path: Path) -> bool:
    start = _start(path)
    return any(format.recognises(path, start) for format in FORMATS.values())


def _suffixes() -> list[str]:
    return [suffix for format in FORMATS.values() for suffix in format.suffixes]


def _weights_in(directory: Path) -> Path:
    """The file of weights in a directory, or the directory where that is in a format of its own."""
    for name in _WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    if any(format.recognises(directory, b"") for format in FORMATS.values()):
        return directory
    suffixes = (*_suffixes(), ".bin", ".ckpt", ".th", ".tar", ".msgpack")
    files = sorted(path for path in directory.iterdir() if path.is_file())
    found = [path for path in files if path.suffix in suffixes or (not path.suffix and _is_known(path))]
    if found and all(_STEP.fullmatch(path.name) for path in found):
        return max(found, key=lambda path: int(path.name.rpartition("_")[2]))
    if not found:
        raise UserError(
            f"{directory}: expected a checkpoint of llfc_jax, a pytree saved by Orbax, or a directory with "
            "one file of weights; found none of them"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:6])
        raise UserError(f"{directory}: expected one file of weights; found {names}: give one of them")
    return found[0]


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
