"""The process beside one of several: it runs the same command again, and says how that ended."""

import signal
import subprocess
import sys

import command
import pytest

from llfc_jax.runtime import interrupts, processes

PROGRAM = """
import os, sys
from llfc_jax.runtime import guard
if not guard.is_inside():
    sys.exit(guard.run_again())
print(sys.argv[1:], "jax" in sys.modules, flush=True)
{end}
"""


def run(end):
    python = [sys.executable, "-c", PROGRAM.format(end=end), "--flag", "two words"]
    return subprocess.run(python, cwd=command.ROOT, env=command.environment(), capture_output=True, text=True)


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_is_run_once_with_its_arguments_and_ends_with_its_code(code):
    process = run(f"sys.exit({code})")
    assert process.stdout == "['--flag', 'two words'] False\n"
    assert (process.stderr, process.returncode) == ("", code)


@pytest.mark.parametrize(
    ("name", "line"),
    [("SIGABRT", processes.LOST), ("SIGKILL", f"ended by SIGKILL; {interrupts.GOES_ON}")],
)
def test_how_it_was_ended_is_said_in_one_line(name, line):
    process = run(f"import signal; os.kill(os.getpid(), signal.{name})")
    assert (process.stderr, process.returncode) == (f"llfc_jax: {line}\n", processes.LOST_CODE)


def test_where_one_of_the_two_is_killed_the_other_goes_too():
    process = run("import signal, time; os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)")
    assert process.returncode == -signal.SIGKILL  # and all ends of its output are closed
