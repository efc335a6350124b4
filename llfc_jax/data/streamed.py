"""A split that stays in its ArrayRecord files: grain reads and decodes the batches ahead of their use.

Which examples make a batch, and by what its crops are drawn, is said by whoever asks for it, as a function of
seed and step alone. So the batches of a split in memory and of one that is streamed are the same, whatever
the number of workers, processes and kills on the way.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import parent_process, resource_tracker
from typing import Any

import numpy as np
from absl import flags

from llfc_jax.data.dataset import Arrays, Split, Wanted
from llfc_jax.data.preparation import quiet
from llfc_jax.data.records import Records
from llfc_jax.errors import UserError, first_line

_AHEAD = 3
"""Batches that are decoded before they are asked for, in each worker; without workers, by as many threads."""

_HELD_AT_A_TIME = 4096
_IN_FINGERPRINT = 64

_QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"
"""Of shared memory that it cleans up where a process was killed."""


@dataclass(frozen=True, eq=False)
class Streamed:
    """`Examples` in files."""

    records: Records
    index: np.ndarray
    """(n,) which records they are."""
    workers: int
    """Processes that decode; 0: threads of this one do."""

    @property
    def size(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.records.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def is_cropped_anew(self) -> bool:
        return self.records.is_cropped_anew

    def part(self, index: np.ndarray) -> "Streamed":
        return replace(self, index=self.index[index])

    def hold(self) -> Split:
        images = np.empty((self.size, *self.shape), np.uint8)
        labels = np.empty(self.size, np.int32)
        for start in range(0, self.size, _HELD_AT_A_TIME):
            block = self.index[start : start + _HELD_AT_A_TIME]
            part = slice(start, start + len(block))
            images[part], labels[part] = self.records.read(block, block, None)
        return Split(images, labels)

    def identify(self, digest: Any) -> None:
        sample = self.index[np.linspace(0, self.size - 1, min(self.size, _IN_FINGERPRINT)).astype(int)]
        for fact in self.records.facts():
            digest.update(fact.encode())
        digest.update(np.ascontiguousarray(self.index, np.int64).data)
        for record in self.records.raw(sample.tolist()):
            digest.update(record)

    def read(self, batches: Sequence[Wanted]) -> Iterator[Arrays]:
        """The batches in this order.

        Raises:
          UserError: a record can't be read, see `Records`, or a worker has died.
        """
        import grain

        wanted = [one._replace(examples=self.index[one.examples]) for one in batches]
        ahead = grain.ReadOptions(num_threads=_AHEAD, prefetch_buffer_size=_AHEAD)
        stream = grain.MapDataset.source(_Batches(self.records, wanted)).to_iter_dataset(ahead)
        if self.workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain asks for flags of its own, which keep their defaults
            options = grain.MultiprocessingOptions(self.workers, per_worker_buffer_size=_AHEAD)
            stream = stream.mp_prefetch(options, _begin_work)
        with _left_alone():
            found = iter(stream)
            first = _next(found, self.workers)
        try:
            while first is not None:
                yield first
                first = _next(found, self.workers)
        finally:
            found.close()


@dataclass(frozen=True)
class _Batches:
    """A source of whole batches for grain, which decodes several side by side."""

    records: Records
    wanted: Sequence[Wanted]

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, number: Any) -> Arrays:
        return self.records.read(*self.wanted[number])


def _next(found: Iterator[Arrays], workers: int) -> Arrays | None:
    try:
        return next(found, None)
    except RuntimeError as error:  # grain has no class of its own for it
        if not workers or "Worker process" not in str(error):
            raise
        raise UserError(
            f"config.data.workers: one of {workers} has ended ({first_line(error).partition('. ')[0]}); the "
            "same command goes on from here; fewer take less memory, and 0 none"
        ) from error


def _begin_work(index: int, count: int) -> None:
    """In a worker: import what it takes, and end with the process that it works for."""
    del index, count
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    with quiet():  # its import warns of what others have deprecated
        from tensorflow_datasets.proto import tf_example_pb2  # noqa: F401


@contextlib.contextmanager
def _left_alone() -> Iterator[None]:
    """A stretch whose new threads and processes ignore Ctrl-C, which this one answers, and end in silence."""
    warnings = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (warnings, _QUIET_TRACKER)))
    resource_tracker.ensure_running()  # which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if warnings is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = warnings
