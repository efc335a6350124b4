"""Measuring the path between two networks, against bare forward passes."""

from typing import Any

import jax

from llfc_jax import data, environment
from llfc_jax.benchmark.cases import Case
from llfc_jax.benchmark.timing import forward_flops, matmul_peak, median_seconds, seconds
from llfc_jax.data.batches import batches, num_batches
from llfc_jax.interpolation import alpha_grid
from llfc_jax.measures import MEASURES, causes
from llfc_jax.measures.llfc import baseline, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.path import LinearPath, Planned, chunk_for, measure_path

ALPHAS = alpha_grid(25)
LLFC_ALPHAS = (0.25, 0.5, 0.75)


def path_evaluation(case: Case) -> dict[str, Any]:
    """LMC at 25 alphas and LLFC at 3, against the same number of bare forward passes."""
    split, a = case.split(), case.variables(0)
    first = next(batches(split, case.batch_size))
    bare = jax.jit(case.apply)
    forward = median_seconds(lambda: bare(a, first.images), case.repeats)
    took = _walk(case, _connectivity(case))
    passes = len(ALPHAS) * num_batches(split, case.batch_size)
    flops = passes * forward_flops(case.apply, a, first.images)
    return {
        "images": case.images,
        "seconds": took,
        "forward passes alone": passes * forward,
        "ratio": took / (passes * forward),
        "GFLOP/s": flops / took / 1e9,
        "of peak": flops / took / matmul_peak(),
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


def all_measures(case: Case) -> dict[str, Any]:
    """LMC, LLFC and everything that explains it, against LMC and LLFC alone."""
    alone, stages = _connectivity(case), case.network.stages
    without = [name for name in MEASURES if name != "stitching"]
    took = _walk(case, alone)
    unstitched = _walk(case, alone | causes.plan(stages, without, LLFC_ALPHAS))
    everything = _walk(case, alone | causes.plan(stages, MEASURES, LLFC_ALPHAS))
    return {
        "images": case.images,
        "LMC and LLFC: seconds": took,
        "all but stitching": unstitched,
        "all": everything,
        "ratio without stitching": unstitched / took,
        "ratio": everything / took,
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }


def _connectivity(case: Case) -> dict[str, Planned]:
    layers = {stage.name: stage.kind for stage in case.network.stages if stage.is_feature}
    return {
        "lmc": Planned(lmc(), ALPHAS),
        "llfc": Planned(llfc(layers), LLFC_ALPHAS),
        "baseline": Planned(baseline(layers), causes.ANYWHERE),
    }


def _walk(case: Case, plan: dict[str, Planned]) -> float:
    """Seconds that a pass over the data takes once it is compiled."""
    convolutional = any(stage.kind == "conv" for stage in case.network.stages)
    chunk = chunk_for(jax.default_backend(), convolutional)
    path, features_fn = LinearPath(case.variables(0), case.variables(1)), case.apply_with_features

    def walk(examples: data.Split) -> Any:
        return measure_path(features_fn, path, batches(examples, case.batch_size), plan, chunk=chunk)

    split = case.split()
    walk(data.Split(split.images[: case.batch_size], split.labels[: case.batch_size]))
    return seconds(lambda: walk(split))
