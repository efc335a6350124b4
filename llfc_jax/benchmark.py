"""How fast, how close to the machine's limit, and how much memory: `python -m llfc_jax.benchmark`.

Each row runs in a process of its own, so that its peak memory is its own. Networks are random and so are the
images: neither changes the work. `peak` is the matmul rate measured in the same process.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from llfc_jax import data, environment, models
from llfc_jax.data.batches import batches
from llfc_jax.interpolation import alpha_grid
from llfc_jax.measures.llfc import baseline, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.path import LinearPath, Planned, chunk_for, measure_path
from llfc_jax.types import Array, Features, Variables

_ROW = flags.DEFINE_string("row", None, "Run this row alone, in this process, and print it as JSON.")
_ONLY = flags.DEFINE_string("only", "", "Run the rows whose name contains this.")
_IMAGES = flags.DEFINE_integer("images", None, "Number of images; by default the row's own.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Times a forward pass is timed; the median counts.")

ALPHAS = alpha_grid(25)
LLFC_ALPHAS = (0.25, 0.5, 0.75)


class Case(NamedTuple):
    """A network and the data it is fed."""

    model: dict[str, Any]
    image: tuple[int, int, int]
    batch_size: int
    images: int


CASES = {
    "mlp": Case({"name": "mlp"}, (28, 28, 1), batch_size=500, images=10_000),
    "resnet20": Case({"name": "resnet20"}, (32, 32, 3), batch_size=50, images=1_000),
    "resnet20 x4": Case({"name": "resnet20", "width": 4}, (32, 32, 3), batch_size=50, images=200),
    "vgg16": Case({"name": "vgg16", "norm": "batch"}, (32, 32, 3), batch_size=50, images=300),
}


def matmul_peak(size: int = 2048) -> float:
    """FLOP/s of a large float32 matrix product on this device."""
    matrix = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / median_seconds(lambda: product(matrix, matrix), 5)


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `work`, its first run (compilation) left out."""
    jax.block_until_ready(work())
    return statistics.median(_seconds(work) for _ in range(repeats))


def forward_flops(apply: Callable[[Variables, Array], Array], variables: Variables, images: Array) -> float:
    """Floating-point operations of a forward pass, as XLA counts them."""
    analysis = jax.jit(apply).lower(variables, images).cost_analysis()
    return float(analysis["flops"]) if analysis else float("nan")


def path_evaluation(case: Case) -> dict[str, Any]:
    """LMC at 25 alphas and LLFC at 3, against the same number of bare forward passes."""
    network = models.build(case.model, case.image, num_classes=10)
    split = _random_split(case)
    init = jax.jit(lambda seed: network.init(jax.random.key(seed), jnp.zeros((1, *case.image))))
    path = LinearPath(init(0), init(1))

    def features_fn(variables: Variables, images: Array) -> tuple[Array, Features]:
        return network.apply_with_features(variables, data.normalise(images, (0.5,), (0.25,)))

    def apply(variables: Variables, images: Array) -> Array:
        return features_fn(variables, images)[0]

    layers = {stage.name: stage.kind for stage in network.stages if stage.is_feature}
    plan = {
        "lmc": Planned(lmc(), ALPHAS),
        "llfc": Planned(llfc(layers), LLFC_ALPHAS),
        "baseline": Planned(baseline(layers), (0.0,)),
    }
    chunk = chunk_for(jax.default_backend(), any(stage.kind == "conv" for stage in network.stages))

    def walk(examples: data.Split) -> Any:
        return measure_path(features_fn, path, batches(examples, case.batch_size), plan, chunk=chunk)

    first = next(batches(split, case.batch_size))
    bare = jax.jit(apply)
    forward = median_seconds(lambda: bare(path.a, first.images), _REPEATS.value)
    walk(data.Split(split.images[: case.batch_size], split.labels[: case.batch_size]))  # compiles
    seconds = _seconds(lambda: walk(split))
    passes = len(ALPHAS) * -(-case.images // case.batch_size)
    flops = passes * forward_flops(apply, path.a, first.images)
    return {
        "images": case.images,
        "seconds": seconds,
        "forward passes alone": passes * forward,
        "ratio": seconds / (passes * forward),
        "GFLOP/s": flops / seconds / 1e9,
        "of peak": flops / seconds / matmul_peak(),
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


ROWS: dict[str, tuple[Callable[[Case], dict[str, Any]], str]] = {
    f"path evaluation, {name}": (path_evaluation, name) for name in CASES
}
"""Row -> what to run, and on which case."""


def main(argv: list[str]) -> None:
    """Print the table, row by row."""
    del argv
    if _ROW.value:
        work, name = ROWS[_ROW.value]
        case = CASES[name]._replace(images=_IMAGES.value or CASES[name].images)
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


def _random_split(case: Case) -> data.Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (case.images, *case.image), dtype=np.uint8)
    return data.Split(images, generator.integers(0, 10, case.images, dtype=np.int32))


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


if __name__ == "__main__":
    app.run(main)
