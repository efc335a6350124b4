"""A run from configuration to report. Each stage is skipped where its result exists."""

import dataclasses
import itertools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from llfc_jax import checkpoint, data, environment, models, progress, report, workdir
from llfc_jax.batchnorm import recompute_statistics
from llfc_jax.config import validate
from llfc_jax.data.batches import batches, num_batches
from llfc_jax.errors import UserError
from llfc_jax.evaluation import make_evaluator
from llfc_jax.interpolation import alpha_grid
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.measures.path import LinearPath, Planned, chunk_for, measure_path
from llfc_jax.training import lineage, loop, optimizers
from llfc_jax.training.step import Recipe, make_runner, scans
from llfc_jax.types import Array, Features, PRNGKey, Variables

SCHEMA_VERSION = 1
CHECKPOINTS = "checkpoints"


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """The data, the network and how it is trained, put together."""

    config: ConfigDict
    dataset: data.Dataset
    network: models.Network
    measured: Mapping[str, data.Split]
    """`train` and `test`: the examples that measures see."""
    optimizer: optax.GradientTransformation
    schedule: optimizers.Schedule
    lineages: tuple[lineage.Lineage, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.dataset.train.images.shape[1:]

    @property
    def convolutional(self) -> bool:
        """Whether any stage is a convolution."""
        return any(stage.kind == "conv" for stage in self.network.stages)

    def preprocess(self, images: Array) -> Array:
        """Raw images -> inputs of the network."""
        return data.normalise(images, self.dataset.mean, self.dataset.std)

    def preprocess_train(self, key: PRNGKey, images: Array) -> Array:
        """The same in training, with augmentation where it is on."""
        return self.preprocess(data.augment(key, images) if self.config.data.augment else images)

    def apply(self, variables: Variables, images: Array) -> Array:
        """Raw images -> logits."""
        return self.network.apply(variables, self.preprocess(images))

    def apply_with_features(self, variables: Variables, images: Array) -> tuple[Array, Features]:
        """Raw images -> logits and the outputs of all stages."""
        return self.network.apply_with_features(variables, self.preprocess(images))


def run(config: ConfigDict, directory: Path, command: str) -> Path:
    """Train, measure, report.

    Args:
        config: as `configs/default.py` describes it.
        directory: the workdir.
        command: what the user typed, for the record.

    Returns:
        The report page.

    Raises:
        UserError: bad input.
    """
    validate(config)
    workdir.check_owner(directory, config.to_dict())
    results_file = directory / workdir.RESULTS
    bench = None if results_file.exists() else prepare(config)
    workdir.claim(directory, config.to_dict())  # not before the input has been found good
    if bench is not None:
        results = find_results(bench, directory / CHECKPOINTS, command)
        with workdir.writing(directory):
            workdir.write_json(results_file, results)
    return write_report(directory)


def find_results(bench: Bench, checkpoints: Path, command: str) -> dict[str, Any]:
    """Train, measure, and return what `results.json` holds."""
    started = time.monotonic()
    train(bench, checkpoints)
    trained = time.monotonic()
    measured = measure(bench, checkpoints)
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "environment": environment.describe(),
        "config": bench.config.to_dict(),
        **measured,
        "seconds": {"train": trained - started, "measure": time.monotonic() - trained},
        "peak_memory_bytes": environment.peak_memory_bytes(),
    }


def write_report(directory: Path) -> Path:
    """Figures, tables and page from `results.json` alone, unless they are newer; prints the tables.

    Returns:
        The page.

    Raises:
        UserError: the results can't be read, or the report can't be written.
    """
    results_file, page = directory / workdir.RESULTS, directory / "report.html"
    results = workdir.read_json(results_file)
    if not isinstance(results, dict) or results.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{results_file} has no schema_version {SCHEMA_VERSION}, the only one that this release reads: "
            "delete it to make it again"
        )
    if not page.exists() or page.stat().st_mtime < results_file.stat().st_mtime:
        progress.say("drawing figures and writing the report")
        with workdir.writing(directory):
            report.figures.write(results, directory / "figures")
            report.tables.write_csv(results, directory)
            workdir.write_text(page, report.page.render(results))
    print(report.tables.terminal(results, colour=sys.stdout.isatty()))
    return page


def prepare(config: ConfigDict) -> Bench:
    """Load the data, build the network and plan the training.

    Raises:
        UserError: one of them can't be had, or they don't fit each other.
    """
    dataset = data.load(config.data)
    examples = len(dataset.train.labels)
    if config.train.batch_size > examples:
        raise UserError(
            f"config.train.batch_size: expected {examples} (the training data) at most; "
            f"found {config.train.batch_size}"
        )
    network = models.build(config.model, dataset.train.images.shape[1:], dataset.num_classes)
    some = min(config.eval.train_examples, examples)
    measured = {"train": data.subset(dataset.train, some, config.seed), "test": dataset.test}
    steps_per_epoch = examples // config.train.batch_size
    optimizer, schedule = optimizers.build(config.opt, config.train.epochs * steps_per_epoch)
    lineages = lineage.plan(config.train, steps_per_epoch)
    return Bench(config, dataset, network, measured, optimizer, schedule, lineages)


