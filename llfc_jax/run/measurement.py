"""What is measured on trained networks: their ends, and every path between them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from llfc_jax import models
from llfc_jax.corrections.correction import CorrectedPath, Correction, corrected_paths
from llfc_jax.corrections.merging import merged
from llfc_jax.corrections.repair import repair
from llfc_jax.corrections.sites import sites
from llfc_jax.data import Examples
from llfc_jax.data.batches import batches, even_size
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.measures.measure import TEST, TRAIN, Measure, Options, build, measure_along
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import alpha_grid, weights_apart
from llfc_jax.path.traversal import chunk_for
from llfc_jax.program.nodes import Program
from llfc_jax.program.reading import read_features
from llfc_jax.results import PathKey
from llfc_jax.run.constraints import ladder_of
from llfc_jax.run.curves import aligned_pairs, all_pairs, bent, measure_plane
from llfc_jax.run.sampling import samples
from llfc_jax.run.workbench import Workbench, stream, training_stream
from llfc_jax.runtime import progress
from llfc_jax.storage import checkpoint
from llfc_jax.training import lineage
from llfc_jax.types import Batch, Variables

_MOST_PASSES = 10
"""Over a small training set, to see enough crops of it: more of one image say little."""


def measure(bench: Workbench, checkpoints: Path) -> dict[str, Any]:
    """Everything in `results.json` that comes from the trained networks."""
    aligned = aligned_pairs(bench, checkpoints)
    names = [*dict.fromkeys(itertools.chain(*all_pairs(bench, checkpoints)))]
    networks = {name: checkpoint.restore(checkpoints / name) for name in names}
    trunks = {
        one.name: checkpoint.restore(checkpoints / one.name)
        for one in bench.lineages
        if one.name not in networks
    }
    results: dict[str, Any] = {
        "data": _describe_data(bench),
        "model": {
            "name": bench.config.model.name,
            "parameters": models.count_parameters(bench.network.parameters(networks[names[0]].variables)),
            "stages": list(bench.network.steps),
            **({"sha256": sha256} if (sha256 := bench.config.model.sha256) else {}),
        },
        "training": {
            name: history
            for name, found in (trunks | networks).items()
            if "alignment" not in found.metadata and (history := found.metadata["history"])["step"]
        },
        "alignment": {
            f"{first}-{name}": networks[name].metadata["alignment"] | ladder_of(checkpoints, name)
            for first, name in aligned
        },
        "endpoints": {
            name: _endpoints(bench, found.variables)
            for name, found in (networks | _merged(checkpoints)).items()
        },
    }
    if bench.config.plane.size:  # first, as three networks may span none
        results["plane"] = measure_plane(bench, checkpoints)
    measures = build(bench.config.measures, options(bench))
    corrected_at = _all_alphas(bench) if any(one.along_corrected for one in measures) else []
    program = read_network(bench, networks[names[0]].variables)
    mended_by = corrections(bench, program) if corrected_at else ()
    for name_a, name_b in all_pairs(bench, checkpoints):
        a, b = networks[name_a].variables, networks[name_b].variables
        line = PathKey.parse(f"{name_a}-{name_b}")
        if bench.dataset.is_text and bench.config.sample.length:
            results.setdefault("samples", {})[str(line)] = samples(bench, a, b)
        for curve in (Curve(a, b), *bent(bench, checkpoints, line, a, b)):
            plain = line._replace(curve="" if curve.is_line else curve.kind)
            results.setdefault("weights", {})[str(plain)] = weights_apart(a, b)
            for correction, path in paths(bench, program, curve, corrected_at, mended_by).items():
                key = str(plain._replace(correction=correction))
                for measure_name, result in _measure_path(bench, program, measures, path, key).items():
                    results.setdefault(measure_name, {})[key] = result
    return results


def _merged(checkpoints: Path) -> dict[str, checkpoint.Checkpoint]:
    directory = checkpoints / lineage.MERGED
    return {lineage.MERGED: checkpoint.restore(directory)} if checkpoint.steps(directory) else {}


def paths(
    bench: Workbench,
    program: Program,
    curve: Curve,
    alphas: Sequence[float],
    mended_by: Iterable[Correction],
) -> dict[str, CorrectedPath]:
    """Correction, of its key in `results.json` -> the path: plain, and with each, known at `alphas`."""
    return corrected_paths(program, curve, alphas, mended_by, _correction_data(bench))


def merged_network(bench: Workbench, networks: Sequence[Variables], weights: Sequence[float]) -> Variables:
    """The weighted mean of several networks, corrected where the configuration asks for it."""
    program = read_network(bench, networks[0])
    correction = next(iter(corrections(bench, program)), None)
    name = "" if correction is None else correction.name
    return merged(networks, weights, correction, program, partial(_correction_data(bench), name))


def _correction_data(bench: Workbench) -> Callable[[str], Iterator[Batch]]:
    """Name of a correction -> a stream over the training data that it looks at."""
    wanted = bench.config.corrections.examples
    examples = bench.some_training_data(wanted)
    seen = examples.size
    batch_size = even_size(seen, bench.config.eval.batch_size)
    passes = min(-(-wanted // seen), _MOST_PASSES) if bench.pipeline.augments_images and wanted else 1

    def data(name: str) -> Iterator[Batch]:
        return training_stream(bench, examples, batch_size, f"{name} on training data", passes)

    return data


def corrections(bench: Workbench, program: Program) -> tuple[Correction, ...]:
    """Those that the configuration asks for and the network can have; says where it can't."""
    asked = bench.config.corrections
    if bench.pipeline.recompute is not None:
        return (bench.pipeline.recompute,) if asked.recompute else ()
    if asked.recompute and (unmoved := bench.network.unmoved_statistics):
        progress.say(
            "recomputed paths are left out: training moves no running statistics of this network, "
            f"such as those of {unmoved[0]}"
        )
    if asked.repair:
        if sites(program):
            return (repair(program),)
        progress.say("REPAIR is left out: no layer of this network has units with a scale and a bias")
    return ()


