"""Ctrl-C at moments at which Python loses the exception that it raises."""

import signal
import subprocess
import sys

import command
import pytest

LINE = "interrupted; the same command goes on from here"
SWALLOWED = {
    "in a finaliser": """
import signal
class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)
from llfc_jax.run import experiment
experiment.train = lambda *args: Dying()
""",
    "where an import is tried": """
import builtins, signal
from llfc_jax.run import configuration
def load(*args):
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as error:
        raise ImportError("an extension") from error
configuration.load = load
""",
    "after the last line": """
import atexit, signal
from llfc_jax.run import commands
commands._experiment = lambda *args: atexit.register(signal.raise_signal, signal.SIGINT)
""",
    "in what catches everything while it cleans up": """
import signal
from llfc_jax.run import experiment
from llfc_jax.runtime import interrupts
def prepare(config, like):
    with interrupts.cleaned_up():
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            pass
experiment.prepare = prepare
""",
    "in a call that Python waits for": """
import signal, time
from llfc_jax.run import experiment
from llfc_jax.runtime import interrupts
interrupts._interrupt = lambda *args: None  # as if the main thread never came to it
experiment.prepare = lambda config, like: (signal.raise_signal(signal.SIGINT), time.sleep(60))
""",
}


@pytest.mark.parametrize("moment", SWALLOWED)
def test_an_interrupt_is_one_line_and_exit_code_130_whenever_it_comes(moment, tmp_path):
    process = command.run(f"--workdir={tmp_path / 'run'}", before=SWALLOWED[moment])
    command.assert_one_line(process, LINE, returncode=130)


def test_what_is_begun_is_cleaned_up_before_the_process_ends(tmp_path):
    code = f"""
import contextlib, pathlib, signal
from llfc_jax.runtime import interrupts
interrupts.install()
path = pathlib.Path({str(tmp_path / "begun")!r})
with contextlib.suppress(KeyboardInterrupt), interrupts.cleaned_up():
    try:
        path.touch()
        signal.raise_signal(signal.SIGINT)
    finally:
        path.unlink()
print("not reached")
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=command.ROOT, capture_output=True, text=True)
    command.assert_one_line(process, LINE, returncode=130)
    assert not (tmp_path / "begun").exists()


def test_a_real_signal_ends_imports_and_waits_alike():
    install = "from llfc_jax.runtime import interrupts; interrupts.install(); print(flush=True)"
    code = f"{install}; import time; time.sleep(60)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=command.ROOT, text=True, **pipes) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, f"llfc_jax: {LINE}\n")
