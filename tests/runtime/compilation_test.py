"""Programs on disk: the next process finds them, and nothing that befalls them stops it."""

import itertools
import json
import os
import subprocess
import sys

import command
import forks
import jax
import numpy as np
import pytest

from llfc_jax.runtime import compilation

PROGRAM = """
import json, sys, warnings
from collections import Counter
from pathlib import Path
import jax
from llfc_jax.runtime.compilation import keep_programs
events = Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name.rpartition("/")[2]]))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    keep_programs(Path(sys.argv[1]))
    *_, answer = (float(jax.jit(lambda x, n=n: x * n + 1)(20.5)) for n in (4, 3, 2))
print(json.dumps([answer, events["cache_hits"], events["compile_requests_use_cache"], len(caught)]))
"""
NO_REPORT = """
from llfc_jax.run import experiment
experiment.write_report = lambda directory: directory  # compiles nothing, and takes as long as the rest
"""
SMALLEST_RUN = (*command.SMALL_RUN, "--config.model.hidden=(8,)", "--config.train.epochs=2")
FORGOTTEN = """
import jax, llfc_jax.main
assert llfc_jax.main.main({}) == 0
jax.clear_caches()  # as in another process: what is left is on disk
"""
OWN_CACHE = """
import os, jax
del os.environ["JAX_COMPILATION_CACHE_DIR"]
jax.config.update("jax_compilation_cache_dir", None)
"""


def compile_something(directory):
    """The answer, how many programs were found and asked for, and how many warnings there were."""
    process = forks.Started(OWN_CACHE + PROGRAM, directory, environment=command.environment()).finished()
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that one process has filled."""
    directory = tmp_path_factory.mktemp("filled") / "deep" / ".jax_cache"
    answer, found, asked, warned = compile_something(directory)
    assert (answer, found, warned) == (42, 0, 0)
    assert asked == len(list(directory.iterdir())) > 0
    return directory


def test_the_next_process_finds_every_program_however_small(filled):
    answer, found, asked, warned = compile_something(filled)
    assert (answer, warned) == (42, 0)
    assert found == asked > 0


DAMAGES = (
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
)
"""Emptied, cut off, a bit flipped."""


def test_damaged_programs_are_compiled_again(filled):
    sound = {entry: entry.read_bytes() for entry in filled.iterdir()}
    assert len(sound) >= len(DAMAGES)
    for (entry, content), damage in zip(sound.items(), itertools.cycle(DAMAGES), strict=False):
        entry.write_bytes(damage(content))
    answer, found, asked, warned = compile_something(filled)
    for entry, content in sound.items():
        entry.write_bytes(content)
    assert (answer, found) == (42, 0)
    assert warned == asked


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").touch()
    for nowhere in (tmp_path / "file", tmp_path / "file" / ".jax_cache"):
        answer, found, _, warned = compile_something(nowhere)
        assert (answer, found) == (42, 0)
        assert warned > 0


def test_the_cache_that_the_user_chose_is_used(tmp_path):
    environment = command.environment() | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "chosen")}
    python = [sys.executable, "-c", PROGRAM, tmp_path / "ours"]
    subprocess.run(python, cwd=command.ROOT, env=environment, check=True, capture_output=True)
    assert list((tmp_path / "chosen").iterdir())
    assert not (tmp_path / "ours").exists()


def test_the_cache_of_somebody_else_is_not_used(tmp_path, monkeypatch):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.warns(match="isn't ours alone"):
        compilation.keep_programs(tmp_path)
    assert jax.config.values["jax_compilation_cache_dir"] == before


@pytest.mark.slow
def test_a_second_run_beside_the_first_compiles_nothing(tmp_path):
    first, second = ([*SMALLEST_RUN, f"--workdir={tmp_path / name}"] for name in ("first", "second"))
    process = command.run_forked(*second, before=OWN_CACHE + NO_REPORT + FORGOTTEN.format(first))
    assert process.returncode == 0, process.stderr
    kept = tmp_path / ".jax_cache"
    newest = max(entry.stat().st_mtime for entry in kept.iterdir())
    assert newest < (tmp_path / "second" / "config.json").stat().st_mtime


@pytest.mark.parametrize("draw", ["lecun_normal", "he_uniform", "xavier_normal"])
def test_what_runs_once_gives_the_same_numbers(draw):
    def drawn(key):
        return getattr(jax.nn.initializers, draw)()(key, (33, 7))

    key, tests = jax.random.key(3), jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)  # as it is for users
    try:
        found = compilation.jit_once(drawn)(key), jax.jit(drawn)(key)
    finally:
        jax.config.update("jax_disable_most_optimizations", tests)
    np.testing.assert_array_equal(*found)
