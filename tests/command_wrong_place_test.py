"""A place that is wrong: one line for whatever it is, and what is there stays as it was."""

import re
import shutil
from pathlib import Path

import command
import pytest

pytestmark = pytest.mark.usefixtures("unrendered")

OPTIONS = command.SMALL_RUN
LIMITED = """
import jax, resource
jax.config.update("jax_enable_compilation_cache", False)  # others would read what it wrote half
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a whole run."""
    workdir = tmp_path_factory.mktemp("place") / "finished"
    assert command.run_here(*OPTIONS, f"--workdir={workdir}").returncode == 0
    return workdir


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
        r".* belongs to another run: config.seed was 0 there and is 1 now; choose another --workdir",
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
        r".*/results.json: no schema_version 2, .*: delete it to make it again",
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


@pytest.mark.parametrize("name", TAKEN)
def test_a_wrong_place_is_one_line_and_stays_as_it_was(name, finished, tmp_path):
    prepare, arguments, limit, line = TAKEN[name]
    workdir = shutil.copytree(finished, tmp_path / "taken")
    prepare(workdir)
    before = command.contents(workdir)
    arguments = [*OPTIONS, *arguments, f"--workdir={workdir}"]
    process = command.run_forked(*arguments, before=limit) if limit else command.run_here(*arguments)
    after = command.contents(workdir)
    said = process.stderr
    process.stderr = re.sub(r"drawing figures.*\n|(measure|draw).*: [\d.]+ s\n|trained .*\n", "", said)
    command.assert_one_line(process, line)
    assert name == "no room for a figure" or "drawing" not in said
    assert {path: after.get(path) for path in before} == before
    assert not [path for path in after.keys() - before.keys() if "orbax-checkpoint-tmp" not in str(path)]


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("precious")
    command.assert_one_line(
        command.run_here(*OPTIONS, f"--workdir={tmp_path / 'file' / 'below'}"),
        r".*/file/below can't be written: Not a directory",
    )
    assert command.contents(tmp_path) == {Path("file"): b"precious"}
