"""Many runs by one command, each with a workdir of its own beneath, and what they say together."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from llfc_jax.errors import DivergenceError
from llfc_jax.reporting import groups, writing
from llfc_jax.run import experiment, workdir
from llfc_jax.run.inheriting import inherit
from llfc_jax.run.points import MODEL, REPLICATES, SEED, SWEEP, Axis, Point, grown, points
from llfc_jax.run.validation import RULES, validate
from llfc_jax.run.workbench import Workbench, prepare
from llfc_jax.runtime import compilation, processes, progress
from llfc_jax.storage import files


def run(config: ConfigDict, axes: Sequence[Axis], directory: Path, command: str, alone: str) -> Path:
    """Run what isn't finished of a product of fields' values, and of replicates; then an overview of all.

    Where that is one run, it is the whole of it, without an overview. Several share the process, the data,
    the programs that are the same, and the networks where they differ in what comes after training. The runs
    of an earlier sweep over other values of the same fields stay in the workdir and are part of the overview.
    Where the training of some diverges, it is of the others, and says so.

    Args:
        config: what the runs share.
        axes: of the sweep; none for replicates, or a single run.
        directory: the workdir.
        command: what the user typed, for the record.
        alone: the same without what makes many runs of it, for the record of each.

    Returns:
        The report page.

    Raises:
        UserError: bad input, of any of the runs, or other input of another process; nothing has been trained
            then. Or all of them diverge.
    """
    experiment.check_same(config)
    processes.agree({f"--sweep {axis.field}": list(axis.values) for axis in axes})
    if not axes and config.get(REPLICATES, 1) == 1:
        return experiment.run(config, directory, command)
    if not RULES[REPLICATES].fits(config.get(REPLICATES)):
        validate(config)  # and say so
    if MODEL not in (axis.field for axis in axes):
        experiment.pin(config)
    earlier = processes.of_first(lambda: _earlier(directory, config, axes))
    if earlier is not None:
        config, axes = grown(config, axes, earlier.get(SWEEP, {}), earlier[REPLICATES])
    many = points(config, axes)
    for point in many.values():
        experiment.resolve(point.config)
    record = config.to_dict() | ({SWEEP: {axis.field: list(axis.values) for axis in axes}} if axes else {})
    results_file = directory / workdir.RESULTS
    experiment.check_same(config)
    names = processes.of_first(lambda: _unfinished(many, directory, record))
    todo = {name: many[name] for name in names}
    with processes.in_turn():
        bench = _check(todo, directory)
    with workdir.claimed(directory, record, outgrown=earlier):
        compilation.keep_programs(directory.absolute().parent / compilation.CACHE)
        if not processes.of_first(results_file.exists):
            diverged = _run_each(todo, [*many], bench, directory, alone)
            if len(diverged) == len(many):
                raise DivergenceError(next(iter(diverged.values())))
            if processes.is_first():
                runs = {name: writing.read_results(directory / name) for name in many if name not in diverged}
                swept = [axis.field for axis in axes if axis.field != SEED]
                found = groups.overview(runs, swept) | {"config": record, "command": command}
                found |= {"diverged": diverged} if diverged else {}
                with files.writing(directory):
                    files.write_json(results_file, found)
        return experiment.write_report(directory)


def _earlier(directory: Path, config: ConfigDict, axes: Sequence[Axis]) -> dict[str, Any] | None:
    """What a workdir has on record of many runs, if they differ from these in the fields' values alone."""
    record = workdir.recorded(directory)
    if not isinstance(record, dict) or not (record.get(SWEEP) or record.get(REPLICATES, 1) > 1):
        return None

    def shared(of_all: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value for name, value in workdir.what(of_all).items() if name not in (SWEEP, REPLICATES)
        }

    same_fields = record.get(SWEEP, {}).keys() == {axis.field for axis in axes}
    same = shared(record) == json.loads(json.dumps(shared(config.to_dict())))
    return record if same_fields and same else None


def _unfinished(many: Mapping[str, Point], directory: Path, record: dict[str, Any]) -> list[str]:
    """The names of the runs that are to be made."""
    if workdir.is_finished(directory, record):
        return []
    return [name for name, point in many.items() if not workdir.is_finished(directory / name, _record(point))]


def _check(todo: Mapping[str, Point], directory: Path) -> Workbench | None:
    """Prepare all runs before the first is trained; returns the last one's workbench.

    Raises:
        UserError: one can't be.
    """
    bench = None
    for name, point in todo.items():
        workdir.check_owner(directory / name, _record(point))
        bench = prepare(point.config, like=bench)
    return bench


def _run_each(
    todo: Mapping[str, Point], of: Sequence[str], bench: Workbench | None, directory: Path, alone: str
) -> dict[str, str]:
    """Make the runs; returns the names of those whose training diverged, and how."""
    diverged = {}
    count, others = len(of), [directory / name for name in of]
    for number, (name, point) in enumerate(todo.items(), start=count - len(todo) + 1):
        progress.say(f"run {number} of {count}: {name}")
        before, bench = bench, experiment.prepare_together(point.config, like=bench)
        if before is not None and bench.pipeline is not before.pipeline:
            jax.clear_caches()  # programs of networks that are done with fill the memory
        command = [f"--config.{field}={value}" for field, value in point.changes]
        with workdir.claimed(directory / name, _record(point)):
            again = f"{alone} {shlex.join([*command, f'--workdir={directory / name}'])}"
            inherit(bench, directory / name, others)
            try:
                experiment.write_results(bench, directory / name, again)
            except DivergenceError as error:
                diverged[name] = str(error)
                progress.say(f"{name}: {error}")
    return diverged


def _record(point: Point) -> dict[str, Any]:
    return point.config.to_dict()
