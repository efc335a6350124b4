"""Splits cut into batches of one shape."""

from collections.abc import Iterator

import numpy as np

from llfc_jax.data.dataset import Split
from llfc_jax.runtime import sharding
from llfc_jax.types import Batch


def num_batches(split: Split, batch_size: int) -> int:
    """Number of batches, the padded last one included."""
    return -(-len(split.labels) // batch_size)


def even_size(examples: int, most: int) -> int:
    """The size up to `most` of the fewest batches that leave hardly an example out.

    Example:
        >>> even_size(1437, 500), even_size(1000, 500), even_size(7, 500)
        (479, 500, 7)
    """
    return examples // -(-examples // most)


def full_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """The batches that need no padding, on all devices."""
    for stop in range(batch_size, len(split.labels) + 1, batch_size):
        part = slice(stop - batch_size, stop)
        mask = np.ones(batch_size, np.float32)
        yield Batch(*sharding.shard_batch((split.images[part], split.labels[part], mask)))


def batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """All of `split` in order, on all devices.

    The last batch, and each that doesn't divide among the devices, is filled up with masked copies of the
    first image.
    """
    for start in range(0, len(split.labels), batch_size):
        index = np.arange(start, start + sharding.padded(batch_size))
        mask = index < min(start + batch_size, len(split.labels))
        index = np.where(mask, index, 0)
        parts = (split.images[index], split.labels[index], mask.astype(np.float32))
        yield Batch(*sharding.shard_batch(parts))
