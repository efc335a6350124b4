"""Prints the table, each row from a process of its own, so that its peak memory is its own.

`peak` is the matmul rate measured in the same process.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, flags
from rich.console import Console
from rich.table import Table

from llfc_jax import compilation
from llfc_jax.benchmark import matching
from llfc_jax.benchmark.cases import CASES, Case
from llfc_jax.benchmark.path import all_measures, path_evaluation

_ROW = flags.DEFINE_string("row", None, "Run this row alone, in this process, and print it as JSON.")
_ONLY = flags.DEFINE_string("only", "", "Run the rows whose name contains this.")
_IMAGES = flags.DEFINE_integer("images", None, "Number of images; by default the row's own.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Times a forward pass is timed; the median counts.")

_MATCHED = ("mlp", "resnet20 x4, conv shortcuts", "vgg16")

ROWS: dict[str, tuple[Callable[[Case], dict[str, Any]], str]] = {
    **{f"path evaluation, {name}": (path_evaluation, name) for name in CASES},
    **{f"all measures, {name}": (all_measures, name) for name in ("mlp", "resnet20")},
    **{f"weight matching, {name}": (matching.weights, name) for name in _MATCHED},
    **{f"activation matching, {name}": (matching.activations, name) for name in _MATCHED},
}
"""Row -> what to run, and on which case."""


def main(argv: list[str]) -> None:
    """Print the table, row by row."""
    del argv
    compilation.avoid_slow_fusions()
    if _ROW.value:
        work, name = ROWS[_ROW.value]
        case = CASES[name]._replace(repeats=_REPEATS.value, images=_IMAGES.value or CASES[name].images)
        print(json.dumps(work(case)))
        return
    console = Console()
    console.print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    for row, found in _in_processes():
        table = Table("row", *found)
        table.add_row(
            row, *(f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" for value in found.values())
        )
        console.print(table)


def _in_processes() -> Iterator[tuple[str, dict[str, Any]]]:
    options = [f"--repeats={_REPEATS.value}", *([f"--images={_IMAGES.value}"] if _IMAGES.value else [])]
    for row in ROWS:
        if _ONLY.value in row:
            command = [sys.executable, "-m", "llfc_jax.benchmark", f"--row={row}", *options]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            yield row, json.loads(output.splitlines()[-1])


if __name__ == "__main__":
    app.run(main)
