"""Alignment that was killed goes on: its descent as a checkpoint beside those of the networks."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llfc_jax.matching.keeping import Kept
from llfc_jax.runtime import processes, progress, sharding
from llfc_jax.storage import checkpoint
from llfc_jax.types import PyTree

UNFINISHED = ".unfinished"
"""What follows the name of a network that is being made."""


class CheckpointKeeper(NamedTuple):
    """A `Keeper` whose checkpoint holds B as the descent started, and beside it all that moves since.

    Of several processes each descends by itself, all alike; what is kept they write, and read, together.

    Attributes:
        directory: of the checkpoint.
        config: of the run, saved with it.
        advance: told of every epoch, those too that were kept.
    """

    directory: Path
    config: dict[str, Any]
    advance: progress.Advance

    def restore(self, like: PyTree) -> Kept | None:
        """What was kept last, its arrays like these; None where nothing was."""
        if not processes.of_first(lambda: checkpoint.steps(self.directory)):
            return None
        with sharding.together():
            found = checkpoint.restore(self.directory, training=_beside(like))
        self.advance(found.step, "")
        variables, by_number = sharding.replicate((found.variables, found.training))
        leaves = [by_number[number] for number in _beside(like)]
        beside = jax.tree.unflatten(jax.tree.structure([*like[1:]]), leaves)
        return Kept((variables, *beside), found.metadata["descent"])

    def keep(self, epoch: int, kept: Kept) -> None:
        """Keep what an epoch ended at."""
        metadata = {"config": self.config, "descent": dict(kept.told)}
        with sharding.together():
            checkpoint.save(self.directory, epoch, kept.arrays[0], metadata, _beside(kept.arrays))
        self.advance(1, f"loss {kept.told['losses'][-1]:.3g}")


def keeper_of(
    directory: Path, config: dict[str, Any], advance: progress.Advance = lambda epochs, note: None
) -> CheckpointKeeper:
    """A keeper for the network that `directory` shall hold."""
    return CheckpointKeeper(directory.with_name(f"{directory.name}{UNFINISHED}"), config, advance)


def discard(directory: Path) -> None:
    """Forget the descent towards a network that is there."""
    if processes.is_first():
        shutil.rmtree(directory.with_name(f"{directory.name}{UNFINISHED}"), ignore_errors=True)


def _beside(arrays: PyTree) -> dict[str, PyTree]:
    """By number: names of maps may hold what is no name of a file."""
    return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves([*arrays[1:]]))}
