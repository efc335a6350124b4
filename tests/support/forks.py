"""Processes that needn't import JAX: forks of one that has imported all there is, and computed nothing yet.

For interpreters of seconds each. What a process shows is seen in them (signals, locks, exit codes, what is
on disk, several devices); what an interpreter shows (what it imports, how it begins) is not.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest import mock

import lowering

from llfc_jax.reporting import helpers

ROOT = Path(__file__).parents[2]
OURS = ("llfc_jax.run.sweep", "llfc_jax.reporting.figures")
OTHERS = ("scipy.optimize", "matplotlib.backends.backend_agg")
TIMEOUT_S = 300

# In a fork, too, which imports this file first, and never the tests' own set-up.
lowering.in_one_context()
helpers.MOST = 0


def context() -> ForkServerContext:
    """Where `multiprocessing` and `concurrent.futures` get their processes from."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([*OURS, *OTHERS])
    with mock.patch.dict(os.environ, JAX_PLATFORMS="cpu"), contextlib.chdir(ROOT):
        forkserver.ensure_running()
    return forking


class Started:
    """`subprocess.Popen` of `python -c code argument ...`, run in the repository, as a fork.

    Of the environment, JAX knows what the tests' own processes had as they began.
    """

    def __init__(self, code: str, *arguments: str | Path, environment: Mapping[str, str]) -> None:
        forking = context()
        self._readers, writers = zip(*(forking.Pipe(duplex=False) for _ in range(2)), strict=True)
        given = (["-c", code, *map(str, arguments)], {**environment}, *writers)
        self._process = forking.Process(target=_become, args=given)
        self._process.start()
        for writer in writers:
            writer.close()

    def finished(self) -> CompletedProcess[str]:
        """Its exit code and what it has said, when it is through."""
        timer = threading.Timer(TIMEOUT_S, self._process.kill)
        timer.start()
        with ThreadPoolExecutor(2) as pool:
            out, err = pool.map(_all_of, self._readers)
        self._process.join()
        timer.cancel()
        return CompletedProcess("a fork", self._process.exitcode, out, err)


def _all_of(reader: Connection) -> str:
    with reader, os.fdopen(os.dup(reader.fileno()), encoding="utf-8") as file:
        return file.read()


class Again:
    """In place of `subprocess.Popen` of the very command that a fork runs: a fork of that."""

    def __init__(self, command: list[str], *, stdin: int, env: Mapping[str, str]) -> None:
        reading, writing = os.pipe()
        begin = functools.partial(_begin_again, reading, writing, command[1:], {**env})
        self._process = multiprocessing.get_context("fork").Process(target=begin)
        self._process.start()
        os.close(reading)

    def send_signal(self, number: int) -> None:
        """To the fork."""
        os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Its exit code, when it is through."""
        self._process.join()
        return self._process.exitcode


def _become(command: list[str], environment: Mapping[str, str], *outputs: Connection) -> None:
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), descriptor)
        output.close()
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(ROOT)
    _execute(command, environment)


def _begin_again(reading: int, writing: int, *given: Any) -> None:
    os.dup2(reading, 0)
    os.close(writing)
    signal.set_wakeup_fd(-1)
    _execute(*given)


def _execute(command: list[str], environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    _, code, *arguments = command
    sys.orig_argv, sys.argv = [sys.executable, *command], ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
