"""Wall time, and what this device could do in it."""

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.runtime import environment
from llfc_jax.training.step import PRECISIONS
from llfc_jax.types import Array, Variables


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of `work`, until its arrays are there."""
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall time of `work`, its first run (compilation) left out."""
    jax.block_until_ready(work())
    return statistics.median(seconds(work) for _ in range(repeats))


@cache
def matmul_peak(precision: str) -> float:
    """FLOP/s of a large matrix product on this device, its factors rounded as `PRECISIONS` says."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    with jax.default_matmul_precision(PRECISIONS[precision]):
        return 2 * size**3 / median_seconds(lambda: jnp.matmul(matrix, matrix), 5)


def forward_flops(apply: Callable[[Variables, Array], Array], variables: Variables, images: Array) -> float:
    """Floating-point operations of a forward pass, as XLA counts them (for CPU: on GPUs it doesn't)."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (variables, images))
    with jax.default_device(jax.devices("cpu")[0]):
        analysis = jax.jit(apply).lower(*shapes).cost_analysis() or {}
    return float(analysis["flops"])


def rates(took: float, images: int, flops: float, precision: str = "float32") -> dict[str, float]:
    """Seconds, what they are per image and operation, and the peak of memory that this process has seen.

    Args:
        took: seconds.
        images: how often a network has seen an image in that time.
        flops: floating-point operations.
        precision: of the matrix product to compare with, a key of `PRECISIONS`.
    """
    memory = environment.peak_memory_bytes()  # before the matrix product takes its own
    return {
        "seconds": took,
        "images/s": images / took,
        "GFLOP/s": flops / took / 1e9,
        "of peak": flops / took / matmul_peak(precision),
        "peak memory (MB)": memory / 1e6,
    }
