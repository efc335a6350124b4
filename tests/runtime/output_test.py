"""Standard output, whatever stands at the other end."""

import os
import subprocess
import sys

import command
import pytest

SHOW = """
import sys
from llfc_jax.runtime import command_line, output
sys.exit(command_line.run(lambda: output.show("A–π(B) at α = ½: 1 − cos ≤ 0.1, Ж")))
"""


def show(where="", encoding="utf-8", **options):
    """The command of one line, in a shell that may redirect it."""
    shell = f"exec {sys.executable} -c '{SHOW}' {where}"
    options |= {"env": os.environ | {"PYTHONIOENCODING": encoding}, "encoding": encoding}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(["bash", "-c", shell], cwd=command.ROOT, **pipes)


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", "A–π(B) at α = ½: 1 − cos ≤ 0.1, Ж\n"),
        ("latin-1", "A-pi(B) at alpha = ½: 1 - cos <= 0.1, ?\n"),
        ("ascii", "A-pi(B) at alpha = 1/2: 1 - cos <= 0.1, ?\n"),
    ],
)
def test_where_there_is_no_greek_it_is_written_in_plain_letters(encoding, line):
    process = show(encoding=encoding)
    assert (process.returncode, process.stdout, process.stderr) == (0, line, "")


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (">&-", "standard output is closed: expected a terminal, a file or a pipe"),
        (">/dev/full", "standard output: No space left on device"),
    ],
)
def test_an_output_that_takes_nothing_is_named_in_one_line(where, line):
    process = show(where)
    assert (process.returncode, process.stderr) == (2, f"llfc_jax: {line}\n")


def in_shell(arguments):
    return subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m llfc_jax {arguments}"],
        cwd=command.ROOT,
        capture_output=True,
        text=True,
    )


def test_help_that_can_not_be_written_is_named_in_one_line():
    process = in_shell("export --help >/dev/full")
    line = "llfc_jax: standard output: No space left on device\n"
    assert (process.returncode, process.stderr) == (2, line)


def test_a_pipe_that_nobody_reads_is_named_in_one_line():
    reading, writing = os.pipe()
    os.close(reading)
    process = show(stdout=writing)
    os.close(writing)
    assert (process.returncode, process.stderr) == (2, "llfc_jax: standard output: Broken pipe\n")


def test_without_standard_error_nothing_goes_to_standard_output_instead():
    process = in_shell("--workdri=x 2>&-")
    assert (process.returncode, process.stdout) == (2, "")
