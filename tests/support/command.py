"""Starts the command as a user would, in a process of its own and without a network."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NOBODY_LISTENS = "http://127.0.0.1:9"
ENVIRONMENT = os.environ | {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOBODY_LISTENS),
    "NO_PROXY": "",
    "no_proxy": "",
    "JAX_PLATFORMS": "cpu",
}
AS_MAIN = "\nimport runpy; runpy.run_module('llfc_jax.main', run_name='__main__', alter_sys=True)"

Finished = subprocess.CompletedProcess[str]


def run(*arguments: str | Path, before: str = "") -> Finished:
    """`python -m llfc_jax.main` with arguments, in the repository; `before` is code to run in it first."""
    start = ["-c", before + AS_MAIN] if before else ["-m", "llfc_jax.main"]
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
