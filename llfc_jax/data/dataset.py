"""What a dataset is: two splits of images and labels in memory, and what identifies them."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from llfc_jax.data.splits import Slice
from llfc_jax.errors import UserError


class Split(NamedTuple):
    """Examples in a fixed order: images `(n, height, width, channels)` and labels `(n,)` int32.

    Images are uint8, standing for 0 to 1 in steps of 1/255, or float32, taken as they are. Of a text, they
    are blocks of bytes, `(n, block)` uint8, and labels, `(n, block)`, the byte after each.
    """

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """A training and a test split, and the constants that normalise them.

    Attributes:
      name: the name it was loaded by.
      train: examples to train on.
      test: examples to test on.
      num_classes: labels lie in `[0, num_classes)`.
      mean: per channel, subtracted from pixels in `[0, 1]` (or from float32 ones as they are); none of text.
      std: per channel, by which they are then divided.
      fingerprint: SHA-256 of both splits, hexadecimal; equal on every machine that reads the same examples.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def is_text(self) -> bool:
        """Whether examples are blocks of bytes, and every position has a label."""
        return self.train.labels.ndim == 2


class Source(NamedTuple):
    """A place to read examples from: the size of each split, and a reader of slices of them."""

    sizes: Mapping[str, int]
    num_classes: int
    read: Callable[[Sequence[Slice]], Split]


def in_memory(splits: Mapping[str, Split], num_classes: int) -> Source:
    """A source that reads from arrays."""

    def read(slices: Sequence[Slice]) -> Split:
        parts = [
            (splits[name].images[start:stop], splits[name].labels[start:stop]) for name, start, stop in slices
        ]
        return Split(*map(np.concatenate, zip(*parts, strict=True)))

    return Source({name: len(split.labels) for name, split in splits.items()}, num_classes, read)


def subset(split: Split, n: int, seed: int, *, field: str = "n") -> Split:
    """Draws a fixed random subset of `n` examples, without replacement.

    Subsets drawn with one seed are nested: the smaller is the beginning of the larger.

    Args:
      split: examples to draw from.
      n: number of examples; 0 stands for all of them, in their own order.
      seed: determines the draw.
      field: the configuration field that an error names.

    Raises:
      UserError: `n` is negative or exceeds the number of examples.

    >>> digits = Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4, dtype=np.int32))
    >>> subset(digits, 2, seed=0).images.shape
    (2, 8, 8, 1)
    """
    total = len(split.labels)
    if not 0 <= n <= total:
        raise UserError(f"{field}={n}: expected 0 (all) to {total}, the number of examples in the split")
    if n == 0:
        return split
    chosen = np.random.default_rng(seed).permutation(total)[:n]
    return Split(split.images[chosen], split.labels[chosen])


def fingerprint(*splits: Split) -> str:
    """SHA-256 (hexadecimal) of the shapes, types and bytes of the splits' arrays, in order."""
    digest = hashlib.sha256()
    for array in (array for split in splits for array in split):
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