def train(bench: Bench, checkpoints: Path) -> None:
    """Bring all lineages of the run to their ends, as checkpoints."""
    config, dataset = bench.config, bench.dataset
    recipe = Recipe(bench.network, bench.optimizer, bench.preprocess_train)
    evaluate = make_evaluator(bench.apply)
    setting = loop.Setting(
        recipe=recipe,
        run=make_runner(recipe, *dataset.train, scan=scans(jax.default_backend(), bench.convolutional)),
        evaluate=lambda variables: evaluate(variables, batches(dataset.test, config.eval.batch_size)),
        schedule=bench.schedule,
        seed=config.seed,
        input_shape=bench.input_shape,
        num_examples=len(dataset.train.labels),
        batch_size=config.train.batch_size,
        checkpoint_every_epochs=config.train.checkpoint_every_epochs,
        metadata={"config": config.to_dict(), "fingerprint": dataset.fingerprint},
    )
    for one in bench.lineages:
        loop.train(one, setting, checkpoints)


def measure(bench: Bench, checkpoints: Path) -> dict[str, Any]:
    """Everything in `results.json` that comes from the trained networks."""
    config, dataset = bench.config, bench.dataset
    names = lineage.network_names(config.train.networks)
    networks = {name: checkpoint.restore(checkpoints / name) for name in names}
    trunk = checkpoints / lineage.TRUNK
    histories = {lineage.TRUNK: checkpoint.restore(trunk)} if trunk.exists() else {}
    results: dict[str, Any] = {
        "data": {
            "name": dataset.name,
            "train_examples": len(dataset.train.labels),
            "test_examples": len(dataset.test.labels),
            "measured_train_examples": len(bench.measured["train"].labels),
            "num_classes": dataset.num_classes,
            "fingerprint": dataset.fingerprint,
        },
        "model": {
            "name": config.model.name,
            "parameters": models.count_parameters(networks["a"].variables),
            "stages": [stage.name for stage in bench.network.stages],
        },
        "training": {name: found.metadata["history"] for name, found in (histories | networks).items()},
        "endpoints": {name: _endpoints(bench, found.variables) for name, found in networks.items()},
    }
    plans = _plans(bench)
    for (name_a, a), (name_b, b) in itertools.combinations(networks.items(), 2):
        for suffix, path in _paths(bench, a.variables, b.variables).items():
            key = f"{name_a}-{name_b}{suffix}"
            for measure_name, result in _measure_path(bench, plans, path, key).items():
                results.setdefault(measure_name, {})[key] = result
    return results


def _endpoints(bench: Bench, variables: Variables) -> dict[str, dict[str, float]]:
    evaluate = make_evaluator(bench.apply)
    batch_size = bench.config.eval.batch_size
    return {
        split: dict(zip(("loss", "error"), evaluate(variables, batches(examples, batch_size)), strict=True))
        for split, examples in bench.measured.items()
    }


def _paths(bench: Bench, a: Variables, b: Variables) -> dict[str, LinearPath]:
    """Suffix of the key -> the path, once per convention for BatchNorm's running statistics."""
    paths = {"": LinearPath(a, b)}
    if "batch_stats" in a and bench.config.batch_stats.recompute:
        config = bench.config
        some = min(config.batch_stats.examples, len(bench.dataset.train.labels))
        examples = data.subset(bench.dataset.train, some, config.seed)
        alphas = sorted({*alpha_grid(config.lmc.num_alphas), *config.llfc.alphas})
        batch_size = min(config.train.batch_size, len(examples.labels))
        stream = _stream(examples, batch_size, "recompute BatchNorm")
        statistics = recompute_statistics(bench.network, bench.preprocess, a, b, alphas, stream)
        paths["/recompute"] = LinearPath(a, b, statistics)
    return paths


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
    bench: Bench, plans: Mapping[str, Mapping[str, Planned]], path: LinearPath, key: str
) -> dict[str, Any]:
    """All planned measures of one path, as `results.json` has them; one pass over each split."""
    config = bench.config
    chunk = config.eval.alpha_chunk or chunk_for(jax.default_backend(), bench.convolutional)
    found = {
        split: measure_path(
            bench.apply_with_features,
            path,
            _stream(bench.measured[split], config.eval.batch_size, f"measure {key} on {split}"),
            plan,
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


def _stream(examples: data.Split, batch_size: int, label: str) -> Any:
    return progress.track(batches(examples, batch_size), label, num_batches(examples, batch_size))
