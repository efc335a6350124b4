"""Large pages: a program begins anew with them, once, and stays the same otherwise."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from llfc_jax.runtime.pages import ask_for_large
print("begun", flush=True)
ask_for_large()
print(os.environ["GLIBC_TUNABLES"], *sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the pages of Linux's C library")
@pytest.mark.parametrize(("chosen", "begun"), [(None, 2), ("glibc.malloc.arena_max=1", 1)])
def test_a_program_begins_anew_with_its_arguments_unless_the_pages_are_chosen(chosen, begun):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {} if chosen is None else {"GLIBC_TUNABLES": chosen}
    started = [sys.executable, "-c", PROGRAM, "--flag", "two words"]
    process = subprocess.run(started, env=environment, capture_output=True, text=True, check=True)
    last = f"{chosen or 'glibc.malloc.hugetlb=1'} --flag two words"
    assert process.stdout.splitlines() == ["begun"] * begun + [last]
