"""Splits cut into batches of one shape."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from llfc_jax.data.dataset import Split
from llfc_jax.types import Array


class Batch(NamedTuple):
    """Images with what is needed to count each of them once."""

    images: Array
    """(n, h, w, c)."""
    labels: Array
    """(n,) int32."""
    mask: Array
    """(n,) float32: 1 for an image, 0 for padding."""


def num_batches(split: Split, batch_size: int) -> int:
    """Number of batches, the padded last one included."""
    return -(-len(split.labels) // batch_size)


def full_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """The batches that need no padding."""
    return itertools.islice(batches(split, batch_size), len(split.labels) // batch_size)


def batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """All of `split` in order; the last batch is filled up with masked copies of the first image."""
    for start in range(0, len(split.labels), batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < len(split.labels)
        index = np.where(mask, index, 0)
        yield Batch(*map(jnp.asarray, (split.images[index], split.labels[index], mask.astype(np.float32))))
