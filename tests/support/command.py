"""Runs the command as a user would, without a network: in a process of its own, or in this one."""

import contextlib
import importlib
import io
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import forks

from llfc_jax.runtime import pages

ROOT = forks.ROOT

NOBODY_LISTENS = "http://127.0.0.1:9"
NO_NETWORK = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOBODY_LISTENS),
    "NO_PROXY": "",
    "no_proxy": "",
    "JAX_PLATFORMS": "cpu",
}
AS_MAIN = "\nimport runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"

NO_JAX = """
import atexit, sys
atexit.register(lambda: print("jax" in sys.modules))
"""
TEST = "--config=configs/test.py"
SMALL_RUN = (
    TEST,
    "--config.lmc.num_alphas=3",
    "--config.llfc.alphas=(0.25, 0.5)",
    "--config.train.spawn_steps=8",
)

QUIET = DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning
"""What Python shows to nobody by default."""

Finished = subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    """What a process that a test starts finds set: what the test itself does, and no network."""
    return os.environ | NO_NETWORK | pages.SETTING  # or it would begin twice


def run(*arguments: str | Path, before: str = "", module: str = "llfc_jax.main") -> Finished:
    """`python -m llfc_jax.main` with arguments, in the repository; `before` is code to run in it first.

    A start takes seconds: for what only an interpreter of its own shows (what it imports, all that reaches
    the terminal). `run_forked` is for what a process shows (signals), `run_here` for the rest.
    """
    start = ["-c", before + AS_MAIN.format(module=module)] if before else ["-m", module]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=forks.TIMEOUT_S
    )


def run_forked(*arguments: str | Path, before: str = "", module: str = "llfc_jax.main") -> Finished:
    """`run` in a process that finds JAX imported."""
    code = before + AS_MAIN.format(module=module)
    return forks.Started(code, *arguments, environment=environment()).finished()


def run_here(*arguments: str | Path, module: str = "llfc_jax.main") -> Finished:
    """`run` in this process, which is left as it was. What isn't a clean exit is raised."""
    command, out, err = [module, *map(str, arguments)], io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(ROOT),
        mock.patch.dict(os.environ, NO_NETWORK),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _fresh_logging(),
    ):
        returncode = importlib.import_module(module).main(command[1:])
    return Finished(command, returncode, out.getvalue(), err.getvalue())


def contents(workdir: Path) -> dict[Path, bytes]:
    """File -> bytes; the log may grow."""
    files = (path for path in workdir.rglob("*") if path.is_file() and path.name != "log.txt")
    return {path.relative_to(workdir): path.read_bytes() for path in files}


def assert_one_line(process: Finished, pattern: str, returncode: int = 2) -> None:
    """That the command said this and no more, and ended with this code."""
    assert re.fullmatch(f"llfc_jax: {pattern}\n", process.stderr), process.stderr
    assert process.returncode == returncode
    assert process.stdout == ""


@contextlib.contextmanager
def _fresh_logging() -> Iterator[None]:
    """Warnings and logs as Python's defaults have them, for the command to send where it likes."""
    root, package = logging.getLogger(), logging.getLogger("llfc_jax")
    handlers, levels = root.handlers, (root.level, package.level)
    with mock.patch.object(sys, "unraisablehook"), warnings.catch_warnings():
        warnings.resetwarnings()
        for category in QUIET:
            warnings.simplefilter("ignore", category)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            for handler in root.handlers:
                if handler not in handlers:
                    handler.close()
            root.handlers = handlers
            root.setLevel(levels[0])
            package.setLevel(levels[1])
