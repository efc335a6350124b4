"""Replicates and sweeps, from the command to the table of all runs."""

import json
import shlex
import shutil

import command
import jax
import numpy as np
import pytest
from compiling import traces

from llfc_jax.run import experiment
from llfc_jax.storage import checkpoint

pytestmark = pytest.mark.usefixtures("unrendered")

SMALL = (
    *command.SMALL_RUN,
    "--config.train.epochs=1",
    "--config.train.spawn_steps=None",
    "--config.train.spawn_epochs=0",
    "--config.model.hidden=(8,)",
    "--config.train.pair=spawn",
)
AXES = ("--sweep", "train.spawn_epochs=0,1", "--sweep", "seed=0,1")
NAMES = [f"train.spawn_epochs={epoch},seed={seed}" for epoch in (0, 1) for seed in (0, 1)]


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The workdir of a sweep, what was said, and after each run how much had been compiled."""
    workdir = tmp_path_factory.mktemp("sweep") / "w"
    after, write = [], experiment.write_results
    with pytest.MonkeyPatch.context() as patch, traces() as events:

        def counted(*given):
            write(*given)
            after.append(sum(event.endswith("backend_compile_duration") for event in events))

        patch.setattr(experiment, "write_results", counted)
        process = command.run_here(*SMALL, *AXES, f"--workdir={workdir}")
    assert process.returncode == 0, process.stderr
    return workdir, process, after


@pytest.fixture
def began(monkeypatch):
    """The names of the runs that are made."""
    return beginning(monkeypatch)


def beginning(patch):
    run, names = experiment.write_results, []
    patch.setattr(experiment, "write_results", lambda *given: names.append(given[1].name) or run(*given))
    return names


@pytest.fixture(scope="module")
def replicated(tmp_path_factory):
    """The workdir of two replicates, and the names of the runs that were made for it."""
    workdir = tmp_path_factory.mktemp("replicates") / "both"
    with pytest.MonkeyPatch.context() as patch:
        names = beginning(patch)
        process = command.run_here(*SMALL, "--config.replicates=2", f"--workdir={workdir}")
    assert process.returncode == 0, process.stderr
    return workdir, names


def test_each_point_is_a_run_of_its_own_and_the_table_has_them_all(swept):
    workdir, process, _ = swept
    found = results(workdir)
    assert found["config"]["sweep"] == {"train.spawn_epochs": ["0", "1"], "seed": ["0", "1"]}
    assert [group["fields"] for group in found["groups"]] == [
        {"train.spawn_epochs": 0.0},
        {"train.spawn_epochs": 1.0},
    ]
    for group in found["groups"]:
        for at, (name, seed) in enumerate(group["runs"].items()):
            own = results(workdir / name)
            assert own["config"]["seed"] == seed
            assert own["config"]["train"]["spawn_epochs"] == group["fields"]["train.spawn_epochs"]
            barrier = group["paths"]["a-b"]["quantities"]["test_loss_barrier"]
            assert barrier["each"][at] == own["lmc"]["a-b"]["test"]["loss_barrier"]
    assert "of 2" in process.stdout
    assert process.stdout.splitlines()[-1] == str(workdir / "report.html")
    for file in ("runs.csv", "figures/runs.png", "figures/fields.svg"):
        assert (workdir / file).is_file()


def test_programs_are_compiled_for_the_first_seed_alone(swept):
    *_, (first, second, third, last) = swept
    assert first > 0  # fewer where other tests have compiled some before
    assert second == first
    assert last == third


def test_what_is_finished_is_not_run_again_and_the_rest_ends_the_same(swept, began):
    workdir, *_ = swept
    before, at_work = results(workdir), workdir / NAMES[2]
    untouched = {
        name: (workdir / name / "results.json").stat().st_mtime_ns for name in (*NAMES[:2], NAMES[3])
    }
    for file in (workdir / "results.json", at_work / "results.json"):
        file.unlink()
    process = command.run_here(*SMALL, *AXES, f"--workdir={workdir}")
    assert process.returncode == 0, process.stderr
    assert began == [NAMES[2]]
    assert f"run 4 of 4: {NAMES[2]}" in process.stderr
    assert results(workdir) == before
    assert untouched == {name: (workdir / name / "results.json").stat().st_mtime_ns for name in untouched}


def test_the_command_on_record_of_a_point_draws_its_page(swept):
    workdir, *_ = swept
    arguments = shlex.split(results(workdir / NAMES[1])["command"])[1:]
    assert arguments[-1] == f"--workdir={workdir / NAMES[1]}"
    before = (workdir / NAMES[1] / "results.json").stat().st_mtime_ns
    process = command.run_here(*arguments)
    assert process.returncode == 0, process.stderr
    assert (workdir / NAMES[1] / "report.html").exists()
    assert (workdir / NAMES[1] / "results.json").stat().st_mtime_ns == before


def test_replicates_are_the_runs_of_the_seeds_and_compare_says_the_same_of_them(swept, replicated, tmp_path):
    (workdir, *_), (both, _) = swept, replicated
    (group,) = results(both)["groups"]
    assert group["runs"] == {"seed=0": 0, "seed=1": 1}
    swept_groups = results(workdir)["groups"]
    assert group["paths"] == swept_groups[0]["paths"]  # spawned at epoch 0, too
    each = [
        checkpoint.restore(where / "checkpoints" / "b").variables
        for where in (both / "seed=1", workdir / NAMES[1])
    ]
    jax.tree.map(np.testing.assert_array_equal, *each)

    compared = command.run_here(
        *(both / f"seed={seed}" for seed in (1, 0)),
        f"--out={tmp_path / 'out'}",
        module="llfc_jax.compare",
    )
    assert compared.returncode == 0, compared.stderr
    assert results(tmp_path / "out")["groups"] == [group]
    refused = command.run_here(
        both, workdir / NAMES[0], f"--out={tmp_path / 'other'}", module="llfc_jax.compare"
    )
    command.assert_one_line(refused, ".*both: expected the workdir of a run; found that of many, .*")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sweep", "train.spawn=0,1"], r"config.train has no field 'spawn': .*"),
        (
            ["--sweep", "train.spawn_epochs=0,9"],
            r"config.train.spawn_epochs: expected train.epochs=1 at most; .*",
        ),
        (
            ["--sweep", "train.batch_size=32,1000"],
            r"config.train.batch_size: expected 256 \(the training data\).*",
        ),
        (
            ["--sweep", "opt.name=sgd,sgdd"],
            r"config.opt.name: expected one of sgd, adam, adamw; found 'sgdd'",
        ),
        (["--config.replicates=0"], r"config.replicates: expected a whole number in \[1, 1000\]; found 0"),
        (["--config.replicates=2", "--config.pair.a=a.pt", "--config.pair.b=b.pt"], r".*have no seed"),
        (["--sweep"], r"--sweep: expected one argument"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_made(arguments, line, tmp_path):
    process = command.run_here(*SMALL, *arguments, f"--workdir={tmp_path / 'w'}")
    command.assert_one_line(process, line)
    assert not (tmp_path / "w").exists()


def test_more_values_are_run_in_the_same_workdir_and_what_is_there_stays(swept, tmp_path, began):
    workdir = shutil.copytree(swept[0], tmp_path / "w")
    more = ("--sweep", "train.spawn_epochs=1,0", "--sweep", "seed=2")
    process = command.run_here(*SMALL, *more, f"--workdir={workdir}")
    assert process.returncode == 0, process.stderr
    assert began == ["train.spawn_epochs=1,seed=2", "train.spawn_epochs=0,seed=2"]
    found = results(workdir)
    assert found["config"]["sweep"] == {"train.spawn_epochs": ["1", "0"], "seed": ["0", "1", "2"]}
    before = {tuple(group["fields"].values()): group for group in results(swept[0])["groups"]}
    for group in found["groups"]:
        each = group["paths"]["a-b"]["quantities"]["test_loss_barrier"]["each"]
        earlier = before[tuple(group["fields"].values())]["paths"]["a-b"]["quantities"]
        assert len(each) == 3
        assert each[:2] == earlier["test_loss_barrier"]["each"]

    written = (workdir / "results.json").stat().st_mtime_ns
    again = command.run_here(*SMALL, *more, f"--workdir={workdir}")
    assert again.returncode == 0, again.stderr
    assert len(began) == 2
    assert (workdir / "results.json").stat().st_mtime_ns == written


def test_replicates_join_those_that_are_there(replicated, tmp_path, began):
    workdir, first = shutil.copytree(replicated[0], tmp_path / "w"), replicated[1]
    process = command.run_here(*SMALL, "--config.replicates=3", f"--workdir={workdir}")
    assert process.returncode == 0, process.stderr
    assert [*first, *began] == ["seed=0", "seed=1", "seed=2"]
    assert results(workdir)["groups"][0]["runs"] == {"seed=0": 0, "seed=1": 1, "seed=2": 2}


def test_runs_that_differ_after_training_train_their_networks_once(tmp_path):
    pair = (*SMALL, "--config.train.pair=independent", "--config.measures=lmc")
    methods = ("none", "weight_matching")
    axis = ("--sweep", f"align.method={','.join(methods)}")
    process = command.run_here(*pair, *axis, f"--workdir={tmp_path / 'w'}")
    assert process.returncode == 0, process.stderr
    assert [process.stderr.count(f"trained {name}:") for name in "ab"] == [1, 1]
    runs = [tmp_path / "w" / f"align.method={method}" for method in methods]
    for network in "ab":
        first, other = (checkpoint.restore(run / "checkpoints" / network) for run in runs)
        jax.tree.map(np.testing.assert_array_equal, first.variables, other.variables)
        assert first.metadata["history"] == other.metadata["history"]
        assert other.metadata["config"]["align"]["method"] == "weight_matching"
    plain, aligned = map(results, runs)
    assert plain["lmc"].keys() == {"a-b"}
    assert plain["lmc"]["a-b"] == aligned["lmc"]["a-b"]
    assert aligned["lmc"].keys() == {"a-b", "a-b_aligned"}


def test_a_run_that_diverges_is_left_out_and_named_and_the_others_are_told(tmp_path, began):
    rates = ("--sweep", "opt.learning_rate=1e9,0.1")
    arguments = (*SMALL, "--config.measures=lmc", "--config.train.epochs=2", f"--workdir={tmp_path / 'w'}")
    process = command.run_here(*arguments, *rates)
    assert process.returncode == 0, process.stderr
    diverging, ending = "opt.learning_rate=1000000000", "opt.learning_rate=0.1"
    assert began == [diverging, ending]
    found = results(tmp_path / "w")
    assert [[*group["runs"]] for group in found["groups"]] == [[ending]]
    assert found["diverged"].keys() == {diverging}
    assert "the loss became" in found["diverged"][diverging]
    assert f"{diverging} diverged and is left out" in " ".join(process.stdout.split())
    page = (tmp_path / "w" / "report.html").read_text()
    assert f"{diverging} diverged" in page

    again = command.run_here(*arguments, *rates)
    assert (again.returncode, len(began)) == (0, 2)
    alone = command.run_here(
        *arguments[:-1], "--sweep", "opt.learning_rate=1e9,2e9", f"--workdir={tmp_path / 'v'}"
    )
    assert alone.returncode == 2
    assert "llfc_jax: training " in alone.stderr.splitlines()[-1]
    assert not (tmp_path / "v" / "results.json").exists()


def test_networks_of_other_data_or_cut_short_are_not_taken_over(tmp_path):
    def run(*arguments):
        process = command.run_here(*SMALL, "--config.measures=lmc", *arguments, f"--workdir={tmp_path / 'w'}")
        assert process.returncode == 0, process.stderr
        return [process.stderr.count(f"trained {name}:") for name in "ab"]

    assert run("--sweep", "eval.train_examples=50,60") == [1, 1]
    (tmp_path / "w" / "eval.train_examples=50" / "checkpoints" / "b" / "8").rename(tmp_path / "b")
    metadata = tmp_path / "w" / "eval.train_examples=60" / "checkpoints" / "a" / "8" / "metadata" / "metadata"
    made = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(made | {"fingerprint": "of other data"}))
    assert run("--sweep", "eval.train_examples=70") == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--sweep", "seed=0,1"], "sweep.train.spawn_epochs"),
        ([*AXES, "--sweep", "opt.momentum=0.8,0.9"], "sweep.opt.momentum"),
        ([*AXES, "--config.train.batch_size=64"], "train.batch_size"),
        (["--config.replicates=2"], "replicates"),
    ],
)
def test_a_sweep_of_something_else_in_the_same_workdir_is_refused(swept, arguments, field):
    workdir, *_ = swept
    process = command.run_here(*SMALL, *arguments, f"--workdir={workdir}")
    command.assert_one_line(process, f".* belongs to another run: config.{field} was .*")
