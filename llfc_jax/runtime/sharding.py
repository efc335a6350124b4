"""Work split over all devices: each holds the networks and the data, and takes its share of every batch.

The arrays' placement says it all: a jitted function that is given a split batch runs on all devices, and its
sums and means, BatchNorm's among them, are those of the whole batch. With several processes the devices are
those of all, and every process puts its part of an array on its own.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llfc_jax.types import PyTree

_BATCH = "batch"


def shard_batch(batch: PyTree, axis: int = 0) -> PyTree:
    """Split arrays along `axis`, each device taking its part; where it doesn't divide, all take everything.

    Args:
        batch: a pytree of arrays, (..., n, ...) with n along `axis`.
        axis: the one that counts examples.
    """
    return jax.tree.map(lambda leaf: _put(leaf, _split(np.shape(leaf)[axis], axis)), batch)


def replicate(tree: PyTree) -> PyTree:
    """Put a pytree on every device."""
    return jax.tree.map(lambda leaf: _put(leaf, everywhere()), tree)


def everywhere() -> NamedSharding:
    """The placement of what every device holds."""
    return NamedSharding(_mesh(tuple(_devices())), PartitionSpec())


def padded(size: int) -> int:
    """The next size that divides evenly."""
    devices = jax.local_device_count() if _is_apart else jax.device_count()
    return -(-size // devices) * devices


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """A stretch in which every process does the same work on its own devices, without the others."""
    global _is_apart
    _is_apart = True
    try:
        yield
    finally:
        _is_apart = False


_is_apart = False


def _devices() -> Sequence[Any]:
    return jax.local_devices() if _is_apart else jax.devices()


@cache
def _mesh(devices: tuple[Any, ...]) -> Mesh:
    """Devices in a row."""
    return Mesh(np.asarray(devices), (_BATCH,))


def _put(leaf: Any, placement: NamedSharding) -> jax.Array:
    """An array, which every process has, where it belongs."""
    if isinstance(leaf, jax.Array) and leaf.is_fully_addressable != placement.is_fully_addressable:
        leaf = np.asarray(leaf)
    if placement.is_fully_addressable or isinstance(leaf, jax.Array):
        return jax.device_put(leaf, placement)
    leaf = np.asarray(leaf)
    return jax.make_array_from_process_local_data(placement, leaf, leaf.shape)


def _split(size: int, axis: int) -> NamedSharding:
    if size != padded(size):
        return everywhere()
    return NamedSharding(_mesh(tuple(_devices())), PartitionSpec(*[None] * axis, _BATCH))
