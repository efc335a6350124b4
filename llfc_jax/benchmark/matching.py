"""Weight matching against the published procedure, and activation matching against forward passes."""

import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from llfc_jax.benchmark.cases import Case
from llfc_jax.benchmark.timing import median_seconds, seconds
from llfc_jax.data.batches import full_batches
from llfc_jax.matching import activation_matching, weight_matching
from llfc_jax.matching.reference import git_rebasin, inner_product
from llfc_jax.runtime import environment
from llfc_jax.symmetry import PermutationSpec, permutation_spec
from llfc_jax.types import Array, Params, Variables


def weights(case: Case) -> dict[str, Any]:
    """One descent, cold, then by turns with Git Re-Basin's in NumPy and SciPy, medians of both."""
    a, b = ({"params": _perturbed(case.variables(seed)["params"], seed)} for seed in (0, 1))
    spec = _spec(case)

    def match(seed: int) -> Any:
        return weight_matching(jax.random.key(seed), spec, a, b, restarts=1)

    def published() -> Any:
        return git_rebasin(np.random.default_rng(0), spec, a, b)

    cold = seconds(lambda: match(0))
    _, info = match(0)
    permutation, sweeps = published()
    turns = [(seconds(lambda: match(0)), seconds(published)) for _ in range(case.repeats)]
    warm, took = map(statistics.median, zip(*turns, strict=True))
    return {
        "seconds": warm,
        "seconds with compilation": cold,
        "objective": float(info.objective[-1]),
        "sweeps": int(info.sweeps),
        "published: seconds": took,
        "its objective": inner_product(spec, a, b, permutation),
        "its sweeps": sweeps,
        "times as fast": took / warm,
        "with compilation": took / cold,
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


def activations(case: Case) -> dict[str, Any]:
    """Each batch, seen by both networks, against one forward pass of each."""
    a, b = case.variables(0), case.variables(1)
    images = [batch.images for batch in full_batches(case.split(), case.batch_size)]
    bare = jax.jit(case.apply)
    forward = median_seconds(lambda: bare(a, images[0]), case.repeats)
    asked_at = []

    def stream() -> Iterator[Array]:
        for batch in [*images, images[0]]:
            jax.block_until_ready(jax.live_arrays())  # all that was asked for so far
            asked_at.append(time.perf_counter())
            yield batch

    spec = _spec(case)
    total = seconds(
        lambda: activation_matching(jax.random.key(0), spec, a, b, apply=case.apply, batches=stream())
    )
    each = statistics.median([later - earlier for earlier, later in pairwise(asked_at)][2:])  # compiled
    return {
        "images": case.batch_size,
        "seconds": each,
        "images/s": 2 * case.batch_size / each,
        "two forward passes": 2 * forward,
        "ratio to them": each / (2 * forward),
        "all batches, with compilation": total,
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


def _spec(case: Case) -> PermutationSpec:
    return permutation_spec(case.apply, case.variables(0), case.split().images[:2])


def _perturbed(params: Params, seed: int) -> Variables:
    """With biases and scales that differ from unit to unit, as after training."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.01 * rng.standard_normal(x.shape, np.float32), params)
