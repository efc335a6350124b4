"""The command as a user meets it: what it prints and what it leaves."""

import json
import re
from pathlib import Path

import command
import pytest

OPTIONS = command.SMALL_RUN
SAID = "|".join(
    (
        r"trained (trunk|a|b): step \d+, test loss .* nats, test error .*%",
        "drawing ",
        r"(train|measure|draw).*: ([\d.]+ s|\d+ of \d+, .* left)$",  # the latter on a busy machine
    )
)
INTERRUPTED = """
import signal
from llfc_jax.run import experiment
experiment.train = lambda *args: signal.raise_signal(signal.SIGINT)
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A workdir, and the process that filled it."""
    workdir = tmp_path_factory.mktemp("command") / "first run"
    return workdir, command.run(*OPTIONS, f"--workdir={workdir}")


def test_the_report_is_the_last_line_and_the_table_fits_100_columns(first):
    workdir, process = first
    assert process.returncode == 0, process.stderr
    *table, last = process.stdout.splitlines()
    assert Path(last) == workdir / "report.html"
    assert Path(last).is_file()
    assert max(map(len, table)) <= 100
    assert "A–B" in process.stdout


def test_the_terminal_gets_no_warnings_and_no_logs(first):
    for line in first[1].stderr.splitlines():
        assert re.match(SAID, line), line


def test_the_options_and_the_command_are_on_record(first):
    results = json.loads((first[0] / "results.json").read_text())
    assert results["config"] == json.loads((first[0] / "config.json").read_text())
    assert results["config"]["llfc"]["alphas"] == [0.25, 0.5]
    assert results["config"]["train"]["spawn_steps"] == 8
    assert results["command"].startswith("llfc_jax --config=configs/test.py --config.lmc.num_alphas=3 ")
    assert f"'--workdir={first[0]}'" in results["command"]


def test_the_second_run_finds_everything_done_and_prints_the_same(first):
    workdir, process = first
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    again = command.run_here(*OPTIONS, f"--workdir={workdir}")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == process.stdout
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_help_is_useful_and_quick():
    process = command.run("--help", before=command.NO_JAX)
    assert (process.returncode, process.stderr) == (0, "")
    for words in (
        "llfc_jax --config=",
        "--workdir",
        "configs/default.py",
        "--config.train.epochs=2",
    ):
        assert words in process.stdout
    assert process.stdout.endswith("False\n")


def test_an_interrupt_is_one_line_and_says_how_to_go_on(tmp_path):
    process = command.run_forked(*OPTIONS, f"--workdir={tmp_path}", before=INTERRUPTED)
    command.assert_one_line(process, "interrupted; the same command goes on from here", returncode=130)
