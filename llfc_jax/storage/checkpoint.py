"""Networks on disk, by Orbax: `directory/step/{variables, training, permutation, metadata}`.

Saves are atomic (Orbax writes beside and renames), and every restore is checked against a digest that was
taken when saving, since the storage format itself doesn't notice a flipped bit in an array.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from llfc_jax.errors import UserError, first_line
from llfc_jax.runtime import processes, sharding
from llfc_jax.storage import files
from llfc_jax.types import Permutation, PyTree, Variables

KEEP = 2  # the last step, and the one before in case the last gets damaged

_CAUSE = re.compile(r": ([^:\[]+) \[\w+=")
_OF_THE_SYSTEM = {os.strerror(code) for code in errno.errorcode}


class Checkpoint(NamedTuple):
    """One network at one step."""

    step: int
    variables: Variables
    training: PyTree | None
    """What training needs besides to go on (optimizer state); `None` where it wasn't asked for."""
    permutation: Permutation | None
    """By which the network was permuted; `None` where it wasn't."""
    metadata: dict[str, Any]
    """As saved, JSON types."""


def save(
    directory: Path,
    step: int,
    variables: Variables,
    metadata: dict[str, Any],
    training: PyTree | None = None,
    permutation: Permutation | None = None,
) -> None:
    """Write one step and drop all but the last two.

    The directory is made, but not the one that it lies in: where that is gone, somebody has deleted the run.

    Raises:
        UserError: the directory can't be written, or the disk is full.
    """
    if not directory.parent.is_dir():
        raise UserError(
            f"can't write checkpoint {directory / str(step)}: {directory.parent} is not there, or no longer"
        )
    trees = {"variables": variables, "training": training, "permutation": permutation or None}
    trees = {name: tree for name, tree in trees.items() if tree is not None}
    if processes.count() > 1:
        trees = sharding.place(trees)  # all write
    digest = {name: _digest(tree) for name, tree in (trees | {"metadata": metadata}).items()}
    items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
    items["metadata"] = ocp.args.JsonSave(metadata | {"digest": digest})
    try:
        with _manager(directory) as manager:
            manager.save(step, args=ocp.args.Composite(**items), force=True)
    except (OSError, ValueError) as error:
        if processes.is_loss(error):
            raise
        raise UserError(f"can't write checkpoint {directory / str(step)}: {_reason(error)}") from error


def steps(directory: Path) -> list[int]:
    """Steps saved in a directory, in order; none where it doesn't exist."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir())
    return sorted(int(name) for name in names if re.fullmatch("[0-9]{1,18}", name))


def read_metadata(directory: Path, step: int) -> dict[str, Any]:
    """What was saved with the arrays of a step, without reading those; empty where it can't be read."""
    try:
        found = json.loads((directory / str(step) / "metadata" / "metadata").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def restore(directory: Path, step: int | None = None, training: PyTree = None) -> Checkpoint:
    """Read a step (by default the last) and check that it is what was saved.

    Args:
        directory: as given to `save`.
        step: which one.
        training: a pytree of arrays or shapes like the one to restore besides the variables.

    Raises:
        UserError: nothing is there, its training state is of another kind, or it is damaged; names the path,
            and the step before if there is one.
    """
    found = steps(directory)
    if not found:
        raise UserError(f"no checkpoint in {directory}")
    step = found[-1] if step is None else step
    try:
        with _manager(directory) as manager:
            saved = manager.item_metadata(step)
            trees = {"variables": saved["variables"].tree}
            if training is not None:
                _check_fits(directory, training, saved["training"].tree)
                trees["training"] = training
            if (permutation := saved.get("permutation")) is not None:
                trees["permutation"] = permutation.tree
            items = {
                name: ocp.args.StandardRestore(jax.tree.map(_placed, tree)) for name, tree in trees.items()
            }
            items["metadata"] = ocp.args.JsonRestore()
            restored = manager.restore(step, args=ocp.args.Composite(**items))
        saved_digest = restored.metadata.pop("digest")
        for name in items:
            if _digest(restored[name]) != saved_digest[name]:
                raise ValueError(f"its {name} are not what was saved")
    except UserError:
        raise
    except Exception as error:  # damaged files surface as any of a dozen types
        if processes.is_loss(error):
            raise
        if _is_scarcity(error):
            where = directory / str(step)
            raise UserError(f"can't read checkpoint {where}: {_reason(error)}") from error
        if forbidden := files.forbidden(directory / str(step)):  # which Orbax takes for absent
            raise UserError(f"can't read checkpoint {forbidden}: permission denied") from error
        raise UserError(_damaged(directory, step, found, error)) from error
    return Checkpoint(
        step,
        restored.variables,
        restored.get("training"),
        restored.get("permutation"),
        restored.metadata,
    )


def participants() -> ocp.options.MultiprocessingOptions:
    """Which processes Orbax is to wait for: all; in a stretch apart none but this one."""
    if not sharding.is_apart():
        return ocp.options.MultiprocessingOptions()
    own = processes.index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


@contextlib.contextmanager
def _manager(directory: Path) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEEP,
        enable_async_checkpointing=False,
        create=not sharding.is_apart(),
        multiprocessing_options=participants(),
    )
    handlers = {
        "variables": ocp.StandardCheckpointHandler(),
        "training": ocp.StandardCheckpointHandler(),
        "permutation": ocp.StandardCheckpointHandler(),
        "metadata": ocp.JsonCheckpointHandler(),
    }
    with ocp.CheckpointManager(directory.absolute(), options=options, item_handlers=handlers) as manager:
        yield manager


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding.placement_of(leaf.shape))


def _digest(tree: PyTree) -> str:
    """SHA-256 over names, types, shapes and bytes of all leaves."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.asarray(sharding.fetch(leaf))
        digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_fits(directory: Path, training: PyTree, saved: PyTree) -> None:
    expected, found = ({tuple(leaf.shape) for leaf in jax.tree.leaves(tree)} for tree in (training, saved))
    count, count_found = len(jax.tree.leaves(training)), len(jax.tree.leaves(saved))
    if (expected, count) != (found, count_found):
        raise UserError(
            f"checkpoint {directory}: expected the state of this optimizer, {count} arrays; found "
            f"{count_found} of another, perhaps of another version of optax; choose another --workdir"
        )


def _is_scarcity(error: Exception) -> bool:
    """Whether it is not the files that are at fault, but memory, rights or open files."""
    scarce = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return (
        isinstance(error, MemoryError | PermissionError)
        or (isinstance(error, OSError) and error.errno in scarce)
        or "RESOURCE_EXHAUSTED" in str(error)
    )


def _reason(error: Exception) -> str:
    """What was wrong, of messages of Orbax and TensorStore that can be pages.

    Example:
        >>> _reason(ValueError("RESOURCE_EXHAUSTED: a/b: No space left on device [os_error_code='28']"))
        'No space left on device'
    """
    causes = _CAUSE.findall(str(error))
    return next((one for one in causes if one in _OF_THE_SYSTEM), first_line(error)[:120])


def _damaged(directory: Path, step: int, found: list[int], error: Exception) -> str:
    before = max((other for other in found if other < step), default=None)
    if before is None:
        advice = f"no step before it is left; delete {directory} to train again"
    else:
        advice = f"delete it to go on from the step before, {before}"
    return f"checkpoint {directory / str(step)} is damaged ({_reason(error)}): {advice}"
