"""What a command says when the machine gives out."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.runtime import command_line


def raising(message):
    def command():
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")

    return command


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (jax.jit(lambda: jnp.zeros(2**45)), "the device's memory: 131,072.0 GiB asked for at once"),
        (lambda: np.empty(2**50), "memory: Unable to allocate 8.00 PiB for an array"),
        (raising("Out of memory while trying to allocate 8589934592 bytes."), "the device's memory: 8.0 GiB"),
        (raising("Failed to allocate request for 8.00GiB (8589934592B) on"), "the device's memory: 8.0 GiB"),
        (
            raising("Ran out of memory in hbm"),
            "the device's memory: RESOURCE_EXHAUSTED: Ran out of memory in hbm",
        ),
    ],
)
def test_memory_that_runs_out_is_one_line_with_what_was_asked_and_what_there_is(command, said, capsys):
    assert command_line.run(command) == 2
    there = r"of [\d,]+\.\d GiB that are there in all"
    line = rf"llfc_jax: out of {re.escape(said)}.*, {there}; {command_line.ADVICE}\n"
    assert re.fullmatch(line, capsys.readouterr().err)
