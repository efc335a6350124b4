"""Measuring the path between two networks, against bare forward passes."""

from collections.abc import Sequence
from typing import Any

import jax

from llfc_jax.benchmark.cases import Case
from llfc_jax.benchmark.timing import forward_flops, median_seconds, rates
from llfc_jax.data.batches import batches, num_batches
from llfc_jax.measures import STANDARD
from llfc_jax.measures.measure import TEST, Measure, Options, build, plan_for
from llfc_jax.path.curves import Curve
from llfc_jax.path.traversal import chunk_for, measure_path
from llfc_jax.program.reading import read_features
from llfc_jax.runtime import environment


def path_evaluation(case: Case) -> dict[str, Any]:
    """LMC at all alphas and LLFC at 3, against the same number of bare forward passes."""
    split, a = case.split(), case.variables(0)
    first = next(batches(split, case.batch_size))
    took = _walk(case, connectivity(case))
    passes = case.alphas * num_batches(split, case.batch_size)
    flops = passes * forward_flops(case.apply, a, first.images)
    measured = rates(took, case.alphas * case.images, flops)  # before bare passes take memory of their own
    bare = jax.jit(case.apply)
    forward = median_seconds(lambda: bare(a, first.images), case.repeats)
    return {
        "images": case.images,
        **measured,
        "forward passes alone": passes * forward,
        "ratio to them": took / (passes * forward),
    }


def all_measures(case: Case) -> dict[str, Any]:
    """LMC, LLFC and everything that explains it, against LMC and LLFC alone."""
    alone, everything = (_walk(case, measures) for measures in (connectivity(case), _all(case)))
    return {
        "images": case.images,
        "seconds": everything,
        "LMC and LLFC alone": alone,
        "ratio to them": everything / alone,
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


def connectivity(case: Case) -> tuple[Measure, ...]:
    """The measures of a pair: LMC and LLFC."""
    return build(("lmc", "llfc"), Options(num_alphas=case.alphas))


def _all(case: Case) -> tuple[Measure, ...]:
    """All that look at data."""
    weights_alone = ("principal_angles", "theory")
    return build([name for name in STANDARD if name not in weights_alone], Options(num_alphas=case.alphas))


def _walk(case: Case, measures: Sequence[Measure]) -> float:
    """Median of the seconds that a pass over the data takes once it is compiled."""
    chunk, split = chunk_for(jax.default_backend()), case.split()
    path = Curve(case.variables(0), case.variables(1))
    first = next(batches(split, case.batch_size))
    program = read_features(case.apply_with_features, path.a, first.images)
    plan = plan_for(program, measures, TEST)

    def walk() -> Any:
        return measure_path(program, path, batches(split, case.batch_size), plan, chunk=chunk)

    return median_seconds(walk, case.repeats)
