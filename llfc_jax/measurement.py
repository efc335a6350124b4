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
from llfc_jax.measures import commutativity, stitching
from llfc_jax.measures.deviation import deviation
from llfc_jax.measures.effective_rank import feature_rank, join_ranks
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.path import Correct, LinearPath, Planned, chunk_for, measure_path
from llfc_jax.measures.spectra import principal_angles, spectra, weight_ranks
from llfc_jax.measures.theory import lemma1, theorem1
from llfc_jax.measures.weak_additivity import weak_additivity
from llfc_jax.repair import corrected, repair_corrections
from llfc_jax.training import lineage
from llfc_jax.types import Variables

ANYWHERE = (0.0,)
"""For measures that compare A with B and don't look at theta_alpha."""

RANK_ALPHAS = (0.0, 0.5, 1.0)


class CorrectedPath(NamedTuple):
    """A path, and how theta_alpha is mended on it."""

    path: LinearPath
    correct: Correct | None


def measure(bench: Bench, checkpoints: Path) -> dict[str, Any]:
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
        "endpoints": {name: _endpoints(bench, found.variables) for name, found in networks.items()},
    }
    plans, causes = _plans(bench), _causes(bench)
    for name_a, name_b in [*pairs, *aligned]:
        a, b = networks[name_a].variables, networks[name_b].variables
        for suffix, path in paths(bench, a, b, _all_alphas(bench)).items():
            key = f"{name_a}-{name_b}{suffix}"
            plan = plans if path.correct else plans | {"test": plans["test"] | causes}
            for measure_name, result in _measure_path(bench, plan, path, key).items():
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
    """Split -> what to measure on it along every path: LMC on both, LLFC on the test split."""
    config = bench.config
    alphas, layers = alpha_grid(config.lmc.num_alphas), _layers(bench)
    plans: dict[str, dict[str, Planned]] = {"train": {}, "test": {}}
    if "lmc" in config.measures:
        plans["train"]["lmc"] = plans["test"]["lmc"] = Planned(lmc(), alphas)
    if "llfc" in config.measures:
        plans["test"]["llfc"] = Planned(llfc(layers), _llfc_alphas(bench))
        plans["test"]["baseline"] = Planned(baseline(layers), ANYWHERE)
    return plans


def _causes(bench: Bench) -> dict[str, Planned]:
    """What explains LLFC, on the test split and along plain paths: about the networks as they are."""
    stages, alphas, chosen = bench.network.stages, _llfc_alphas(bench), bench.config.measures
    plan: dict[str, Planned] = {}
    if "weak_additivity" in chosen:
        plan["weak_additivity"] = Planned(weak_additivity(stages), alphas)
    if "commutativity" in chosen:
        plan["commutativity"] = Planned(commutativity.commutativity(stages), ANYWHERE)
        plan["inputs_apart"] = Planned(commutativity.inputs_apart(stages), ANYWHERE)
    if "deviation" in chosen:
        plan["deviation"] = Planned(deviation(stages), alphas)
    if "stitching" in chosen:
        plan["stitching"] = Planned(stitching.stitching(stages), ANYWHERE)
    if "effective_rank" in chosen:
        plan["effective_rank"] = Planned(feature_rank(_layers(bench)), RANK_ALPHAS)
    return plan


def _layers(bench: Bench) -> dict[str, str]:
    return {stage.name: stage.kind for stage in bench.network.stages if stage.is_feature}


def _llfc_alphas(bench: Bench) -> tuple[float, ...]:
    return tuple(sorted({*bench.config.llfc.alphas}))


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
    if path.correct is None:
        results |= _explain(bench, path.path, found["test"]) if "test" in found else {}
    return results


def _explain(bench: Bench, path: LinearPath, found: Mapping[str, Any]) -> dict[str, Any]:
    """The causes of LLFC along a plain path, and the paper's theory checked on them."""
    stages, alphas, chosen, (a, b) = (
        bench.network.stages,
        _llfc_alphas(bench),
        bench.config.measures,
        path[:2],
    )
    results: dict[str, Any] = {}
    if "weak_additivity" in chosen:
        results["weak_additivity"] = {"alphas": alphas, "layers": found["weak_additivity"]}
    if "commutativity" in chosen:
        layers = commutativity.join(found["commutativity"], found["inputs_apart"], a, b)
        results["commutativity"] = {"layers": layers}
    if "stitching" in chosen:
        results["stitching"] = {"layers": stitching.join(found["stitching"], stages, a)}
    if "principal_angles" in chosen:
        k = bench.config.principal_angles.top_k
        angles = principal_angles(stages, spectra(stages, a), spectra(stages, b), k)
        results["principal_angles"] = {"top_k": k, "layers": angles}
    if "effective_rank" in chosen:
        ranks = {"features": found["effective_rank"], "weights": weight_ranks(stages, a, b, RANK_ALPHAS)}
        results["effective_rank"] = {"alphas": RANK_ALPHAS, "layers": join_ranks(_layers(bench), ranks)}
    if "deviation" in chosen:
        results["deviation"] = {"alphas": alphas, "layers": found["deviation"]}
        results.setdefault("theory", {})["theorem1"] = theorem1(stages, a, b, results["deviation"])
    if "lmc" in chosen:
        results.setdefault("theory", {})["lemma1"] = lemma1(found["lmc"])
    return results
