"""A run from configuration to report. Each stage is skipped where its result exists."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from llfc_jax import reporting
from llfc_jax.data import Examples, Split
from llfc_jax.data.batches import batches, read
from llfc_jax.data.crops import crop
from llfc_jax.errors import UserError
from llfc_jax.interchange import Source, trained_source
from llfc_jax.matching.alignment import KEPT, UNIVERSE, Aligned, align, align_many
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.models.own import OwnNetwork, origin
from llfc_jax.reporting import writing
from llfc_jax.reporting.drawing import Drawing
from llfc_jax.results import SCHEMA_VERSION, NetworkKey
from llfc_jax.run import ahead, pair, workdir
from llfc_jax.run.configuration import fields
from llfc_jax.run.constraints import climb_ladders
from llfc_jax.run.curves import add_tasks, bend_paths, train_star
from llfc_jax.run.keeping import discard, keeper_of
from llfc_jax.run.measurement import measure, merged_network
from llfc_jax.run.validation import validate
from llfc_jax.run.workbench import Workbench, prepare
from llfc_jax.runtime import compilation, environment, output, processes, progress, sharding
from llfc_jax.storage import checkpoint, files
from llfc_jax.storage.paths import is_in_file
from llfc_jax.training import loop
from llfc_jax.training.lineage import MERGED, aligned_name
from llfc_jax.training.step import Recipe, Runner, gather, make_runner, make_streaming_runner, scans


def run(config: ConfigDict, directory: Path, command: str) -> Path:
    """Train (or take the networks of `config.pair`), align, measure, report.

    Args:
        config: as `configs/default.py` describes it.
        directory: the workdir.
        command: what the user typed, for the record.

    Returns:
        The report page.

    Raises:
        UserError: bad input.
    """
    resolve(config)
    check_same(config)
    finished = processes.of_first(lambda: workdir.is_finished(directory, config.to_dict()))
    bench = None if finished else prepare_together(config)
    with workdir.claimed(directory, config.to_dict()):  # not before the input has been found good
        compilation.keep_programs(directory.absolute().parent / compilation.CACHE)
        if not processes.of_first((directory / workdir.RESULTS).exists):
            write_results(bench or prepare_together(config), directory, command)
        return write_report(directory)


def resolve(config: ConfigDict) -> None:
    """Check a configuration, and pin it.

    Raises:
        UserError: a field has a value that can't be.
    """
    validate(config)
    pin(config)


def pin(config: ConfigDict) -> None:
    """Have a configuration name the very file of a network of the user's own.

    Raises:
        UserError: it is another one than the configuration names.
    """
    if is_in_file(config.model.name):
        config.model.sha256 = origin(config.model.name, config.model.sha256).sha256


def check_same(config: ConfigDict) -> None:
    """Check that all processes have one configuration, as many devices, and the same versions of packages.

    Raises:
        UserError: they differ.
    """
    facts = environment.versions() | {"devices": jax.local_device_count()}
    processes.agree({f"config.{name}": value for name, value in fields(config)} | facts)


def prepare_together(config: ConfigDict, like: Workbench | None = None) -> Workbench:
    """What `prepare` makes in every process, of the same data.

    Raises:
        UserError: one of them can't, or their data differ.
    """
    with processes.in_turn():
        bench = prepare(config, like=like)
    kept = "held" if isinstance(bench.dataset.train, Split) else "streamed"
    processes.agree({"data": bench.dataset.of_files, "what config.data.memory leaves of the data": kept})
    return bench


def write_results(bench: Workbench, directory: Path, command: str) -> None:
    """Train, align, measure, and leave it all in a workdir, which is claimed."""
    files.check_writable(directory)
    checkpoints = directory / workdir.CHECKPOINTS
    checkpoints.mkdir(exist_ok=True)
    results = find_results(bench, checkpoints, command)
    if processes.is_first():
        with files.writing(directory):
            files.write_json(directory / workdir.RESULTS, results)


def find_results(bench: Workbench, checkpoints: Path, command: str) -> dict[str, Any]:
    """Train, align, measure, and return what `results.json` holds."""
    started = time.monotonic()
    with (
        jax.default_matmul_precision("highest"),  # a training step has its own
        sharding.split(bench.config.fsdp),
    ):
        keep_given(bench, checkpoints)
        with ahead.compiling(bench):
            train(bench, checkpoints)
            trained = time.monotonic()
            align_to_first(bench, checkpoints)
            climb_ladders(bench, checkpoints)
            merge(bench, checkpoints)
            bend_paths(bench, checkpoints)
            train_star(bench, checkpoints)
            add_tasks(bench, checkpoints)
            aligned = time.monotonic()
        measured = measure(bench, checkpoints)
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "environment": environment.describe(),
        "config": bench.config.to_dict(),
        "sources": {name: _provenance(source) for name, (_, source) in bench.given.items()},
        **measured,
        "seconds": {
            "train": trained - started,
            "align": aligned - trained,
            "measure": time.monotonic() - aligned,
        },
        "peak_memory_bytes": environment.peak_memory_bytes(),
    }


def write_report(directory: Path) -> Path:
    """Figures, tables and page from `results.json` alone, unless made from it before; prints the tables.

    Of several processes, the first does so.

    Returns:
        The page.

    Raises:
        UserError: the results can't be read, or the report can't be written.
    """

    def watched(drawings: Iterable[Drawing]) -> Iterator[Drawing]:
        progress.say("drawing figures and writing the report")
        return progress.track(drawings, "draw", len(reporting.figures.FIGURES))

    if not processes.is_first():
        return directory / writing.PAGE
    page = writing.write_report(directory, watched)
    results = writing.read_results(directory)
    output.show(reporting.tables.terminal(results, colour=sys.stdout.isatty()))
    return page


def keep_given(bench: Workbench, checkpoints: Path) -> None:
    """Save the networks of `config.pair` as checkpoints, with what it takes to write them as they came.

    Raises:
        UserError: a file has changed since an earlier process saved it.
    """
    for name, (variables, source) in bench.given.items():
        directory, file = checkpoints / name, source["file"]
        if checkpoint.steps(directory):
            if checkpoint.restore(directory).metadata["source"]["sha256"] != source["sha256"]:
                raise UserError(
                    f"config.pair.{name}: {file} has changed since it was imported into {directory}; "
                    "choose another --workdir"
                )
        else:
            metadata = {"config": bench.config.to_dict(), "history": {"step": []}, "source": source}
            checkpoint.save(directory, 0, variables, metadata)
            progress.say(f"imported {name} from {file} by {source['matched_by']}")
            for line in pair.describe(bench.network, source):
                progress.say(f"  {line}")
            if not bench.dataset.is_text:
                moments = bench.dataset.mean, bench.dataset.std
                mean, std = (" ".join(f"{x:g}" for x in moment) for moment in moments)
                progress.say(f"  it sees images less {mean}, over {std} (config.data.mean and std)")


def train(bench: Workbench, checkpoints: Path) -> None:
    """Bring all lineages of the run to their ends, as checkpoints."""
    if not bench.lineages:
        return
    metadata = {"config": bench.config.to_dict()} | _how_to_write(bench)
    shared = _setting(bench, metadata)
    own = {name: _setting(single, metadata) for name, single in bench.only.items()}
    for one in bench.lineages:
        loop.train(one, own.get(NetworkKey.parse(one.name).name, shared), checkpoints, shared)


def _setting(bench: Workbench, metadata: dict[str, Any]) -> loop.Setting:
    """How the networks of a workbench are trained."""
    config, dataset = bench.config, bench.dataset
    recipe = Recipe(
        bench.network,
        bench.optimizer,
        bench.pipeline.preprocess_train,
        config.train.precision,
        crop if config.data.augment and dataset.is_text else gather,
        config.opt.ema,
    )
    scan = scans(jax.default_backend(), bench.network.convolutional)
    return loop.Setting(
        recipe=recipe,
        run=_runner(recipe, dataset.train, scan),
        evaluate=lambda variables: evaluate(
            bench.pipeline.apply, variables, batches(dataset.test, bench.eval_batch_size)
        ),
        schedule=bench.schedule,
        seed=config.seed,
        inputs=bench.inputs,
        num_examples=dataset.train.size,
        batch_size=config.train.batch_size,
        checkpoint_every_epochs=config.train.checkpoint_every_epochs,
        checkpoint_every_minutes=config.train.checkpoint_every_minutes,
        metadata=metadata | {"fingerprint": dataset.fingerprint, "of_files": dataset.of_files},
    )


def _runner(recipe: Recipe, examples: Examples, scan: bool) -> Runner:
    """Of examples that lie on the devices, or of those that come to them batch by batch."""
    if isinstance(examples, Split):
        return make_runner(recipe, *examples, scan=scan)
    return make_streaming_runner(recipe, partial(read, examples))


def align_to_first(bench: Workbench, checkpoints: Path) -> None:
    """Move every other network into the basin of `a`; saves `b_aligned`, ..., permuted ones with how."""
    method = bench.config.align.method
    for first, *others in bench.families if method != "none" else ():
        missing = [name for name in others if not checkpoint.steps(checkpoints / aligned_name(name))]
        if method == UNIVERSE and missing:
            _align_all(bench, checkpoints, first, others)
        elif missing:
            _align_each(bench, checkpoints, first, missing)
        for name in others:
            discard(checkpoints / aligned_name(name))


def _align_each(bench: Workbench, checkpoints: Path, first: str, others: Sequence[str]) -> None:
    """Each to the first by itself."""
    config, a = bench.config, checkpoint.restore(checkpoints / first)
    data = bench.alignment_data()
    epochs = config.align.epochs if config.align.method in KEPT else None  # are told by what keeps each
    for name in others:
        other = checkpoint.restore(checkpoints / name)
        with (
            progress.bar(f"align {name} to {first} by {config.align.method}", epochs) as advance,
            sharding.apart(),
        ):
            aligned = align(
                bench.alignment_key(),
                sharding.replicate(a.variables),
                sharding.replicate(other.variables),
                method=config.align.method,
                apply=bench.pipeline.apply,
                loss=bench.pipeline.loss,
                batches=data,
                inputs=lambda: (batch.images for batch in data()),
                options=config.align,
                keeper=keeper_of(checkpoints / aligned_name(name), config.to_dict(), advance),
            )
        _save_aligned(bench, checkpoints, name, other, aligned)
        seconds = aligned.summary["seconds"]
        progress.say(f"aligned {name} to {first} by {config.align.method}: {seconds:.1f} s")
        if None in aligned.summary["objective"]:
            progress.say("  the loss turned NaN on the way: what was best before is kept")


def _align_all(bench: Workbench, checkpoints: Path, first: str, others: Sequence[str]) -> None:
    """All at once."""
    family = {name: checkpoint.restore(checkpoints / name) for name in (first, *others)}
    data = bench.alignment_data()
    with progress.bar(f"align {', '.join(family)} with each other", total=None), sharding.apart():
        found = align_many(
            bench.alignment_key(),
            [sharding.replicate(one.variables) for one in family.values()],
            apply=bench.pipeline.apply,
            inputs=lambda: (batch.images for batch in data()),
            options=bench.config.align,
        )
    for name, aligned in zip(others, found, strict=True):
        _save_aligned(bench, checkpoints, name, family[name], aligned)
    progress.say(f"aligned {', '.join(family)} with each other: {found[0].summary['seconds']:.1f} s")


def _save_aligned(
    bench: Workbench, checkpoints: Path, name: str, other: checkpoint.Checkpoint, aligned: Aligned
) -> None:
    metadata = {
        "config": bench.config.to_dict(),
        "alignment": aligned.summary,
        "source": other.metadata.get("source"),
    }
    directory = checkpoints / aligned_name(name)
    checkpoint.save(directory, other.step, aligned.variables, metadata, permutation=aligned.permutation)


def merge(bench: Workbench, checkpoints: Path) -> None:
    """Save `merged`: the network at `merge.alpha` between `a` and `b`, or the mean of all by `merge.weights`.

    Of those that were aligned. Its running statistics or units are corrected where `corrections` says so.
    """
    config, directory = bench.config, checkpoints / MERGED
    alpha, weights = config.merge.alpha, list(config.merge.weights)
    if checkpoint.steps(directory) or (alpha is None and not weights):
        return
    weights = weights or [1 - alpha, alpha]
    names = bench.as_aligned[: len(weights)]
    networks = [checkpoint.restore(checkpoints / name) for name in names]
    variables = merged_network(bench, [one.variables for one in networks], weights)
    metadata = {
        "config": config.to_dict(),
        "merged": {"weights": dict(zip(names, weights, strict=True))} if alpha is None else {"alpha": alpha},
        "source": networks[0].metadata.get("source"),
    }
    checkpoint.save(directory, networks[0].step, variables, metadata)
    shown = ", ".join(f"{weight:g}" for weight in weights)
    how = f"by weights {shown}" if alpha is None else f"at alpha = {alpha:g}"
    progress.say(f"merged {' and '.join(names)} {how}: {directory}")


def _how_to_write(bench: Workbench) -> dict[str, Any]:
    """The names that the framework of a network of the user's own gives to its arrays, for the export."""
    return {"source": trained_source(bench.network)} if isinstance(bench.network, OwnNetwork) else {}


_PROVENANCE = ("file", "format", "sha256", "matched_by", "framework", "conventions", "pairing")


def _provenance(source: Source) -> dict[str, Any]:
    return {field: source[field] for field in _PROVENANCE}
