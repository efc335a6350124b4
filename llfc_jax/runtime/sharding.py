"""Work split over all devices: each holds the networks and the data, and takes its share of every batch.

The arrays' placement says it all: a jitted function that is given a split batch runs on all devices, and its
sums and means, BatchNorm's among them, are those of the whole batch.
"""

from functools import cache

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
    return jax.device_put(batch, jax.tree.map(lambda leaf: _split(np.shape(leaf)[axis], axis), batch))


def replicate(tree: PyTree) -> PyTree:
    """Put a pytree on every device."""
    return jax.device_put(tree, everywhere())


def everywhere() -> NamedSharding:
    """The placement of what every device holds."""
    return NamedSharding(_mesh(), PartitionSpec())


def padded(size: int) -> int:
    """The next size that divides evenly."""
    return -(-size // jax.device_count()) * jax.device_count()


@cache
def _mesh() -> Mesh:
    """All devices, in a row."""
    return Mesh(np.asarray(jax.devices()), (_BATCH,))


def _split(size: int, axis: int) -> NamedSharding:
    if size != padded(size):
        return everywhere()
    return NamedSharding(_mesh(), PartitionSpec(*[None] * axis, _BATCH))
