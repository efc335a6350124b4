"""Splits cut into batches of one shape."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from llfc_jax.data.dataset import Examples, Seed, Wanted
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Batch, PRNGKey


def num_batches(examples: Examples, batch_size: int) -> int:
    """Number of batches, the padded last one included."""
    return -(-examples.size // batch_size)


def even_size(examples: int, most: int) -> int:
    """The size up to `most` of the fewest batches that leave hardly an example out.

    Example:
        >>> even_size(1437, 500), even_size(1000, 500), even_size(7, 500)
        (479, 500, 7)
    """
    return examples // -(-examples // most)


def read(
    examples: Examples, indices: Sequence[np.ndarray], seeds: Iterable[Seed | None] | None = None
) -> Iterator[tuple[Array, Array]]:
    """Inputs and labels of batches, on all devices; each process reads what its own devices hold.

    Args:
        examples: to read from.
        indices: (n,) of each batch, all of one size.
        seeds: of each batch, see `Wanted`.
    """
    if not len(indices):
        return
    size = len(indices[0])
    rows = sharding.rows_here(size)
    wanted = [
        Wanted(index[rows], rows, seed)
        for index, seed in zip(indices, seeds or [None] * len(indices), strict=True)
    ]
    for part in examples.read(wanted):
        yield sharding.shard_rows(part, size)


def seeds_from(key: PRNGKey, numbers: Iterable[int]) -> list[Seed]:
    """A seed for each number, which with the key determines it."""
    words = np.asarray(jax.random.key_data(key)).tolist()
    return [(*words, number) for number in numbers]


def full_batches(
    examples: Examples, batch_size: int, passes: int = 1, key: PRNGKey | None = None
) -> Iterator[Batch]:
    """The batches that need no padding, on all devices.

    Args:
        examples: to read from.
        batch_size: of each.
        passes: over all of them.
        key: draws the crops that are cut from files, others in each pass; None for those of evaluation.
    """
    stops = range(batch_size, examples.size + 1, batch_size)
    indices = passes * [np.arange(stop - batch_size, stop) for stop in stops]
    seeds = None if key is None else seeds_from(key, range(len(indices)))
    mask = np.ones(batch_size, np.float32)
    for images, labels in read(examples, indices, seeds):
        yield Batch(images, labels, sharding.shard_batch(mask))


def batches(examples: Examples, batch_size: int) -> Iterator[Batch]:
    """All examples in order, on all devices.

    The last batch, and each that doesn't divide among the devices, is filled up with masked copies of the
    first image.
    """
    starts = np.arange(0, examples.size, batch_size)
    indices = starts[:, None] + np.arange(sharding.padded(batch_size))
    masks = indices < np.minimum(starts + batch_size, examples.size)[:, None]
    parts = read(examples, list(np.where(masks, indices, 0)))
    for mask, (images, labels) in zip(masks, parts, strict=True):
        yield Batch(images, labels, sharding.shard_batch(mask.astype(np.float32)))


@dataclass(frozen=True)
class Repeatable:
    """`batches` that are read anew each time, for a split that is larger than memory."""

    examples: Examples
    batch_size: int

    def __iter__(self) -> Iterator[Batch]:
        return batches(self.examples, self.batch_size)
