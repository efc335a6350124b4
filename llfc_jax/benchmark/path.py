"""Measuring the path between two networks, against bare forward passes."""

from typing import Any

import jax

from llfc_jax.benchmark.cases import Case
from llfc_jax.benchmark.timing import forward_flops, median_seconds, rates
from llfc_jax.data.batches import batches, num_batches
from llfc_jax.measures import MEASURES, causes
from llfc_jax.measures.llfc import baseline, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.path.interpolation import alpha_grid
from llfc_jax.path.traversal import LinearPath, Planned, chunk_for, measure_path
from llfc_jax.runtime import environment

LLFC_ALPHAS = (0.25, 0.5, 0.75)


def path_evaluation(case: Case) -> dict[str, Any]:
    """LMC at all alphas and LLFC at 3, against the same number of bare forward passes."""
    split, a = case.split(), case.variables(0)
    first = next(batches(split, case.batch_size))
    bare = jax.jit(case.apply)
    forward = median_seconds(lambda: bare(a, first.images), case.repeats)
    took = _walk(case, connectivity(case))
    passes = case.alphas * num_batches(split, case.batch_size)
    flops = passes * forward_flops(case.apply, a, first.images)
    return {
        "images": case.images,
        **rates(took, case.alphas * case.images, flops),
        "forward passes alone": passes * forward,
        "ratio to them": took / (passes * forward),
    }


def all_measures(case: Case) -> dict[str, Any]:
    """LMC, LLFC and everything that explains it, against LMC and LLFC alone."""
    alone, stages = connectivity(case), case.network.stages
    took = _walk(case, alone)
    everything = _walk(case, alone | causes.plan(stages, MEASURES, LLFC_ALPHAS))
    return {
        "images": case.images,
        "seconds": everything,
        "LMC and LLFC alone": took,
        "ratio to them": everything / took,
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


def connectivity(case: Case) -> dict[str, Planned]:
    """The measures of a pair: LMC, LLFC and what LLFC is measured against."""
    layers = {stage.name: stage.kind for stage in case.network.stages if stage.is_feature}
    return {
        "lmc": Planned(lmc(), alpha_grid(case.alphas)),
        "llfc": Planned(llfc(layers), LLFC_ALPHAS),
        "baseline": Planned(baseline(layers, LLFC_ALPHAS), causes.ANYWHERE),
    }


def _walk(case: Case, plan: dict[str, Planned]) -> float:
    """Median of the seconds that a pass over the data takes once it is compiled."""
    chunk = chunk_for(jax.default_backend())
    path, features_fn = LinearPath(case.variables(0), case.variables(1)), case.apply_with_features

    split = case.split()

    def walk() -> Any:
        return measure_path(features_fn, path, batches(split, case.batch_size), plan, chunk=chunk)

    return median_seconds(walk, case.repeats)
