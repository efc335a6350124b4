"""The command, killed again and again by SIGKILL, ends where it would have ended undisturbed."""

import json
import signal
from pathlib import Path

import command
import jax
import numpy as np
import pytest

from llfc_jax.storage import checkpoint

ARGUMENTS = (
    "--config=configs/test.py",
    "--config.model.hidden=(8,)",
    "--config.measures=lmc",
    "--config.lmc.num_alphas=3",
    "--config.train.epochs=5",
    "--config.train.spawn_epochs=3",
    "--config.train.checkpoint_every_epochs=2",
    "--config.align.method=learned_matching",
    "--config.align.epochs=2",
    "--config.align.classes=('scaling',)",
)
STEPS = 8  # per epoch: the trunk saves at 16 and 24, the children at 32 and 40

IN_CALL = """
import importlib, itertools, os, signal
module, calls = importlib.import_module({module!r}), itertools.count(1)
def deadly(*args, call=module.{function}, **kwargs):
    if next(calls) == {count}:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*args, **kwargs)
module.{function} = deadly
"""

IN_RENAME = """
import os, signal
def deadly(call):
    def rename(source, target, **kwargs):
        if os.fspath(target).endswith({target!r}):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(source, target, **kwargs)
    return rename
os.rename, os.replace = deadly(os.rename), deadly(os.replace)
"""


def in_call(module, function, count):
    return IN_CALL.format(module=module, function=function, count=count)


def in_epoch(count):
    return in_call("llfc_jax.training.loop", "epoch_batches", count)


def in_rename(target):
    return IN_RENAME.format(target=target)


ALL = {"trunk": [16, 24], "a": [32, 40], "b": [32, 40], "b_aligned": [40]}
KILLS = {
    "in the trunk, between saves": (in_epoch(3), {"trunk": [16]}),
    "inside a save, between its parts": (in_rename("24.orbax-checkpoint-tmp/metadata"), {"trunk": [16]}),
    "at the end of a save": (in_rename("/a/32"), {"trunk": [16, 24]}),
    "in a child, between saves": (in_epoch(4), {"trunk": [16, 24], "a": [32, 40], "b": [32]}),
    "in learned matching, inside a save": (
        in_rename("b_aligned.unfinished/2"),
        {"trunk": [16, 24], "a": [32, 40], "b": [32, 40], "b_aligned.unfinished": [1]},
    ),
    "while measuring": (in_call("llfc_jax.run.measurement", "measure_along", 1), ALL),
    "while writing the results": (in_rename("results.json"), ALL),
    "while drawing": (in_call("llfc_jax.reporting.drawing", "_encode", 2), ALL),
}
"""When -> how it is killed in the run that goes on from the kills above, and the steps saved by then."""


def killed_and_restarted(workdir):
    """What each kill left, and the run that nobody killed."""
    left = {}
    for name, (code, _) in KILLS.items():
        process = command.run_forked(*ARGUMENTS, f"--workdir={workdir}", before=code)
        saved = {path.name: checkpoint.steps(path) for path in (workdir / "checkpoints").iterdir()}
        left[name] = (
            process.returncode,
            {name: steps for name, steps in saved.items() if steps},
            {name for name in ("results.json", "report.html") if (workdir / name).exists()},
        )
    return left, command.run_forked(*ARGUMENTS, f"--workdir={workdir}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The workdirs of a run left alone up to its results and of a killed one, and what the kills left."""
    before_report = in_call("llfc_jax.run.experiment", "write_report", 1)
    undisturbed, killed = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("killed")
    reference = command.run_forked(*ARGUMENTS, f"--workdir={undisturbed}", before=before_report)
    assert reference.returncode == -signal.SIGKILL, reference.stderr
    left, last = killed_and_restarted(killed)  # whose programs are compiled now
    assert last.returncode == 0, last.stderr
    assert Path(last.stdout.splitlines()[-1]).is_file()
    return undisturbed, killed, left


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_a_kill_leaves_whole_files_and_the_steps_saved_before(name, runs):
    returncode, saved, files = runs[2][name]
    assert returncode == -signal.SIGKILL
    assert saved == KILLS[name][1]
    assert files == ({"results.json"} if name == "while drawing" else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_networks_are_bit_for_bit_those_of_an_undisturbed_run(name, runs):
    undisturbed, killed = (checkpoint.restore(runs[i] / "checkpoints" / name) for i in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, undisturbed.variables, killed.variables)
    told = [one.metadata.get("alignment", {}).pop("seconds", None) for one in (undisturbed, killed)]
    assert (None in told) == (name != "b_aligned")
    assert undisturbed.metadata == killed.metadata


@pytest.mark.slow
def test_results_are_those_of_an_undisturbed_run_and_nothing_half_written_is_left(runs):
    undisturbed, killed = (json.loads((runs[i] / "results.json").read_text()) for i in (0, 1))
    for name in ("data", "endpoints", "training", "lmc"):
        assert undisturbed[name] == killed[name]
    assert not [path for path in runs[1].rglob("*") if "tmp" in path.name]
