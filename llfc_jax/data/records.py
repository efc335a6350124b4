"""Images and labels in the records of ArrayRecord files, decoded as they are asked for.

Can be pickled: grain's workers read by it, too.
"""

import bisect
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from llfc_jax.data.dataset import Arrays, Seed
from llfc_jax.data.framing import Framing, frame
from llfc_jax.errors import UserError, first_line

PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels -> of an image."""

_WIDER = ("I", "F")
"""How modes begin of more than 8 bits a channel, which Pillow would clip."""


class Shard(NamedTuple):
    """What of a file belongs to the examples."""

    file: str
    first: int
    taken: int
    records: int
    """All that it holds, by the metadata."""


class Records(NamedTuple):
    """Records of several files, one after another.

    Attributes:
      source: `ArrayRecordDataSource` of the shards.
      shards: the files.
      shape: of an image as it comes out.
      framing: how images of any size come to this shape; None where they have it.
      num_classes: labels lie in `[0, num_classes)`.
      advice: what to do where a file is damaged.
    """

    source: Any
    shards: tuple[Shard, ...]
    shape: tuple[int, int, int]
    framing: Framing | None
    num_classes: int
    advice: str

    @property
    def is_cropped_anew(self) -> bool:
        """Whether a seed draws crops."""
        return self.framing is not None and self.framing.is_random

    def read(self, index: np.ndarray, rows: np.ndarray, seed: Seed | None) -> Arrays:
        """Decode examples.

        Args:
          index: (n,) of the examples.
          rows: (n,) their places in a batch.
          seed: with the places, draws the crops; see `Wanted`.

        Raises:
          UserError: a record can't be read or decoded, or has another size or label than it should.
        """
        from tensorflow_datasets.proto import tf_example_pb2

        images = np.empty((len(index), *self.shape), np.uint8)
        labels = np.empty(len(index), np.int32)
        places, is_random = index.tolist(), self.is_cropped_anew
        for i, (place, record) in enumerate(zip(places, self.raw(places), strict=True)):
            generator = np.random.default_rng((*seed, rows[i])) if is_random and seed is not None else None
            try:
                feature = tf_example_pb2.Example.FromString(record).features.feature
                images[i] = self._decode(_only("image", feature["image"].bytes_list.value), generator)
                label = _only("label", feature["label"].int64_list.value)
            except MemoryError:
                raise
            except Exception as error:  # of protobuf or Pillow: they share no base class
                raise UserError(
                    f"data.data_dir: {self.name(place)} can't be decoded ({first_line(error)}); {self.advice}"
                ) from error
            if not 0 <= label < self.num_classes:
                raise UserError(
                    f"data.data_dir: {self.name(place)}: expected a label from 0 to {self.num_classes - 1}, "
                    f"found {label} (a split without labels?)"
                )
            labels[i] = label
        return images, labels

    def raw(self, index: Sequence[int]) -> Sequence[bytes]:
        """Records as they are stored.

        Raises:
          UserError: they can't be read.
        """
        try:
            return self.source.__getitems__(index)
        except Exception as error:  # of ArrayRecord, which has no class of its own
            files = sorted({Path(self.shards[self._shard_of(place)].file).name for place in index})
            where = files[0] if len(files) == 1 else f"one of {files[0]} to {files[-1]}"
            raise UserError(
                f"data.data_dir: {where} can't be read ({first_line(error)}); {self.advice}"
            ) from error

    def name(self, place: int) -> str:
        """What a message calls a record."""
        number = self._shard_of(place)
        shard = self.shards[number]
        record = shard.first + place - sum(other.taken for other in self.shards[:number])
        return f"record {record} of {Path(shard.file).name}"

    def check(self) -> None:
        """That every file is whole: of one that is cut off, records come out empty.

        Raises:
          UserError: names the first that isn't.
        """
        from array_record.python.array_record_module import ArrayRecordReader

        for shard in self.shards:
            try:
                check_regular(Path(shard.file))
                reader = ArrayRecordReader(shard.file)
                found = reader.num_records()
                reader.close()
            except Exception as error:  # as above
                found = f"none ({first_line(error)})"
            if found != shard.records:
                raise UserError(
                    f"data.data_dir: {Path(shard.file).name} can't be read: expected {shard.records} "
                    f"records, found {found}; {self.advice}"
                )

    def facts(self) -> Iterator[str]:
        """What tells these files from others, as text."""
        for shard in self.shards:
            yield f"{Path(shard.file).name} {Path(shard.file).stat().st_size} {shard[1:]}"
        yield f"{self.shape} {self.framing}"

    def _shard_of(self, place: int) -> int:
        ends = list(itertools.accumulate(shard.taken for shard in self.shards))
        return bisect.bisect_right(ends, place)

    def _decode(self, encoded: bytes, generator: np.random.Generator | None) -> np.ndarray:
        """A PNG or JPEG of whatever colour mode."""
        height, width, channels = self.shape
        mode = PILLOW_MODES[channels]
        with _opened(encoded) as opened:
            if opened.mode.startswith(_WIDER):
                raise ValueError(f"expected 8 bits a channel, found an image of mode {opened.mode}")
            image: Image.Image = opened if opened.mode == mode else opened.convert(mode)
            if self.framing is not None:
                image = frame(image, self.framing, generator)
            if image.size != (width, height):
                raise ValueError(
                    f"expected images of {width}×{height} pixels, found {image.width}×{image.height}"
                )
            return np.asarray(image).reshape(self.shape)


def check_regular(path: Path) -> None:
    """Check that a path is of a file, if of anything: to open a pipe would wait for ever.

    Raises:
      ValueError: it is of something else.
    """
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")


def _only(name: str, values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise ValueError(f"expected one {name}, found {len(values) or 'none'}")
    return values[0]


def _opened(encoded: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        raise ValueError(f"expected a PNG or JPEG file, found {len(encoded)} other bytes") from error
