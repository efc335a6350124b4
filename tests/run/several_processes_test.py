"""Several processes give the numbers of one, end with each other, and go on in any number."""

import itertools
import json
import os
import shutil
import socket

import command
import forks
import jax
import library_pair
import numpy as np
import pytest
import record_files

from llfc_jax.errors import UserError
from llfc_jax.run import configuration, experiment, keeping
from llfc_jax.runtime import interrupts, processes
from llfc_jax.storage import checkpoint
from llfc_jax.training import loop

FIELDS = {
    "measures": "lmc,llfc",
    "lmc.num_alphas": "3",
    "llfc.alphas": "(0.5,)",
    "model.hidden": "(8,)",
    "model.norm": "batch",
    "train.pair": "independent",
    "train.epochs": "3",
    "align.method": "weight_matching",
    "merge.alpha": "0.5",
    "eval.batch_size": "50",
}
ARGUMENTS = ("--config=configs/test.py", *(f"--config.{name}={value}" for name, value in FIELDS.items()))
STEPS = 8  # per epoch

GUARDED = """
import os, types, forks
from llfc_jax.runtime import guard
guard.subprocess = types.SimpleNamespace(Popen=forks.Again, PIPE=None)
if "LLFC_JAX_GUARDED" in os.environ:  # the process that works, not the one that watches
    import itertools, signal
    from llfc_jax.run import experiment
    from llfc_jax.training import loop
    def write_report(directory):  # in place of one that takes longer than all else
        {at_end}
        return directory
    experiment.write_report = write_report
    order, calls = loop.epoch_batches, itertools.count(1)
    def deadly(*arguments):
        if next(calls) == {epoch}:
            os.kill(os.getpid(), signal.SIGKILL)
        return order(*arguments)
    loop.epoch_batches = deadly
    from llfc_jax.run.keeping import CheckpointKeeper
    def deadly_keep(keeper, epoch, kept, keep=CheckpointKeeper.keep):
        if epoch in {kept} and keeper.directory.parent.name == "checkpoints":
            os.kill(os.getpid(), signal.SIGKILL)
        return keep(keeper, epoch, kept)
    CheckpointKeeper.keep = deadly_keep
    def align_others(bench, checkpoints, align=experiment.align_to_first):
        for directory in (checkpoints, *checkpoints.parent.glob("undisturbed")):
            align(bench, directory)
    experiment.align_to_first = align_others
"""


AS_LIBRARY = """
        import json, library_pair
        from llfc_jax.runtime import processes
        found = library_pair.found(), library_pair.imported(directory / "checkpoints" / "a")
        (directory / f"library{processes.index()}.json").write_text(json.dumps(found))
""".strip()


def start(workdir, *further, dies=(0, 0), dies_at=((), ()), number=2, at_end="pass", own=((), ())):
    """The command in several processes of two devices each, and some code in place of the report.

    Each has arguments of its own besides.

    Each is killed in an epoch of training, `dies`, if not 0, or where it would keep an epoch of `dies_at`.
    Networks in a directory `undisturbed`, beside their `checkpoints`, are aligned after these, to the end.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = (f"--coordinator=127.0.0.1:{free.getsockname()[1]}", f"--processes={number}")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = command.environment() | {"XLA_FLAGS": flags}
    started = []
    for index in range(number):
        code = GUARDED.format(epoch=dies[index], kept=dies_at[index], at_end=at_end)
        code += command.AS_MAIN.format(module="llfc_jax.main")
        given = (*ARGUMENTS, f"--workdir={workdir}", *place, f"--process={index}", *further, *own[index])
        started.append(forks.Started(code, *given, environment=environment))
    ends = [one.finished() for one in started]
    return [((end.stdout, end.stderr), end.returncode) for end in ends]


def run_alone(workdir, monkeypatch, fields=FIELDS, **replaced):
    """The same in this process, with some of its stages replaced."""
    for name, stage in replaced.items():
        monkeypatch.setattr(experiment, name, stage)
    config = configuration.load("configs/test.py", list(fields.items()))
    return experiment.run(config, workdir, "")


LEARNED = {
    "model.norm": "none",
    "train.epochs": "1",
    "measures": "lmc",
    "align.method": "learned_matching",
    "align.epochs": "4",
    "fsdp": "4",
}

STREAMED = {
    "data.name": "ragged",
    "data.train_split": "train",
    "data.test_split": "test",
    "data.augment": "True",
    "data.crop": "resized",
    "data.size": "6",
    "train.batch_size": "8",
    "eval.batch_size": "8",
    "align.method": "none",
    "corrections.examples": "16",
}


def stop(*arguments):
    raise UserError("enough")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two processes, of which one is killed; what they leave goes on in one, then in two again.

    Returns:
        What the first two said, what the last did, the results, with those of an undisturbed process, and
        what the library found in each of the last two.
    """
    together, alone = tmp_path_factory.mktemp("together"), tmp_path_factory.mktemp("alone")
    killed = start(together, dies=(0, 5))  # in the second network's second epoch
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(command.ROOT)
        with pytest.raises(UserError, match="enough"):
            run_alone(together, monkeypatch, align_to_first=stop)
    # Each network in four parts, two in each process.
    resumed = start(together, "--config.fsdp=4", at_end=AS_LIBRARY)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(command.ROOT)
        run_alone(alone, monkeypatch, write_report=lambda directory: directory)
    results = [json.loads((workdir / "results.json").read_text()) for workdir in (together, alone)]
    of_library = [json.loads((together / f"library{index}.json").read_text()) for index in range(2)]
    return killed, resumed, results, of_library


