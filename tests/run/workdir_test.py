"""Who owns a directory, and who is at work in it."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import command
import numpy as np
import pytest
import synthetic_results

from configs import test as test_config
from llfc_jax.errors import UserError
from llfc_jax.results import SCHEMA_VERSION
from llfc_jax.run import experiment, workdir
from llfc_jax.storage import checkpoint

COMMAND = "llfc_jax --config=test"
MINE, OTHER = {"name": "x", "seed": 0}, {"name": "x", "seed": 1}


def fill(directory, config):
    """As a run leaves it, in small."""
    with workdir.claimed(directory, config):
        (directory / "checkpoints").mkdir()
        checkpoint.save(directory / "checkpoints" / "a", 3, {"params": np.ones(2)}, {"config": config})
        (directory / "results.json").write_text(
            json.dumps({"schema_version": SCHEMA_VERSION, "config": config})
        )


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("filled") / "run"
    fill(directory, MINE)
    return directory


@pytest.mark.parametrize(
    ("left", "named"),
    [
        (("config.json", "results.json", "checkpoints"), ""),
        (("results.json",), "/results.json"),
        (("checkpoints",), "/checkpoints/a/3"),
        (("config.json",), ""),
    ],
)
def test_what_another_configuration_made_is_refused_whatever_else_was_deleted(left, named, filled, tmp_path):
    directory = shutil.copytree(filled, tmp_path / "run")
    for path in directory.iterdir():
        if path.name not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    difference = "config.seed was 0 there and is 1 now; choose another --workdir"
    expected = f"^{directory}{named} belongs to another run: {difference}$"
    with pytest.raises(UserError, match=expected), workdir.claimed(directory, OTHER):
        pass
    with workdir.claimed(directory, MINE):
        assert (directory / "config.json").exists()


def test_what_no_run_has_written_is_not_written_over(tmp_path):
    (tmp_path / "report.html").write_text("precious")
    line = r"holds report\.html, which no run there has written; choose another --out$"
    with pytest.raises(UserError, match=line), workdir.claimed(tmp_path, MINE, flag="--out"):
        pytest.fail("it was claimed")
    assert [*command.contents(tmp_path).values()] == [b"precious"]


def test_results_are_finished_for_their_own_configuration_alone(filled):
    assert workdir.is_finished(filled, MINE)
    assert not workdir.is_finished(filled, OTHER)


def test_a_second_process_is_told_that_another_is_at_work(tmp_path):
    code = f"""
from pathlib import Path
from llfc_jax.errors import UserError
from llfc_jax.run import workdir
try:
    with workdir.claimed(Path({str(tmp_path)!r}), {MINE}):
        print("in")
except UserError as error:
    print(error)
"""
    python = [sys.executable, "-c", code]
    second = partial(subprocess.run, python, cwd=command.ROOT, capture_output=True, text=True)
    with workdir.claimed(tmp_path, MINE):
        busy = second().stdout
    assert busy == (
        f"another process is at work in {tmp_path}; wait for its end, or choose another --workdir\n"
    )
    assert second().stdout == "in\n"
    assert os.listdir(tmp_path) == ["config.json"]  # the lock leaves no file


def test_a_directory_without_locks_is_worked_in_all_the_same(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(workdir.fcntl, "flock", refuse)
    with workdir.claimed(tmp_path, MINE):
        assert (tmp_path / "config.json").exists()


def test_a_directory_that_is_deleted_meanwhile_is_an_error(tmp_path):
    directory = tmp_path / "run"
    with (
        pytest.raises(UserError, match=f"^{directory} was deleted while this run was at work; "),
        workdir.claimed(directory, MINE),
    ):
        shutil.rmtree(directory)


def test_a_run_whose_directory_is_deleted_does_not_make_it_anew(tmp_path, monkeypatch):
    directory = tmp_path / "run"
    train = experiment.train

    def deleted_while_training(*args):
        train(*args)
        shutil.rmtree(directory)

    monkeypatch.setattr(experiment, "train", deleted_while_training)
    config = test_config.get_config()
    config.train.epochs = 1
    with pytest.raises(UserError, match=str(directory)):
        experiment.run(config, directory, COMMAND)
    assert not directory.exists()


def test_a_copy_of_a_finished_run_is_not_drawn_again(tmp_path, monkeypatch):
    """Freshness is of the content: a copy's times are those of copying."""
    directory, results = tmp_path / "run", synthetic_results.spawned_mlp()
    directory.mkdir()
    (directory / "results.json").write_text(json.dumps(results))
    drawn = []
    monkeypatch.setattr(experiment.reporting.drawing, "draw", lambda results: drawn.append(1) or [])
    monkeypatch.setattr(experiment.reporting.tidy, "write_csv", lambda results, directory: None)
    monkeypatch.setattr(experiment.reporting.page, "render", lambda results, drawings: "<html></html>")
    monkeypatch.setattr(experiment.reporting.tables, "terminal", lambda results, colour: "")
    experiment.write_report(directory)
    os.utime(directory / "results.json", (4e9, 4e9))
    experiment.write_report(directory)
    assert len(drawn) == 1
    (directory / "results.json").write_text(json.dumps(results | {"other": 1}))
    experiment.write_report(directory)
    assert len(drawn) == 2


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text(json.dumps(synthetic_results.spawned_mlp()))
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    monkeypatch.setattr(experiment.reporting.drawing, "draw", pytest.fail)
    monkeypatch.setattr(experiment, "find_results", pytest.fail)
    for work in (
        experiment.write_report,
        lambda directory: experiment.write_results(None, directory, COMMAND),
    ):
        with pytest.raises(UserError, match=f"^{tmp_path} can't be written: no permission, or a read-only"):
            work(tmp_path)
