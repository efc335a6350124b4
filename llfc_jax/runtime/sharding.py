"""Work split over all devices: each takes its share of a batch, and holds the networks, or its part of them.

The arrays' placement says it all: a jitted function that is given a split batch runs on all devices, and its
sums and means, BatchNorm's among them, are those of the whole batch. With several processes the devices are
those of all, and every process puts its part of an array on its own.

Where a network is too large for one device, `split` has every array of it held in parts, as many as it says
(fully sharded data parallelism): devices gather what a layer needs when it is due.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llfc_jax.types import PyTree

_REPLICA, _FSDP = "replica", "fsdp"
_BATCH = (_REPLICA, _FSDP)
"""The axes over which examples are split: all."""


def shard_batch(batch: PyTree, axis: int = 0) -> PyTree:
    """Split arrays along `axis`, each device taking its part; where it doesn't divide, all take everything.

    Args:
        batch: a pytree of arrays, (..., n, ...) with n along `axis`.
        axis: the one that counts examples.
    """
    return jax.tree.map(lambda leaf: _put(leaf, _split(np.shape(leaf)[axis], axis)), batch)


def rows_here(size: int) -> np.ndarray:
    """Which rows of a split batch this process has to bring: those of its own devices, in order."""
    rows, placement = np.arange(size), _split(size, 0)
    parts = placement.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([rows[part] for part in parts]))


def shard_rows(rows: PyTree, size: int) -> PyTree:
    """`shard_batch` of arrays of which this process has its `rows_here` alone.

    Args:
        rows: a pytree of arrays, (n, ...).
        size: of the whole batch.
    """
    placement = _split(size, 0)

    def put(leaf: np.ndarray) -> jax.Array:
        if len(leaf) == size:
            return _put(leaf, placement)
        return jax.make_array_from_process_local_data(placement, leaf, (size, *leaf.shape[1:]))

    return jax.tree.map(put, rows)


def replicate(tree: PyTree) -> PyTree:
    """Put a pytree on every device."""
    return jax.tree.map(lambda leaf: _put(leaf, everywhere()), tree)


def onto_all(networks: PyTree) -> PyTree:
    """Networks as somebody has them, on every device; what is on all of them, in whatever parts, stays so."""
    devices = set(_mesh().devices.flat)

    def put(leaf: Any) -> Any:
        held = leaf.devices() if isinstance(leaf, jax.Array) else None
        return leaf if held == devices or not hasattr(leaf, "dtype") else _put(leaf, everywhere())

    return jax.tree.map(put, networks)


def constrain_everywhere(tree: PyTree) -> PyTree:
    """The same within a jitted function: what comes out of it is whole on every device."""
    return jax.lax.with_sharding_constraint(tree, everywhere())


def place(tree: PyTree) -> PyTree:
    """Put networks, and what has their shapes, on every device, or split over them where `split` says so."""
    return jax.tree.map(lambda leaf: _put(leaf, placement_of(np.shape(leaf))), tree)


def replicated_shapes(shapes: PyTree) -> PyTree:
    """The `jax.ShapeDtypeStruct`s of what `replicate` returns."""
    return jax.tree.map(lambda leaf: leaf.update(sharding=everywhere()), shapes)


def placed_shapes(shapes: PyTree) -> PyTree:
    """The `jax.ShapeDtypeStruct`s of what `place` returns."""
    return jax.tree.map(lambda leaf: leaf.update(sharding=placement_of(leaf.shape)), shapes)


def everywhere() -> NamedSharding:
    """The placement of what every device holds."""
    return NamedSharding(_mesh(), PartitionSpec())


def placement_of(shape: Sequence[int]) -> NamedSharding:
    """Of one array of a network: its longest axis of those that divide is split."""
    mesh = _mesh()
    ways = mesh.shape[_FSDP]
    divisible = [axis for axis, size in enumerate(shape) if ways > 1 and size and size % ways == 0]
    if not divisible:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(divisible, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, _FSDP))


def fetch(tree: PyTree) -> PyTree:
    """A pytree as NumPy arrays, wherever their parts are; where other processes hold some, all must ask."""

    def gathered(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return leaf

    return jax.device_get(jax.tree.map(gathered, tree))


def on_host(tree: PyTree) -> bool:
    """Whether NumPy can compute with all arrays of a pytree: its own, and those that CPUs hold whole."""

    def is_at_hand(leaf: Any) -> bool:
        if isinstance(leaf, jax.core.Tracer):
            return False
        if not isinstance(leaf, jax.Array):
            return True
        return leaf.is_fully_replicated and all(device.platform == "cpu" for device in leaf.devices())

    return all(map(is_at_hand, jax.tree.leaves(tree)))


def padded(size: int) -> int:
    """The next size that divides evenly."""
    devices = jax.local_device_count() if _is_apart else jax.device_count()
    return -(-size // devices) * devices


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """A stretch in which every process does the same work on its own devices, without the others."""
    with _set_apart(True):
        yield


def is_apart() -> bool:
    """Whether this is such a stretch."""
    return _is_apart


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A stretch, within one apart, on the devices of all again."""
    with _set_apart(False):
        yield


@contextlib.contextmanager
def _set_apart(is_apart: bool) -> Iterator[None]:
    global _is_apart
    before, _is_apart = _is_apart, is_apart
    try:
        yield
    finally:
        _is_apart = before


@contextlib.contextmanager
def split(ways: int) -> Iterator[None]:
    """A stretch in which networks are placed in so many parts, a divisor of the number of devices."""
    global _ways
    before, _ways = _ways, ways
    try:
        yield
    finally:
        _ways = before


_is_apart = False
_ways = 1


def _mesh() -> Mesh:
    """Devices in rows of those that hold a network between them; of a process apart, each holds it whole."""
    return _rows(tuple(jax.local_devices()), 1) if _is_apart else _rows(tuple(jax.devices()), _ways)


@cache
def _rows(devices: tuple[Any, ...], ways: int) -> Mesh:
    return Mesh(np.asarray(devices).reshape(-1, ways), _BATCH)


def _put(leaf: Any, placement: NamedSharding) -> jax.Array:
    """An array, which every process has, where it belongs."""
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable != placement.is_fully_addressable:
        leaf = fetch(leaf)
    if placement.is_fully_addressable or isinstance(leaf, jax.Array):
        return jax.device_put(leaf, placement)
    leaf = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, placement, leaf.__getitem__)


def _split(size: int, axis: int) -> NamedSharding:
    if size != padded(size):
        return everywhere()
    return NamedSharding(_mesh(), PartitionSpec(*[None] * axis, _BATCH))
