"""How much memory a process may take."""

import platform
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.runtime import limits


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes the control groups of a machine: file -> content."""

    def write(mine, files):
        (tmp_path / "mine").write_text(mine)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)

    monkeypatch.setattr(limits, "_MINE", tmp_path / "mine")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path)
    return write


@pytest.mark.parametrize(
    ("mine", "files"),
    [
        ("0::/job/step\n", {"job/step/memory.max": "max\n", "job/memory.max": "4096\n"}),
        ("0::/\n", {"memory.max": "4096\n"}),
        (
            "5:cpu,memory:/job\n4:pids:/other\n",
            {"memory/job/memory.limit_in_bytes": "4096\n", "memory/memory.limit_in_bytes": f"{2**63}\n"},
        ),
    ],
)
def test_what_a_group_around_the_process_allows_is_all_there_is(mine, files, groups):
    without = limits.host_memory_bytes()
    assert without > 4096
    groups(mine, files)
    assert limits.host_memory_bytes() == 4096


def test_a_machine_without_groups_has_all_its_memory(groups):
    groups("0::/job\n", {"job/memory.max": "max\n"})
    whole = limits.host_memory_bytes()
    limits._MINE.unlink()
    assert limits.host_memory_bytes() == whole > 2**20


def test_too_few_addresses_for_jax_are_one_line_not_an_abort(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, resource.RLIM_INFINITY))
    with pytest.raises(UserError, match=r"^ulimit -v: expected 2 GiB at least, or unlimited; found 1 GiB$"):
        limits.check_address_space()
    assert limits.host_memory_bytes() <= 2**30


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_what_is_freed_goes_back_to_the_system():
    taken = [np.ones(2**13) for _ in range(2**12)]  # pieces that malloc keeps: 256 MB
    kept = taken[::256]
    del taken
    before = resident_bytes()
    limits.give_back_freed()
    assert before - resident_bytes() > 2**27
    assert sum(piece.sum() for piece in kept) == 2**17
