"""How much memory a process may take: what the machine has, or less, where a container or a shell says so."""

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from llfc_jax.errors import UserError

ADDRESS_SPACE = 2 * 2**30
"""Bytes in which the smallest run comes through, on two cores; below, XLA ends the process in C++."""

_GROUPS, _MINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def host_memory_bytes() -> int:
    """What this process may take of the machine's memory.

    Control groups limit it in containers and jobs of clusters, which end, unasked, who takes more.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_of_groups(), *_of_shell()])


def check_address_space() -> None:
    """Check that JAX can begin.

    Raises:
        UserError: the shell allows less addresses than it takes.
    """
    for found in _of_shell():
        if found < ADDRESS_SPACE:
            expected = f"{ADDRESS_SPACE / 2**30:g} GiB at least, or unlimited"
            raise UserError(f"ulimit -v: expected {expected}; found {found / 2**30:.3g} GiB")


def give_back_freed() -> None:
    """Give the system back what is freed but kept for later, as by glibc: a GB where XLA has compiled one.

    Other C libraries are left alone.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _of_shell() -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit


def _of_groups() -> Iterator[int]:
    """Of the group of this process, and of those around it."""
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:  # of another system than Linux
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # of the second version
            root, file = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        inside = Path(group.strip("/"))
        for place in (inside, *inside.parents):
            yield from _read(root / place / file)


def _read(path: Path) -> Iterator[int]:
    try:
        text = path.read_text().strip()
    except OSError:
        return
    if text.isdecimal():  # not "max"
        yield int(text)
