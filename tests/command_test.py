"""The command as a user meets it: what it prints, what it leaves, and one line for whatever is wrong."""

import ast
import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import command
import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import default

TEST = "--config=configs/test.py"
NO_JAX = """
import atexit, sys
atexit.register(lambda: print("jax" in sys.modules))
"""
LIMITED = """
import os, resource
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # others would read what it wrote half
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""
INTERRUPTED = """
import signal
from llfc_jax.run import experiment
experiment.train = lambda *args: signal.raise_signal(signal.SIGINT)
"""


def contents(workdir):
    """File -> bytes; the log may grow."""
    files = (path for path in workdir.rglob("*") if path.is_file() and path.name != "log.txt")
    return {path.relative_to(workdir): path.read_bytes() for path in files}


def assert_one_line(process, pattern, returncode=2):
    assert re.fullmatch(f"llfc_jax: {pattern}\n", process.stderr), process.stderr
    assert process.returncode == returncode
    assert process.stdout == ""


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


# A run that works.

OPTIONS = (
    TEST,
    "--config.lmc.num_alphas=3",
    "--config.llfc.alphas=(0.25, 0.5)",
    "--config.train.spawn_steps=8",
)


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
        assert re.match(r"trained (trunk|a|b): step \d+, test loss .* nats, test error .*%|drawing ", line), (
            line
        )


def test_the_options_and_the_command_are_on_record(first):
    results = json.loads((first[0] / "results.json").read_text())
    assert results["config"] == json.loads((first[0] / "config.json").read_text())
    assert results["config"]["llfc"]["alphas"] == [0.25, 0.5]
    assert results["config"]["train"]["spawn_steps"] == 8
    assert results["command"].startswith(
        "python -m llfc_jax.main --config=configs/test.py --config.lmc.num_alphas=3 "
    )
    assert f"'--workdir={first[0]}'" in results["command"]


def test_the_second_run_finds_everything_done_and_prints_the_same(first):
    workdir, process = first
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    again = command.run(*OPTIONS, f"--workdir={workdir}")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == process.stdout
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_help_is_useful_and_quick():
    process = command.run("--help", before=NO_JAX)
    assert (process.returncode, process.stderr) == (0, "")
    for words in (
        "python -m llfc_jax.main --config=",
        "--workdir",
        "configs/default.py",
        "--config.train.epochs=2",
    ):
        assert words in process.stdout
    assert process.stdout.endswith("False\n")


# Input that is wrong in itself: nothing is made.

WRONG = {
    "no such config file": (
        ["--config=configs/none.py"],
        r"--config: no file configs/none.py; expected one of .*configs/digits_mlp.py, .*configs/test.py",
    ),
    "no such config file, after a space": (
        ["--config", "configs/none.py"],
        r"--config: no file configs/none.py; expected one of .*",
    ),
    "config file with a mistake": (
        ["--config={empty}/../mistaken.py"],
        r"--config=.*/mistaken.py: NameError: name 'nonsense' is not defined",
    ),
    "misspelt field": (
        ["--config.train.epocs=3"],
        r"config.train has no field 'epocs': did you mean 'epochs\'\? expected one of batch_size, .*",
    ),
    "misspelt section": (
        ["--config.trian.epochs=3"],
        r"config has no field 'trian': did you mean 'train'\? expected one of align, .*, train",
    ),
    "misspelt flag": (["--workdri=x"], r"Unknown command line flag 'workdri'. Did you mean: workdir \?"),
    "wrong type": (["--config.train.epochs=abc"], r"flag --config.train.epochs=abc: .*'abc'"),
    "positional argument": (
        ["train"],
        r"unexpected argument 'train': fields are set as --config.FIELD=VALUE",
    ),
    "alpha beyond the path": (
        ["--config.llfc.alphas=(0.5,1.5)"],
        r"config.llfc.alphas: expected a number in \[0, 1\]; found 1.5",
    ),
    "spawn after the end": (
        ["--config.train.spawn_epochs=4"],
        r"config.train.spawn_epochs: expected train.epochs=3 at most; found 4.0",
    ),
    "unknown measure": (
        ["--config.measures=lmcc"],
        r"config.measures: expected one of lmc, llfc, .*; found 'lmcc'",
    ),
    "unknown model": (
        ["--config.model.name=mpl"],
        r"model.name: expected one of mlp, lenet, .*; found 'mpl'",
    ),
    "unknown dataset": (
        ["--config.data.name=mnits"],
        r"data.name='mnits': no such dataset \(did you mean 'mnist'\?\); expected digits, mnist, .*",
    ),
    "unknown split": (
        ["--config.data.test_split=tset"],
        r"data.test_split='tset': no split 'tset'; expected train, test, or a slice .*",
    ),
    "unknown optimizer": (["--config.opt.name=sdg"], r"opt.name: expected one of sgd, adam; found 'sdg'"),
    "unknown precision": (
        ["--config.train.precision=float16"],
        r"config.train.precision: expected one of float32, tf32, bfloat16; found 'float16'",
    ),
    "batch larger than the data": (
        ["--config.train.batch_size=257"],
        r"config.train.batch_size: expected 256 \(the training data\) at most; found 257",
    ),
    "no data and no network": (
        ["--config.data.name=mnist", "--config.data.data_dir={empty}"],
        r"data.name='mnist' is not in data.data_dir='.*' \(which holds no datasets\) .* no connection to .*",
    ),
    "no data directory": (
        ["--config.data.name=mnist", "--config.data.data_dir={empty}/none"],
        r"data.name='mnist' is not in data.data_dir='.*' \(which does not exist\) .* no connection to .*",
    ),
    "images too small for the model": (
        ["--config=configs/default.py", "--config.model.name=vgg16"],
        r"model.name='vgg16' can't take images of 8x8x1: nothing is left of them at 'pool4'",
    ),
}
BEFORE_JAX = ("no such config file", "misspelt field", "wrong type", "positional argument")


@pytest.fixture(scope="module")
def wrong(pool, tmp_path_factory):
    """What is wrong -> the workdir and the process, which may still run."""
    directory, runs = tmp_path_factory.mktemp("wrong"), {}
    (directory / "mistaken.py").write_text("nonsense")
    for name, (arguments, _) in WRONG.items():
        empty = directory / f"{name}, data"
        empty.mkdir()
        arguments = [argument.format(empty=empty) for argument in arguments]
        config = [] if arguments[0].startswith("--config=") or arguments[0] == "--config" else [TEST]
        workdir = directory / name
        runs[name] = workdir, pool.submit(command.run, *config, *arguments, f"--workdir={workdir}")
    return runs


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(name, wrong):
    workdir, process = wrong[name]
    assert_one_line(process.result(), WRONG[name][1])
    assert not contents(workdir)
    assert not list((workdir.parent / f"{name}, data").iterdir())


@pytest.mark.parametrize("name", BEFORE_JAX)
def test_wrong_flags_are_told_without_importing_jax(name):
    process = command.run(TEST, *WRONG[name][0], before=NO_JAX)
    assert process.stdout == "False\n"
    assert process.returncode == 2


# A place that is wrong: what is there stays as it was.


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage_checkpoint(how, part):
    def damage(workdir):
        (workdir / "results.json").unlink()
        for path in (workdir / "checkpoints" / part).rglob("*"):
            if path.is_file() and path.stat().st_size:
                how(path)

    return damage


def remove_b(workdir):
    (workdir / "results.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "b")


def damage_trunk(workdir):
    damage_checkpoint(truncate, "trunk/8/metadata")(workdir)
    for network in "ab":
        shutil.rmtree(workdir / "checkpoints" / network)


DAMAGED_STEP = (
    r"checkpoint .*/checkpoints/a/24 is damaged \(.*\): delete it to go on from the step before, 16"
)
TAKEN = {
    "another configuration": (
        lambda workdir: None,
        ["--config.seed=1"],
        "",
        r".* belongs to another run: config.seed was 0 there and is 1 now; .*",
    ),
    "flipped bit in a checkpoint": (damage_checkpoint(flip_a_bit, "a/24/variables"), [], "", DAMAGED_STEP),
    "truncated checkpoint": (damage_checkpoint(truncate, "a/24/variables"), [], "", DAMAGED_STEP),
    "damaged trunk": (
        damage_trunk,
        [],
        "",
        r"checkpoint .*/checkpoints/trunk/8 is damaged \(.*\): no step before it is left; "
        r"delete .*/checkpoints/trunk to train again",
    ),
    "damaged results": (
        lambda workdir: truncate(workdir / "results.json"),
        [],
        "",
        r".*/results.json is damaged \(.*\): delete it to make it again",
    ),
    "results of another release": (
        lambda workdir: (workdir / "results.json").write_text("{}"),
        [],
        "",
        r".*/results.json has no schema_version 1, .*: delete it to make it again",
    ),
    "damaged configuration": (
        lambda workdir: truncate(workdir / "config.json"),
        [],
        "",
        r".*/config.json is damaged \(.*\): delete it to make it again",
    ),
    "no room for the configuration": (
        shutil.rmtree,
        [],
        LIMITED.format(limit=500),
        r".* can't be written: File too large",
    ),
    "no room for a checkpoint": (
        remove_b,
        [],
        LIMITED.format(limit=300),
        r"can't write checkpoint .*/checkpoints/b/\d+: .*",
    ),
    "no room for a figure": (
        lambda workdir: (workdir / "report.html").unlink(),
        [],
        LIMITED.format(limit=10_000),
        r".* can't be written: File too large",
    ),
}


@pytest.fixture(scope="module")
def taken(pool, first, tmp_path_factory):
    """What is wrong -> the workdir, what was in it, and the process, which may still run."""
    directory, runs = tmp_path_factory.mktemp("taken"), {}
    for name, (prepare, arguments, before, _) in TAKEN.items():
        workdir = shutil.copytree(first[0], directory / name)
        prepare(workdir)
        process = pool.submit(command.run, *OPTIONS, *arguments, f"--workdir={workdir}", before=before)
        runs[name] = workdir, contents(workdir), process
    return runs


@pytest.mark.parametrize("name", TAKEN)
def test_a_wrong_place_is_one_line_and_stays_as_it_was(name, taken):
    workdir, before, process = taken[name]
    process = process.result()
    after = contents(workdir)
    said, process.stderr = (
        process.stderr,
        process.stderr.replace("drawing figures and writing the report\n", ""),
    )
    assert_one_line(process, TAKEN[name][-1])
    assert name == "no room for a figure" or "drawing" not in said
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after.keys() - before.keys() if "orbax-checkpoint-tmp" not in str(path)]


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("precious")
    assert_one_line(
        command.run(*OPTIONS, f"--workdir={tmp_path / 'file' / 'below'}"),
        r".*/file/below can't be written: Not a directory",
    )
    assert contents(tmp_path) == {Path("file"): b"precious"}


def test_an_interrupt_is_one_line_and_says_how_to_go_on(tmp_path):
    process = command.run(*OPTIONS, f"--workdir={tmp_path}", before=INTERRUPTED)
    assert_one_line(process, "interrupted; the same command goes on from here", returncode=130)


# Fields.


def fields(config, prefix="config"):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", config.get_type(name)


VALUES = {str: "lmc", int: "7", float: "0.125", bool: "true", tuple: "(3, 0.5)"}


def test_every_field_can_be_set_from_the_command_line(monkeypatch):
    types = dict(fields(default.get_config()))
    assert len(types) > 30
    monkeypatch.setattr("sys.argv", ["main", *(f"--{name}={VALUES[kind]}" for name, kind in types.items())])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", default.get_config(), flag_values=values)
    values(sys.argv)
    for name, kind in types.items():
        value = values.config
        for key in name.split(".")[1:]:
            value = value[key]
        assert value == (VALUES[str] if kind is str else ast.literal_eval(VALUES[kind].capitalize())), name
        assert type(value) is kind
