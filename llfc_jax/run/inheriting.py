"""Runs that differ in what is done after training have the same networks: one run trains them for all."""

import json
from collections.abc import Iterable
from pathlib import Path

from llfc_jax.run import workdir
from llfc_jax.run.workbench import Workbench
from llfc_jax.runtime import processes, progress, sharding
from llfc_jax.storage import checkpoint
from llfc_jax.training.lineage import Lineage


def inherit(bench: Workbench, directory: Path, others: Iterable[Path]) -> None:
    """Put the networks that another run has trained into a workdir as its own, where it lacks them.

    Args:
        bench: of the run.
        directory: its workdir, claimed.
        others: workdirs of other runs, whatever they are of.
    """
    own = directory / workdir.CHECKPOINTS
    missing = [one for one in bench.lineages if not checkpoint.steps(own / one.name)]
    source = processes.of_first(lambda: _with_all(bench, missing, others)) if missing else None
    if source is None:
        return
    own.mkdir(exist_ok=True)
    with sharding.split(bench.config.fsdp):
        for one in missing:
            found = checkpoint.restore(Path(source) / workdir.CHECKPOINTS / one.name, one.last_step)
            metadata = found.metadata | {"config": bench.config.to_dict()}
            checkpoint.save(own / one.name, found.step, found.variables, metadata)
    progress.say(f"{', '.join(one.name for one in missing)}: as {source} has trained them")


def _with_all(bench: Workbench, lineages: Iterable[Lineage], others: Iterable[Path]) -> str | None:
    """The first that has trained them all to their ends, as they would be here; None where none has."""
    asked = workdir.training(json.loads(json.dumps(bench.config.to_dict())))

    def has(other: Path, one: Lineage) -> bool:
        network = other / workdir.CHECKPOINTS / one.name
        if one.last_step not in checkpoint.steps(network):
            return False
        made = checkpoint.read_metadata(network, one.last_step)
        same_data = made.get("fingerprint") == bench.of(one.name).dataset.fingerprint
        return same_data and workdir.training(made.get("config")) == asked

    return next((str(other) for other in others if all(has(other, one) for one in lineages)), None)