def assert_close(found, expected, where=""):
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name in expected:
            assert_close(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{where}[{i}]")
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=where)
    else:
        assert found == expected, where


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["training", "endpoints", "alignment", *FIELDS["measures"].split(",")])
def test_the_numbers_are_those_of_one_process(entry, runs):
    found, expected = (results[entry] for results in runs[2])
    if entry == "alignment":
        for alignment in (*found.values(), *expected.values()):
            del alignment["seconds"]
    assert expected
    assert_close(found, expected, entry)


@pytest.mark.slow
def test_the_library_shares_batches_out_and_gives_the_numbers_of_one_process_in_each_of_several(runs):
    expected = library_pair.found()
    assert expected["rows"] == 50
    for found, _ in runs[3]:
        assert_close(found, expected | {"rows": 13})


@pytest.mark.slow
def test_each_process_imports_checkpoints_by_itself(runs):
    (_, (ours, pytree)), (_, others) = runs[3]
    assert ours == pytree > 0
    assert others == [ours, pytree]


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_which_say_so_in_one_line(runs):
    (first, code), (second, killed) = runs[0]
    assert (code, killed) == (processes.LOST_CODE, processes.LOST_CODE)
    said = [line for line in first[1].splitlines() if not line.startswith("trained a: ")]
    assert said == [f"llfc_jax: {processes.LOST}"]
    assert second[1] == f"llfc_jax: ended by SIGKILL; {interrupts.GOES_ON}\n"


@pytest.mark.slow
def test_a_process_that_cannot_begin_tells_the_others_at_once(tmp_path):
    ((_, first), code), ((_, second), other) = start(tmp_path, own=((), ("--config.seet=3",)))
    assert (code, other) == (2, 2)
    line = "config has no field 'seet': did you mean 'seed'"
    assert first.startswith(f"llfc_jax: process 1: {line}")
    assert second.startswith(f"llfc_jax: {line}")
    assert [said.count("\n") for said in (first, second)] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "line"),
    [
        ("--processes=3", "--processes: expected the same in all processes; found 2 in process 0 and 3"),
        ("--config.seed=3", "config.seed: expected the same in all processes; found 0 in process 0 and 3"),
        (
            "--sweep=seed=1,2",
            "--sweep seed: expected the same in all processes; found None in process 0 and ['1', '2']",
        ),
    ],
)
def test_processes_of_different_commands_are_told_in_what_they_differ(own, line, tmp_path):
    (said, code), (silent, other) = start(tmp_path, own=((), (own,)))
    assert (code, other) == (2, 2)
    assert said == ("", f"llfc_jax: {line} in process 1\n")
    assert silent == ("", "")


@pytest.mark.slow
def test_one_process_speaks(runs):
    ((out, _), code), (silent, other) = runs[1]
    assert (code, other) == (0, 0)
    assert len(out.splitlines()) == 1
    assert silent == ("", "")


@pytest.mark.slow
def test_a_streamed_set_goes_on_in_two_processes_with_the_numbers_of_one(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images, labels = record_files.examples(generator, 46, (7, 12), classes=3)
    splits = {"train": (images[:32], labels[:32]), "test": (images[32:], labels[32:])}
    record_files.write(tmp_path, "ragged/1.0.0", splits, classes=3)
    fields = FIELDS | STREAMED | {"data.data_dir": str(tmp_path)}
    order, calls = loop.epoch_batches, itertools.count(1)

    def enough(*arguments):
        return stop() if next(calls) == 5 else order(*arguments)  # in the second network's second epoch

    monkeypatch.chdir(command.ROOT)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "epoch_batches", enough)
        with pytest.raises(UserError, match="enough"):
            run_alone(tmp_path / "together", patch, fields)
    ends = start(tmp_path / "together", *(f"--config.{name}={value}" for name, value in fields.items()))
    assert [code for _, code in ends] == [0, 0], ends
    run_alone(tmp_path / "alone", monkeypatch, fields, write_report=lambda directory: directory)
    found, expected = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("together", "alone")
    )
    for entry in ("data", "training", "endpoints", "lmc", "llfc"):
        assert_close(found[entry], expected[entry], entry)


@pytest.mark.slow
def test_a_descent_that_was_killed_goes_on_bit_for_bit(tmp_path):
    given = [f"--config.{name}={value}" for name, value in LEARNED.items()]
    ends = start(tmp_path, *given, dies_at=((), (3,)))
    assert [code for _, code in ends] == [processes.LOST_CODE] * 2, ends
    killed, undisturbed = (tmp_path / name for name in ("checkpoints", "undisturbed"))
    unfinished = killed / f"b_aligned{keeping.UNFINISHED}"
    assert checkpoint.steps(unfinished) == [1, 2]
    shutil.copytree(killed, undisturbed, ignore=shutil.ignore_patterns(unfinished.name))
    ends = start(tmp_path, *given, dies_at=((1, 2), (1, 2)))
    assert [code for _, code in ends] == [0, 0], ends
    found, expected = (checkpoint.restore(directory / "b_aligned") for directory in (killed, undisturbed))
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected.variables)
    for one in (found, expected):
        del one.metadata["alignment"]["seconds"]
    assert found.metadata == expected.metadata
    assert len(found.metadata["alignment"]["objective"]) == 5
    assert not unfinished.exists()
