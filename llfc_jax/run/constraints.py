"""Where alignment fails: a ladder of constraints for each pair, its rungs kept as they are climbed."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llfc_jax.matching.failing import ConstraintRung, constraint_ladder
from llfc_jax.run.workbench import Workbench
from llfc_jax.runtime import processes, progress, sharding
from llfc_jax.storage import checkpoint, files
from llfc_jax.training.lineage import aligned_name
from llfc_jax.types import Array, Batch


def climb_ladders(bench: Workbench, checkpoints: Path) -> None:
    """Find the barrier of every other network with `a` under ever more of the network's constraints."""
    align = bench.config.align
    for first, *others in bench.families if align.ladder else ():
        for name in others:
            file = _file(checkpoints, aligned_name(name))
            known = [ConstraintRung(*rung) for rung in _read(file)]
            a, b = (checkpoint.restore(checkpoints / one).variables for one in (first, name))
            data = bench.alignment_data()

            def images(data: Callable[[], Iterator[Batch]] = data) -> Iterator[Array]:
                return (batch.images for batch in data())

            def keep(rungs: Sequence[ConstraintRung], file: Path = file) -> None:
                if processes.is_first():
                    file.parent.mkdir(exist_ok=True)
                    files.write_json(file, [[*rung] for rung in rungs])

            with progress.bar(f"constraints between {first} and {name}", total=None), sharding.apart():
                constraint_ladder(
                    bench.alignment_key(),
                    sharding.replicate(a),
                    sharding.replicate(b),
                    method=align.method,
                    apply=bench.pipeline.apply,
                    loss_of=bench.pipeline.loss_of,
                    batches=data,
                    inputs=images,
                    options=align,
                    known=known,
                    keep=keep,
                )


def ladder_of(checkpoints: Path, name: str) -> dict[str, Any]:
    """For the alignment's entry in `results.json`: the rungs of an aligned network, where there are any."""
    rungs = [ConstraintRung(*rung)._asdict() for rung in _read(_file(checkpoints, name))]
    return {"constraints": files.plain(rungs)} if rungs else {}


def _file(checkpoints: Path, name: str) -> Path:
    return checkpoints / f"{name}.constraints" / "rungs.json"


def _read(file: Path) -> list[Any]:
    """Numbers that JSON has not are NaN again."""
    written = processes.of_first(lambda: json.loads(file.read_text()) if file.exists() else [])
    return [[math.nan if entry is None else entry for entry in rung] for rung in written]
