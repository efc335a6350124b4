"""Measuring the path between two networks, against bare forward passes."""

from typing import Any

import jax

from llfc_jax import data, environment
from llfc_jax.benchmark.cases import Case
from llfc_jax.benchmark.timing import forward_flops, matmul_peak, median_seconds, seconds
from llfc_jax.data.batches import batches, num_batches
from llfc_jax.interpolation import alpha_grid
from llfc_jax.measures.llfc import baseline, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.path import LinearPath, Planned, chunk_for, measure_path

ALPHAS = alpha_grid(25)
LLFC_ALPHAS = (0.25, 0.5, 0.75)


def path_evaluation(case: Case) -> dict[str, Any]:
    """LMC at 25 alphas and LLFC at 3, against the same number of bare forward passes."""
    network, split = case.network, case.split()
    path = LinearPath(case.variables(0), case.variables(1))
    layers = {stage.name: stage.kind for stage in network.stages if stage.is_feature}
    plan = {
        "lmc": Planned(lmc(), ALPHAS),
        "llfc": Planned(llfc(layers), LLFC_ALPHAS),
        "baseline": Planned(baseline(layers), (0.0,)),
    }
    chunk = chunk_for(jax.default_backend(), any(stage.kind == "conv" for stage in network.stages))
    features_fn = case.apply_with_features

    def walk(examples: data.Split) -> Any:
        return measure_path(features_fn, path, batches(examples, case.batch_size), plan, chunk=chunk)

    first = next(batches(split, case.batch_size))
    bare = jax.jit(case.apply)
    forward = median_seconds(lambda: bare(path.a, first.images), case.repeats)
    walk(data.Split(split.images[: case.batch_size], split.labels[: case.batch_size]))  # compiles
    took = seconds(lambda: walk(split))
    passes = len(ALPHAS) * num_batches(split, case.batch_size)
    flops = passes * forward_flops(case.apply, path.a, first.images)
    return {
        "images": case.images,
        "seconds": took,
        "forward passes alone": passes * forward,
        "ratio": took / (passes * forward),
        "GFLOP/s": flops / took / 1e9,
        "of peak": flops / took / matmul_peak(),
        "peak memory (MB)": environment.peak_memory_bytes() / 1e6,
    }
