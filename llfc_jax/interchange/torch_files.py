"""PyTorch's files: state dicts, wherever they are in what a training script has saved.

Read by PyTorch through `interchange.pickles`, which makes tensors and dictionaries, leaves out whatever else
a pickle asks for, and calls nothing of it. Tensors are mapped from the file, not read.
"""

import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.interchange import pickles
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.reading import digest, readable
from llfc_jax.interchange.stored import File, Stored, in_memory, unreadable
from llfc_jax.storage import files

TORCH = (2, 6)
"""The first PyTorch whose loading is known to call nothing but what the unpickler finds."""

_DEPTH = 16
"""Of nested mappings that are looked into."""

_SIZE = 64 * 1024**2
"""Bytes up to which the storage of an expanded tensor may be smaller than the tensor."""


def recognises(path: Path, start: bytes) -> bool:
    """Whether a file is an archive with a pickle, or begins as PyTorch's before 1.6 and any pickle do."""
    if start.startswith(b"PK"):
        return any(member.filename.endswith("data.pkl") for member in _members(path))
    return len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5


def read(path: Path) -> File:
    """Names, shapes and types of the tensors and NumPy arrays in all mappings of a file.

    Raises:
        UserError: PyTorch is needed and not installed, or the file is damaged, or holds what isn't data.
    """
    members = _members(path)
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise UserError(f"{path} is a TorchScript archive, which holds a program: save model.state_dict()")
    torch = _import_torch(path)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"{path} is damaged, or not what its name says (PyTorch compresses nothing)")
    with readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the pickle protocol
        try:
            found = _load(torch, path, is_archive=bool(members))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: expected a state dict; found {type(found).__name__}")
    with readable(path):  # a key may be anything that Python can hash
        leaves = list(_leaves(found))
    stored, others = {}, {}
    for prefix, key, leaf in leaves:
        name = prefix + key
        if isinstance(leaf, torch.Tensor | np.ndarray | np.generic):
            stored[name] = _stored(torch, path, name, leaf)
        else:
            others[name] = leaf
    if not stored:
        raise UserError(f"{path}: {_without_arrays(found, others)}")
    roots = {prefix + key: prefix for prefix, key, _ in leaves}
    return File(stored, "pt", digest(path), {}, True, roots, tuple(others))


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A state dict.

    Raises:
        UserError: PyTorch is needed and not installed, or has no such arrays.
    """
    torch, buffer = _import_torch(path), io.BytesIO()
    torch.save({name: _to_tensor(torch, path, name, array) for name, array in arrays.items()}, buffer)
    files.write_bytes(path, buffer.getvalue())


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """Of the archive that a file is; none of one that isn't, or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):  # of a version, of a name
        return []


def _load(torch: ModuleType, path: Path, *, is_archive: bool) -> Any:
    options = {"map_location": "cpu", "weights_only": False, "pickle_module": pickles}
    if is_archive:
        return torch.load(path, mmap=True, **options)
    with _Stream(path) as file:
        first = pickles.load(file)
        if isinstance(first, Mapping | list | tuple):  # by pickle itself, without PyTorch's magic number
            return first
        file.seek(0)
        return torch.load(file, **options)


class _Stream(io.FileIO):
    """A file without a descriptor: PyTorch doesn't try to unpack it as an archive of its first releases."""

    def fileno(self) -> int:
        """There is none.

        Raises:
            UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation


def _leaves(root: Mapping) -> Iterator[tuple[str, str, Any]]:
    """Prefix, key and value of all in nested containers; each is looked into once, whatever refers to it."""
    seen: set[int] = set()

    def visit(container: Mapping | Sequence, prefix: str, depth: int) -> Iterator[tuple[str, str, Any]]:
        if id(container) in seen or depth > _DEPTH:
            return
        seen.add(id(container))
        items = container.items() if isinstance(container, Mapping) else enumerate(container)
        for key, value in items:
            if isinstance(value, Mapping | list | tuple) and (
                value or not isinstance(value, pickles.LeftOut)
            ):
                yield from visit(value, f"{prefix}{key}/", depth + 1)
            else:
                yield prefix, str(key), value

    return visit(root, "", 0)


def _without_arrays(found: Mapping, others: Mapping[str, Any]) -> str:
    """What was expected and found in a file without tensors."""
    left_out = [leaf for leaf in (found, *others.values()) if isinstance(leaf, pickles.LeftOut)]
    if left_out:
        return (
            "expected tensors alone, as torch.save(model.state_dict(), ...) writes them; "
            f"found {left_out[0].title}, which was not run"
        )
    return (
        f"expected a state dict, bare or under a key; found {', '.join(map(str, found))[:200] or 'nothing'}"
    )


def _stored(torch: ModuleType, path: Path, name: str, leaf: Any) -> Stored:
    if not isinstance(leaf, torch.Tensor):
        if leaf.dtype.hasobject:
            return unreadable(leaf.shape, "object", f"{path}: {name!r}: expected numbers; found objects")
        return in_memory(leaf)
    dtype = str(leaf.dtype).removeprefix("torch.")
    if leaf.is_nested or isinstance(leaf, torch.nn.parameter.UninitializedTensorMixin):
        return unreadable((), dtype, f"{path}: {name!r}: expected a dense tensor; found one without a shape")
    shape = tuple(leaf.shape)
    if leaf.layout != torch.strided or leaf.is_quantized or leaf.is_meta or dtype.startswith("float8"):
        kind = "a sparse, quantized or empty one" if not dtype.startswith("float8") else dtype
        return unreadable(shape, dtype, f"{path}: {name!r}: expected a dense tensor; found {kind}")
    if leaf.numel() * leaf.element_size() > leaf.untyped_storage().nbytes() + _SIZE:
        return unreadable(
            shape,
            dtype,
            f"{path}: {name!r}: expected a tensor with its numbers; found one expanded to {shape}",
        )

    def load() -> np.ndarray:
        with readable(path):
            return _from_tensor(torch, leaf.detach())

    return Stored(shape, dtype, load)


def _from_tensor(torch: ModuleType, tensor: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def _to_tensor(torch: ModuleType, path: Path, name: str, array: np.ndarray) -> Any:
    array = np.array(array, order="C")
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise UserError(f"{path}: PyTorch has no {array.dtype}, which {name!r} is; choose npz") from error


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


FORMAT = Format("PyTorch", recognises, read, write, (".pt", ".pth"))
