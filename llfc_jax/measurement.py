"""What is measured on trained networks: their ends, and every path between them."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llfc_jax import checkpoint, models
from llfc_jax.batchnorm import recompute_statistics, with_statistics
from llfc_jax.bench import Bench, stream
from llfc_jax.data.batches import batches
from llfc_jax.evaluation import make_evaluator
from llfc_jax.interpolation import alpha_grid
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.path import Correct, LinearPath, Planned, chunk_for, measure_path
from llfc_jax.repair import corrected, repair_corrections
from llfc_jax.training import lineage
from llfc_jax.types import Variables


class CorrectedPath(NamedTuple):
    """A path, and how theta_alpha is mended on it."""

    path: LinearPath
    correct: Correct | None


def measure(bench: Bench, checkpoints: Path) -> dict[str, Any]:
    """Everything in `results.json` that comes from the trained networks."""
    networks = {name: checkpoint.restore(checkpoints / name) for name in bench.names}
    trunk = checkpoints / lineage.TRUNK
    trained = ({lineage.TRUNK: checkpoint.restore(trunk)} if trunk.exists() else {}) | networks
    pairs = list(itertools.combinations(bench.names, 2))
    aligned = {
        name: checkpoint.restore(checkpoints / name)
        for name in map(lineage.aligned_name, bench.names)
        if (checkpoints / name).exists()
    }
    pairs += [("a", name) for name in aligned]
    networks |= aligned
    results: dict[str, Any] = {
        "data": _describe_data(bench),
        "model": {
            "name": bench.config.model.name,
            "parameters": models.count_parameters(networks["a"].variables),
            "stages": [stage.name for stage in bench.network.stages],
        },
        "training": {
            name: history for name, found in trained.items() if (history := found.metadata["history"])["step"]
        },
        "alignment": {f"a-{name}": found.metadata["alignment"] for name, found in aligned.items()},
        "endpoints": {name: _endpoints(bench, found.variables) for name, found in networks.items()},
    }
    plans = _plans(bench)
    for name_a, name_b in pairs:
        a, b = networks[name_a].variables, networks[name_b].variables
        for suffix, path in paths(bench, a, b, _all_alphas(bench)).items():
            key = f"{name_a}-{name_b}{suffix}"
            for measure_name, result in _measure_path(bench, plans, path, key).items():
                results.setdefault(measure_name, {})[key] = result
    return results


def paths(bench: Bench, a: Variables, b: Variables, alphas: Sequence[float]) -> dict[str, CorrectedPath]:
    """Suffix of the key in `results.json` -> the path, plain and with each correction that is on."""
    config = bench.config.corrections
    found = {"": CorrectedPath(LinearPath(a, b), None)}
    examples = bench.some_training_data(config.examples)
    batch_size = min(bench.config.eval.batch_size, len(examples.labels))
    common = (bench.network, bench.preprocess, a, b, alphas)
    if "batch_stats" in a and config.recompute:
        statistics = recompute_statistics(*common, stream(examples, batch_size, "recompute BatchNorm"))
        found["/recompute"] = CorrectedPath(LinearPath(a, b, statistics), with_statistics)
    if "batch_stats" not in a and config.repair:
        corrections = repair_corrections(*common, lambda: stream(examples, batch_size, "REPAIR"))
        found["/repair"] = CorrectedPath(LinearPath(a, b, corrections), corrected)
    return found


def _describe_data(bench: Bench) -> dict[str, Any]:
    dataset = bench.dataset
    return {
        "name": dataset.name,
        "train_examples": len(dataset.train.labels),
        "test_examples": len(dataset.test.labels),
        "measured_train_examples": len(bench.measured["train"].labels),
        "num_classes": dataset.num_classes,
        "fingerprint": dataset.fingerprint,
    }


def _endpoints(bench: Bench, variables: Variables) -> dict[str, dict[str, float]]:
    evaluate = make_evaluator(bench.apply)
    batch_size = bench.config.eval.batch_size
    return {
        split: dict(zip(("loss", "error"), evaluate(variables, batches(examples, batch_size)), strict=True))
        for split, examples in bench.measured.items()
    }


def _all_alphas(bench: Bench) -> list[float]:
    return sorted({*alpha_grid(bench.config.lmc.num_alphas), *bench.config.llfc.alphas})


def _plans(bench: Bench) -> dict[str, dict[str, Planned]]:
    """Split -> what to measure on it: LMC on both, the others on the test split."""
    config = bench.config
    alphas = alpha_grid(config.lmc.num_alphas)
    layers = {stage.name: stage.kind for stage in bench.network.stages if stage.is_feature}
    plans: dict[str, dict[str, Planned]] = {"train": {}, "test": {}}
    if "lmc" in config.measures:
        plans["train"]["lmc"] = plans["test"]["lmc"] = Planned(lmc(), alphas)
    if "llfc" in config.measures:
        plans["test"]["llfc"] = Planned(llfc(layers), tuple(sorted({*config.llfc.alphas})))
        plans["test"]["baseline"] = Planned(baseline(layers), (0.0,))
    return plans


def _measure_path(
    bench: Bench, plans: Mapping[str, Mapping[str, Planned]], path: CorrectedPath, key: str
) -> dict[str, Any]:
    """All planned measures of one path, as `results.json` has them; one pass over each split."""
    config = bench.config
    chunk = config.eval.alpha_chunk or chunk_for(jax.default_backend(), bench.convolutional)
    found = {
        split: measure_path(
            bench.apply_with_features,
            path.path,
            stream(bench.measured[split], config.eval.batch_size, f"measure {key} on {split}"),
            plan,
            correct=path.correct,
            chunk=chunk,
        )
        for split, plan in plans.items()
        if plan
    }
    results: dict[str, Any] = {}
    if "lmc" in config.measures:
        curves = {split: found[split]["lmc"] for split in ("test", "train")}
        results["lmc"] = {"alphas": plans["test"]["lmc"].alphas, **curves}
    if "llfc" in config.measures:
        layers_found = join(found["test"]["llfc"], found["test"]["baseline"])
        results["llfc"] = {"alphas": plans["test"]["llfc"].alphas, "layers": layers_found}
    return results
