"""Prints the table, each row from a process of its own, so that its peak memory is its own.

`peak` is the fraction of the matmul rate measured in the same process. Where PyTorch is installed, the same
work is done in it (`torch_peer.py`), in another process: `x time` and `x MB` say how many times as much it
takes. It keeps the features of the whole dataset, which is larger than that of most rows: `at 10k` is `x MB`
for 10,000 images, its features growing with them. Our memory does not depend on their number.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging
from rich import box
from rich.console import Console
from rich.table import Table

from llfc_jax.benchmark import growth, matching, passes
from llfc_jax.benchmark.cases import CASES, Case
from llfc_jax.benchmark.path import all_measures, path_evaluation
from llfc_jax.runtime import compilation, pages
from llfc_jax.training.step import PRECISIONS

_ROW = flags.DEFINE_string("row", None, "Run this row alone, in this process, and print it as JSON.")
_GROWTH = flags.DEFINE_bool("growth", False, "Measure how the cost of a path grows, instead.")
_ONLY = flags.DEFINE_string("only", "", "Run the rows whose name contains this.")
_IMAGES = flags.DEFINE_integer("images", None, "Number of images; by default the row's own.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Times that something short is timed; the median counts.")
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", list(PRECISIONS), "Of forward passes and training steps, on accelerators."
)
_PEER = flags.DEFINE_bool("peer", True, "Do the same work in PyTorch, where it is installed.")
_JSON = flags.DEFINE_string("json", None, "Write all numbers to this file.")

_SIZES = ("mlp", "resnet20", "resnet20x4", "vgg16")
_MATCHED = ("mlp", "resnet20x4-ln", "vgg16-512")
_IN_TORCH = ("forward", "training step", "path evaluation")

Numbers = dict[str, Any]
"""What a process measured, by name."""


class Row(NamedTuple):
    """A kind of work on a case."""

    kind: str
    work: Callable[[Case], Numbers]
    case: Case


ROWS: dict[str, Row] = {
    f"{kind}, {case}": Row(kind, work, CASES[case])
    for kind, work, cases in (
        ("forward", passes.forward, _SIZES),
        ("training step", passes.training_step, _SIZES),
        ("path evaluation", path_evaluation, _SIZES),
        ("all measures", all_measures, ("mlp",)),
        ("weight matching", matching.weights, _MATCHED),
        ("activation matching", matching.activations, _MATCHED),
    )
    for case in cases
} | {name: Row(growth.KIND, path_evaluation, case) for name, case in growth.GROWING.items()}
"""By name."""


def main(argv: list[str]) -> None:
    """Print each row in full as it is measured, then the table."""
    del argv
    logging.set_verbosity(logging.WARNING)
    compilation.avoid_slow_fusions()
    # Or this process and PyTorch's would find an accelerator's memory taken, and peaks would tell nothing.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if _ROW.value:
        row = ROWS[_ROW.value]
        print(json.dumps(row.work(_case(row))))
        return
    console = Console()
    console.print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    measured: dict[str, dict[str, Numbers | None]] = {}
    kept = [name for name, row in ROWS.items() if (row.kind == growth.KIND) == _GROWTH.value]
    for name, *both in _measure([name for name in kept if _ONLY.value in name]):
        measured[name] = dict(zip(("llfc_jax", "pytorch"), both, strict=True))
        for program, numbers in measured[name].items():
            if numbers:
                console.print(f"[bold]{name}[/], {program}: {_listed(numbers)}", highlight=False)
    ours = {name: both["llfc_jax"] or {} for name, both in measured.items()}
    console.print(growth.table(ours) if _GROWTH.value else table(measured))
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(measured, indent=2))


def _case(row: Row) -> Case:
    case = row.case._replace(repeats=_REPEATS.value, precision=_PRECISION.value)
    if row.kind == growth.KIND:
        return case
    case = case.on(jax.default_backend())
    return case._replace(images=_IMAGES.value or case.images)


def _measure(names: list[str]) -> Iterator[tuple[str, Numbers, Numbers | None]]:
    has_peer = _PEER.value and importlib.util.find_spec("torch") is not None
    options = [f"--repeats={_REPEATS.value}", f"--precision={_PRECISION.value}"]
    options += [f"--images={_IMAGES.value}"] if _IMAGES.value else []
    for name in names:
        row = ROWS[name]
        ours = _run("llfc_jax.benchmark", f"--row={name}", *options)
        compared = has_peer and row.kind in _IN_TORCH
        yield name, ours, _run("llfc_jax.benchmark.torch_peer", json.dumps(job(row))) if compared else None


def job(row: Row) -> dict[str, Any]:
    """What `torch_peer` is to do for a row."""
    case = _case(row)
    on_dataset = row.kind == "path evaluation"
    return {
        "work": row.kind,
        "model": case.model,
        "image": case.image,
        "batch_size": case.batch_size if on_dataset else case.training_batch_size,
        "images": case.images,
        "repeats": case.repeats,
        "precision": case.precision,
    }


def _run(module: str, *arguments: str) -> Numbers:
    """What a process of its own prints; ours and the peer's both have large pages, by which both gain."""
    command, environment = [sys.executable, "-m", module, *arguments], pages.SETTING | os.environ
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


_COLUMNS = {
    "images": "images",
    "seconds": "seconds",
    "images/s": "images/s",
    "GFLOP/s": "GFLOP/s",
    "of peak": "peak",
    "peak memory (MB)": "MB",
}
"""Number -> heading."""


def table(measured: dict[str, dict[str, Numbers | None]]) -> Table:
    """All rows, and how many times as much PyTorch takes."""
    result = Table("row", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (*_COLUMNS.values(), "x time", "x MB", "at 10k"):
        result.add_column(heading, justify="right")
    for name, both in measured.items():
        ours, theirs = both["llfc_jax"] or {}, both["pytorch"]
        shown = [_shown(ours[column]) if column in ours else "" for column in _COLUMNS]
        result.add_row(name, *shown, *(map(_shown, _ratios(ours, theirs)) if theirs else ()))
    return result


def _ratios(ours: Numbers, theirs: Numbers) -> Iterator[float]:
    memory = ours["peak memory (MB)"]
    yield theirs["seconds"] / ours["seconds"]
    yield theirs["peak memory (MB)"] / memory
    if "features (MB)" in theirs:
        more = theirs["features (MB)"] * (10_000 / ours["images"] - 1)
        yield (theirs["peak memory (MB)"] + more) / memory


def _listed(numbers: Numbers) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in numbers.items())


def _shown(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if isinstance(value, float) and value < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    app.run(main)
