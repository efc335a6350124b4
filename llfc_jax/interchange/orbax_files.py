"""Directories of Orbax: a bare pytree, a step of a `CheckpointManager`, its root, or a checkpoint of ours."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict

from llfc_jax.errors import UserError
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.reading import readable
from llfc_jax.interchange.stored import Arrays, File, Stored, flatten, in_memory, in_natural_order, unreadable
from llfc_jax.runtime import sharding
from llfc_jax.storage import checkpoint

_SIZE = 256 * 1024**2
"""Bytes that an array may claim beyond those that all files of its pytree have together."""


def recognises(path: Path, start: bytes) -> bool:
    """Whether a path is a directory that Orbax has written, or something in it."""
    del start
    return path.is_dir() and (_is_ours(path) or bool(_pytrees(path)))


def read(directory: Path) -> File:
    """All arrays, by their paths in the tree; of the last step where there are several.

    Of several processes each reads by itself, whatever the others do.

    Raises:
        UserError: the directory is damaged.
    """
    with sharding.apart():
        return _read(directory)


def _read(directory: Path) -> File:
    if _is_ours(directory):
        found = checkpoint.restore(directory)
        return _file(
            {name: in_memory(array) for name, array in flatten(found.variables).items()}, found.metadata
        )
    pytrees = _pytrees(directory)
    alone = len(pytrees) == 1
    stored: dict[str, Stored] = {}
    for name, path in pytrees.items():
        prefix = "" if alone else f"{name}/"
        stored |= {prefix + leaf: array for leaf, array in _read_pytree(path).items()}
    return _file(stored, {})


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """A bare pytree; slashes in the names make it."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), unflatten_dict(dict(arrays), sep="/"))


def _is_ours(directory: Path) -> bool:
    steps = checkpoint.steps(directory)
    return bool(steps) and (directory / str(steps[-1]) / "variables").is_dir()


def _pytrees(directory: Path) -> dict[str, Path]:
    """Name -> pytree in a directory: itself, the items of a step, or those of the last step."""
    if (directory / "_METADATA").exists():
        return {"": directory}
    try:
        below = sorted(path for path in directory.iterdir() if path.is_dir())
    except OSError:
        return {}
    items = {path.name: path for path in below if (path / "_METADATA").exists()}
    steps = {step: path for path in below if (step := _step(path.name)) is not None}
    if steps and not items.keys() - {path.name for path in steps.values()}:
        return _pytrees(steps[max(steps)])
    return items


def _step(name: str) -> int | None:
    """Of `200` or `checkpoint_200`, as a `CheckpointManager` names them; not of what is being written."""
    found = re.fullmatch(r"(?:[A-Za-z_]+_)?([0-9]{1,18})", name)
    return int(found[1]) if found else None


def _read_pytree(path: Path) -> dict[str, Stored]:
    with readable(path), _checkpointer() as checkpointer:
        tree = checkpointer.metadata(path.absolute()).item_metadata.tree
        shapes = {
            jax.tree_util.keystr(where, simple=True, separator="/"): leaf
            for where, leaf in jax.tree.leaves_with_path(tree)
        }
        room = _SIZE + 64 * sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        claimed = sum(_bytes(leaf) for leaf in shapes.values())
    if claimed > room:
        raise UserError(f"{path} is damaged: it claims arrays of {claimed:,} bytes, far more than it has")
    with readable(path), _checkpointer() as checkpointer:
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        arrays: Arrays = flatten(checkpointer.restore(path.absolute(), restore_args=as_numpy))
    return {
        name: unreadable(array.shape, "object", f"{path}: {name!r}: expected numbers; found {array.dtype}")
        if array.dtype.hasobject
        else in_memory(array)
        for name, array in arrays.items()
    }


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(), multiprocessing_options=checkpoint.participants())


def _bytes(leaf: object) -> int:
    shape = getattr(leaf, "shape", None) or ()
    return int(np.prod(shape, dtype=object)) * np.dtype(getattr(leaf, "dtype", None) or np.float64).itemsize


def _file(stored: dict[str, Stored], metadata: dict) -> File:
    digest = hashlib.sha256()
    for name, one in stored.items():
        if one.dtype != "object":
            digest.update(f"{name}{one.dtype}{one.shape}".encode() + one.read().tobytes())
    return File(in_natural_order(stored), "orbax", digest.hexdigest(), metadata, False, {})


FORMAT = Format("Orbax", recognises, read, write)
