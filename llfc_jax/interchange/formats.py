"""Files of named arrays: `.npz`, `.safetensors`, PyTorch's `.pt` and `.pth`, and Orbax directories.

No file can run code: NumPy and PyTorch are told to refuse pickled objects, the other formats have none.
"""

import contextlib
import hashlib
import io
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy
from flax.traverse_util import unflatten_dict

from llfc_jax.errors import UserError, first_line
from llfc_jax.storage import checkpoint, files
from llfc_jax.types import PyTree

Arrays = dict[str, np.ndarray]

NESTED = ("state_dict", "model_state_dict", "model", "net")
"""Where training scripts put the state dict within what they save."""

_SAFETENSORS_TYPES: dict[str, Any] = {
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    "BF16": jnp.bfloat16,
}


TORCH = (2, 6)
"""The first PyTorch whose `weights_only` can't be tricked into running code (CVE-2025-32434)."""


class File(NamedTuple):
    """What a file holds."""

    arrays: Arrays
    """In the order in which they were written, or in natural order where the format does not keep it."""
    format: str
    sha256: str
    metadata: Mapping[str, Any]
    """Of one of our own checkpoints; else empty."""


def read(path: Path) -> File:
    """Read all arrays of a file or an Orbax directory.

    Args:
        path: a file with one of the suffixes of `FORMATS`, or a directory that `checkpoint.save` or Orbax (a
            bare pytree) has written.

    Raises:
        UserError: there is no such file, it is in none of the formats, or it is damaged.
    """
    if path.is_dir():
        return _read_orbax(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: expected a directory of Orbax, or a file named *{', *'.join(FORMATS)}")
    content, format = path.read_bytes(), FORMATS[path.suffix]
    arrays = _READERS[format](content, path)
    if not arrays:
        raise UserError(f"{path}: expected arrays; found none")
    return File(arrays, format, hashlib.sha256(content).hexdigest(), {})


def write(path: Path, arrays: Mapping[str, np.ndarray], format: str) -> None:
    """Write a file, or a directory of Orbax: whole or not at all, and `read` gives back the same.

    Args:
        path: where to; a file there is replaced.
        arrays: by name; for `orbax`, slashes in the names make a tree. The files of NumPy have no bfloat16,
            which is widened there to float32.
        format: one of the values of `FORMATS`, or `orbax`.

    Raises:
        UserError: PyTorch is needed and not installed, or the path can't be written.
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


def flatten(tree: PyTree) -> Arrays:
    """Name -> array, a name being the path in the tree.

    Example:
        >>> flatten({"params": {"dense": {"bias": np.zeros(2)}}})
        {'params/dense/bias': array([0., 0.])}
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _read_orbax(path: Path) -> File:
    steps = checkpoint.steps(path)
    if steps and (path / str(steps[-1]) / "variables").is_dir():
        found = checkpoint.restore(path)
        arrays, metadata = flatten(found.variables), found.metadata
    elif (path / "_METADATA").exists():
        arrays, metadata = _read_pytree(path), {}
    else:
        raise UserError(
            f"{path}: expected a checkpoint of llfc_jax or a pytree saved by Orbax; found neither"
        )
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return File(_in_natural_order(arrays), "orbax", digest.hexdigest(), metadata)


def _read_pytree(path: Path) -> Arrays:
    with _readable(path), ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path.absolute()).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return flatten(checkpointer.restore(path.absolute(), restore_args=as_numpy))


def _read_npz(content: bytes, path: Path) -> Arrays:
    with _readable(path), np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file.items())


def _read_safetensors(content: bytes, path: Path) -> Arrays:
    with _readable(path):
        return _in_natural_order(
            {
                name: np.frombuffer(one["data"], _SAFETENSORS_TYPES[one["dtype"]]).reshape(one["shape"])
                for name, one in safetensors.deserialize(content)
            }
        )


def _read_torch(content: bytes, path: Path) -> Arrays:
    torch = _import_torch(path)
    with _readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the pickle protocol
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    nested = [
        found[key] for key in NESTED if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)
    ]
    state = nested[0] if nested else found
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        what = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise UserError(
            f"{path}: expected a state dict, bare or under {', '.join(NESTED)}; found {what[:200]}"
        )
    with _readable(path):
        return {name: _from_tensor(torch, tensor.detach()) for name, tensor in state.items()}


def _from_tensor(torch: ModuleType, tensor: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def _write_npz(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    del path
    buffer = io.BytesIO()
    contents: dict[str, Any] = _widened(arrays)
    np.savez(buffer, **contents)
    return buffer.getvalue()


def _widened(arrays: Mapping[str, np.ndarray]) -> Arrays:
    return {
        name: array.astype(np.float32) if array.dtype == jnp.bfloat16 else array
        for name, array in arrays.items()
    }


def _write_safetensors(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    del path
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous)


def _write_torch(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    torch, buffer = _import_torch(path), io.BytesIO()
    torch.save({name: _to_tensor(torch, array) for name, array in arrays.items()}, buffer)
    return buffer.getvalue()


def _to_tensor(torch: ModuleType, array: np.ndarray) -> Any:
    array = np.array(array, order="C")
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _import_torch(path: Path) -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: PyTorch's files need PyTorch: pip install torch, or use .safetensors or .npz"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < TORCH:
        raise UserError(f"{path}: expected PyTorch {TORCH[0]}.{TORCH[1]} or newer; found {torch.__version__}")
    return torch


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into one line."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: expected tensors alone, as torch.save(model.state_dict(), ...) writes them; "
            "found something else, which was not run"
        ) from error
    except Exception as error:
        raise UserError(f"{path} is damaged, or not what its name says ({first_line(error)})") from error


def _in_natural_order(arrays: Arrays) -> Arrays:
    """By name, numbers in it by value: `Dense_2` before `Dense_10`."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]

    return {name: arrays[name] for name in sorted(arrays, key=key)}


FORMATS = {".npz": "npz", ".safetensors": "safetensors", ".pt": "pt", ".pth": "pt"}
"""Suffix of a file -> its format."""

_READERS: dict[str, Callable[[bytes, Path], Arrays]] = {
    "npz": _read_npz,
    "safetensors": _read_safetensors,
    "pt": _read_torch,
}
_WRITERS: dict[str, Callable[[Mapping[str, np.ndarray], Path], bytes]] = {
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "pt": _write_torch,
}