def _describe_data(bench: Workbench) -> dict[str, Any]:
    dataset = bench.dataset
    return {
        "name": dataset.name,
        "train_examples": dataset.train.size,
        "test_examples": dataset.test.size,
        "measured_train_examples": bench.measured["train"].size,
        "num_classes": dataset.num_classes,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "fingerprint": dataset.fingerprint,
    }


def _endpoints(bench: Workbench, variables: Variables) -> dict[str, dict[str, float]]:
    def ends(examples: Examples) -> dict[str, float]:
        loss, error = evaluate(bench.pipeline.apply, variables, batches(examples, bench.eval_batch_size))
        return {"loss": loss, "error": error}

    return {split: ends(examples) for split, examples in bench.measured.items()}


def _all_alphas(bench: Workbench) -> list[float]:
    return sorted({*alpha_grid(bench.config.lmc.num_alphas), *bench.config.llfc.alphas})


def read_network(bench: Workbench, variables: Variables) -> Program:
    """The network, with inputs of the shape of the batches."""
    first = next(batches(bench.measured[TEST], bench.eval_batch_size))
    return read_features(bench.pipeline.apply_with_features, variables, first.images)


def options(bench: Workbench) -> Options:
    """What the measures are told."""
    config = bench.config
    alphas = tuple(sorted({*config.llfc.alphas}))
    return Options(config.lmc.num_alphas, alphas, config.principal_angles.top_k)


def chunk_of(bench: Workbench) -> int:
    """How many networks theta_alpha to evaluate at a time."""
    return bench.config.eval.alpha_chunk or chunk_for(jax.default_backend())


def _measure_path(
    bench: Workbench, program: Program, measures: Sequence[Measure], path: CorrectedPath, key: str
) -> dict[str, Any]:
    """All measures of one path, as `results.json` has them; one pass over each split."""
    return measure_along(
        program,
        path.path,
        lambda split: stream(bench.measured[split], bench.eval_batch_size, f"measure {key} on {split}"),
        measures,
        (TRAIN, TEST),
        correct=path.correct,
        chunk=chunk_of(bench),
    )
