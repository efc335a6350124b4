"""Ctrl-C at moments at which Python loses the exception that it raises; SIGTERM of clusters."""

import os
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
    run = command.run if moment == "after the last line" else command.run_forked
    process = run(f"--workdir={tmp_path / 'run'}", before=SWALLOWED[moment])
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


BEGIN = "import os, signal, sys, time; from llfc_jax.runtime import guard, interrupts, output; "
WAIT = "print(flush=True); time.sleep(60)"
WAITING = {
    "alone": f"interrupts.install(); {WAIT}",
    "after a library has taken the signals": f"""
import ctypes
interrupts.install()
for number in interrupts.ANSWERED:
    ctypes.CDLL(None).signal(number, 1)  # SIG_IGN, of which Python knows nothing
interrupts.take_back()
{WAIT}""",
    "with what libraries print sent elsewhere": f"""
from pathlib import Path
interrupts.install()
output.divert_libraries(Path(os.devnull))
{WAIT}""",
    "beside another process": f"""
interrupts.install()
if not guard.is_inside():
    sys.exit(guard.run_again())
interrupts.end = lambda number, end=interrupts.end: (time.sleep(0.5), end(number))
{WAIT}""",
}


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", WAITING)
def test_a_signal_to_all_of_a_terminal_is_one_line_and_the_exit_code_of_shells(where, signalled):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    code = [sys.executable, "-c", BEGIN + WAITING[where]]
    with subprocess.Popen(code, cwd=command.ROOT, text=True, **pipes) as process:
        process.stdout.readline()
        os.killpg(process.pid, signalled)
        _, said = process.communicate(timeout=30)
    done = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[signalled]
    assert said == f"llfc_jax: {done}; the same command goes on from here\n"
    assert process.returncode == 128 + signalled


def test_a_signal_waits_for_the_handlers_where_a_program_begins_anew():
    hold = "interrupts.hold(); signal.raise_signal(signal.SIGTERM)"
    again = "os.execv(sys.executable, [sys.executable, '-c', 'from llfc_jax.runtime import interrupts; "
    code = f"{BEGIN}{hold}; {again}interrupts.install()'])"
    process = subprocess.run([sys.executable, "-c", code], cwd=command.ROOT, capture_output=True, text=True)
    command.assert_one_line(process, "terminated; the same command goes on from here", returncode=143)


@pytest.mark.parametrize(("terminal", "before"), [("dumb", ""), ("xterm", "\x1b[?25h\r\x1b[K")])
def test_the_line_takes_the_place_of_a_bar_where_the_terminal_draws_one(terminal, before):
    screen, stderr = os.openpty()
    code = f"{BEGIN}interrupts.end(signal.SIGINT)"
    process = [sys.executable, "-c", code]
    subprocess.run(process, cwd=command.ROOT, stderr=stderr, env=os.environ | {"TERM": terminal})
    os.close(stderr)
    assert os.read(screen, 1000).decode() == f"{before}llfc_jax: {LINE}\r\n"
    os.close(screen)
