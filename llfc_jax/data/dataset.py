"""What a dataset is: two splits of images and labels, in memory or in files, and what identifies them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from llfc_jax.data.splits import Slice
from llfc_jax.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]
"""Inputs and labels of one batch."""

Seed = tuple[int, ...]


class Wanted(NamedTuple):
    """A batch to be read, or what one process needs of it."""

    examples: np.ndarray
    """(n,) indices of the split."""
    rows: np.ndarray
    """(n,) their places in the whole batch."""
    seed: Seed | None = None
    """By which, and by their places, crops are drawn; None: the crops are those of evaluation."""


class Examples(Protocol):
    """Examples in a fixed order, wherever they lie: in memory, or in files until they are looked at.

    Inputs are images (height, width, channels), uint8 for 0 to 1 in steps of 1/255, or float32, taken as they
    are; of a text, they are blocks of bytes, (block,) uint8, with a label for each byte.
    """

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""

    @property
    def dtype(self) -> np.dtype:
        """Of the inputs."""

    @property
    def is_cropped_anew(self) -> bool:
        """Whether images are augmented as they are read, where a batch has a seed."""

    def read(self, batches: Sequence[Wanted]) -> Iterator[Arrays]:
        """The batches in this order."""

    def part(self, index: np.ndarray) -> "Examples":
        """The examples of these indices."""

    def hold(self) -> "Split":
        """The same in memory, as they are in evaluation."""

    def identify(self, digest: Any) -> None:
        """Feed a hash of `hashlib` with what tells these examples from others."""


class Split(NamedTuple):
    """Examples in memory: images `(n, height, width, channels)` and labels `(n,)` int32; see `Examples`.

    Of a text, they are blocks of bytes, `(n, block)` uint8, and labels, `(n, block)`, the byte after each.
    """

    images: np.ndarray
    labels: np.ndarray

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.images.dtype

    @property
    def is_cropped_anew(self) -> bool:
        return False

    def read(self, batches: Iterable[Wanted]) -> Iterator[Arrays]:
        return ((self.images[wanted.examples], self.labels[wanted.examples]) for wanted in batches)

    def part(self, index: np.ndarray) -> "Split":
        return Split(self.images[index], self.labels[index])

    def hold(self) -> "Split":
        return self

    def identify(self, digest: Any) -> None:
        for array in self:
            digest.update(f"{array.dtype.name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)


class Dataset(NamedTuple):
    """A training and a test split, and the constants that normalise them.

    Attributes:
      name: the name it was loaded by.
      train: examples to train on.
      test: examples to test on.
      num_classes: labels lie in `[0, num_classes)`.
      mean: per channel, subtracted from pixels in `[0, 1]` (or from float32 ones as they are); none of text.
      std: per channel, by which they are then divided.
      fingerprint: SHA-256 of both splits, hexadecimal; equal on every machine that reads the same examples
        in the same way. Of a set that is streamed it is `of_files`.
      of_files: the same of what is opened, before any of it is held, which depends on the machine's memory:
        of names and sizes of files, and a sample of records.
    """

    name: str
    train: Examples
    test: Examples
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    of_files: str

    @property
    def is_text(self) -> bool:
        """Whether examples are blocks of bytes, and every position has a label."""
        return len(self.train.shape) == 1


class Source(NamedTuple):
    """A place to read examples from: the size of each split, and what opens slices of them."""

    sizes: Mapping[str, int]
    num_classes: int
    open: Callable[[Sequence[Slice]], Examples]
    example_bytes: int = 0
    """Of one example in memory, where there is a choice; 0: they are in memory anyway."""


def in_memory(splits: Mapping[str, Split], num_classes: int) -> Source:
    """A source that reads from arrays."""

    def take(slices: Sequence[Slice]) -> Split:
        parts = [
            (splits[name].images[start:stop], splits[name].labels[start:stop]) for name, start, stop in slices
        ]
        return Split(*map(np.concatenate, zip(*parts, strict=True)))

    return Source({name: len(split.labels) for name, split in splits.items()}, num_classes, take)


def subset(examples: Examples, n: int, seed: int, *, field: str = "n") -> Examples:
    """Draws a fixed random subset of `n` examples, without replacement.

    Subsets drawn with one seed are nested: the smaller is the beginning of the larger.

    Args:
      examples: those to draw from.
      n: number of examples; 0 stands for all of them, in their own order.
      seed: determines the draw.
      field: the configuration field that an error names.

    Raises:
      UserError: `n` is negative or exceeds the number of examples.

    >>> digits = Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4, dtype=np.int32))
    >>> subset(digits, 2, seed=0).shape
    (8, 8, 1)
    """
    total = examples.size
    if not 0 <= n <= total:
        raise UserError(f"{field}={n}: expected 0 (all) to {total}, the number of examples in the split")
    if n == 0:
        return examples
    return examples.part(np.random.default_rng(seed).permutation(total)[:n])


def fingerprint(*splits: Examples) -> str:
    """SHA-256 (hexadecimal) of what identifies the splits, in order; of arrays, shapes, types and bytes."""
    digest = hashlib.sha256()
    for split in splits:
        split.identify(digest)
    return digest.hexdigest()
