"""What is measured on trained networks: their ends, and every path between them."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llfc_jax import models
from llfc_jax.corrections.batchnorm import recompute_statistics, with_statistics
from llfc_jax.corrections.repair import corrected, repair_corrections
from llfc_jax.data import Split
from llfc_jax.data.batches import batches
from llfc_jax.measures import causes
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.path.interpolation import alpha_grid, weights_apart
from llfc_jax.path.traversal import Correct, LinearPath, Planned, chunk_for, measure_path
from llfc_jax.results import PathKey
from llfc_jax.run.workbench import Workbench, stream, training_stream
from llfc_jax.runtime import progress
from llfc_jax.storage import checkpoint
from llfc_jax.training import lineage
from llfc_jax.types import Variables


class CorrectedPath(NamedTuple):
    """A path, and how theta_alpha is mended on it."""

    path: LinearPath
    correct: Correct | None


def measure(bench: Workbench, checkpoints: Path) -> dict[str, Any]:
    """Everything in `results.json` that comes from the trained networks."""
    pairs = [pair for family in bench.families for pair in itertools.combinations(family, 2)]
    aligned = [
        (first, lineage.aligned_name(name))
        for first, *others in bench.families
        for name in others
        if (checkpoints / lineage.aligned_name(name)).exists()
    ]
    names = [*itertools.chain(*bench.families), *(name for _, name in aligned)]
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
            "parameters": models.count_parameters(networks[names[0]].variables),
            "stages": [stage.name for stage in bench.network.stages],
        },
        "training": {
            name: history
            for name, found in (trunks | networks).items()
            if "alignment" not in found.metadata and (history := found.metadata["history"])["step"]
        },
        "alignment": {f"{first}-{name}": networks[name].metadata["alignment"] for first, name in aligned},
        "endpoints": {
            name: _endpoints(bench, found.variables)
            for name, found in (networks | _merged(checkpoints)).items()
        },
    }
    plans = _plans(bench)
    corrected_at = _all_alphas(bench) if any(plans.values()) else []
    # What explains LLFC is about the two networks as they are: only along plain paths.
    explained = causes.plan(bench.network.stages, bench.config.measures, _llfc_alphas(bench))
    for name_a, name_b in [*pairs, *aligned]:
        a, b = networks[name_a].variables, networks[name_b].variables
        plain = PathKey.parse(f"{name_a}-{name_b}")
        results.setdefault("weights", {})[str(plain)] = weights_apart(a, b)
        for correction, path in paths(bench, a, b, corrected_at).items():
            key = str(plain._replace(correction=correction))
            plan = plans if path.correct else plans | {"test": plans["test"] | explained}
            for measure_name, result in _measure_path(bench, plan, path, key).items():
                results.setdefault(measure_name, {})[key] = result
    return results


def _merged(checkpoints: Path) -> dict[str, checkpoint.Checkpoint]:
    directory = checkpoints / lineage.MERGED
    return {lineage.MERGED: checkpoint.restore(directory)} if checkpoint.steps(directory) else {}


def paths(bench: Workbench, a: Variables, b: Variables, alphas: Sequence[float]) -> dict[str, CorrectedPath]:
    """Correction, of its key in `results.json` -> the path: plain, and with each, known at `alphas`."""
    config = bench.config.corrections
    found = {"": CorrectedPath(LinearPath(a, b), None)}
    if not alphas:
        return found
    examples = bench.some_training_data(config.examples)
    batch_size = min(bench.eval_batch_size, len(examples.labels))
    common = (bench.network, bench.preprocess, a, b, alphas)
    if "batch_stats" in a and config.recompute:
        seen = training_stream(bench, examples, batch_size, "recompute BatchNorm")
        statistics = recompute_statistics(*common, seen)
        found["recompute"] = CorrectedPath(LinearPath(a, b, statistics), with_statistics)
    if "batch_stats" not in a and config.repair:
        corrections = repair_corrections(
            *common, lambda: training_stream(bench, examples, batch_size, "REPAIR")
        )
        found["repair"] = CorrectedPath(LinearPath(a, b, corrections), corrected)
    return found


def _describe_data(bench: Workbench) -> dict[str, Any]:
    dataset = bench.dataset
    return {
        "name": dataset.name,
        "train_examples": len(dataset.train.labels),
        "test_examples": len(dataset.test.labels),
        "measured_train_examples": len(bench.measured["train"].labels),
        "num_classes": dataset.num_classes,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "fingerprint": dataset.fingerprint,
    }


def _endpoints(bench: Workbench, variables: Variables) -> dict[str, dict[str, float]]:
    def ends(examples: Split) -> dict[str, float]:
        loss, error = evaluate(bench.apply, variables, batches(examples, bench.eval_batch_size))
        return {"loss": loss, "error": error}

    return {split: ends(examples) for split, examples in bench.measured.items()}


def _all_alphas(bench: Workbench) -> list[float]:
    return sorted({*alpha_grid(bench.config.lmc.num_alphas), *bench.config.llfc.alphas})


def _plans(bench: Workbench) -> dict[str, dict[str, Planned]]:
    """Split -> what to measure on it along every path: LMC on both, LLFC on the test split."""
    config = bench.config
    alphas, layers = alpha_grid(config.lmc.num_alphas), _layers(bench)
    plans: dict[str, dict[str, Planned]] = {"train": {}, "test": {}}
    if "lmc" in config.measures:
        plans["train"]["lmc"] = plans["test"]["lmc"] = Planned(lmc(), alphas)
    if "llfc" in config.measures:
        along = _llfc_alphas(bench)
        plans["test"]["llfc"] = Planned(llfc(layers), along)
        plans["test"]["baseline"] = Planned(baseline(layers, along), causes.ANYWHERE)
    return plans


def _layers(bench: Workbench) -> dict[str, str]:
    return {stage.name: stage.kind for stage in bench.network.stages if stage.is_feature}


def _llfc_alphas(bench: Workbench) -> tuple[float, ...]:
    return tuple(sorted({*bench.config.llfc.alphas}))


def _measure_path(
    bench: Workbench, plans: Mapping[str, Mapping[str, Planned]], path: CorrectedPath, key: str
) -> dict[str, Any]:
    """All planned measures of one path, as `results.json` has them; one pass over each split."""
    config = bench.config
    chunk = config.eval.alpha_chunk or chunk_for(jax.default_backend())
    found = {
        split: measure_path(
            bench.apply_with_features,
            path.path,
            stream(bench.measured[split], bench.eval_batch_size, f"measure {key} on {split}"),
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
    if path.correct is None:
        a, b, _ = path.path
        top_k = config.principal_angles.top_k
        seen = found.get("test", {})
        with progress.bar(f"explain {key}", total=None):
            results |= causes.explain(
                bench.network.stages, config.measures, _llfc_alphas(bench), a, b, seen, top_k
            )
    return results
