"""A run from configuration to report. Each stage is skipped where its result exists."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from llfc_jax import reporting
from llfc_jax.data.batches import batches
from llfc_jax.data.crops import crop
from llfc_jax.errors import UserError
from llfc_jax.interchange import Source, trained_source
from llfc_jax.matching.alignment import align
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.models.own import OwnNetwork, origin
from llfc_jax.path.interpolation import lerp
from llfc_jax.reporting import writing
from llfc_jax.reporting.drawing import Drawing
from llfc_jax.results import SCHEMA_VERSION
from llfc_jax.run import pair, workdir
from llfc_jax.run.measurement import corrections, measure, paths, read_network
from llfc_jax.run.validation import validate
from llfc_jax.run.workbench import ALIGN_STREAM, Workbench, prepare
from llfc_jax.runtime import compilation, environment, output, progress
from llfc_jax.storage import checkpoint, files
from llfc_jax.storage.paths import is_in_file
from llfc_jax.training import loop
from llfc_jax.training.lineage import MERGED, aligned_name
from llfc_jax.training.step import Recipe, gather, make_runner, scans
from llfc_jax.types import Batch


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
    validate(config)
    if is_in_file(config.model.name):
        config.model.sha256 = origin(config.model.name, config.model.sha256).sha256
    record, results_file = config.to_dict(), directory / workdir.RESULTS
    bench = None if workdir.is_finished(directory, record) else prepare(config)
    with workdir.claimed(directory, record):  # not before the input has been found good
        compilation.keep_programs(directory.absolute().parent / compilation.CACHE)
        if not results_file.exists():
            (directory / workdir.CHECKPOINTS).mkdir(exist_ok=True)
            results = find_results(bench or prepare(config), directory / workdir.CHECKPOINTS, command)
            with files.writing(directory):
                files.write_json(results_file, results)
        return write_report(directory)


def find_results(bench: Workbench, checkpoints: Path, command: str) -> dict[str, Any]:
    """Train, align, measure, and return what `results.json` holds."""
    started = time.monotonic()
    with jax.default_matmul_precision("highest"):  # a training step has its own
        keep_given(bench, checkpoints)
        train(bench, checkpoints)
        trained = time.monotonic()
        align_to_first(bench, checkpoints)
        merge(bench, checkpoints)
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

    Returns:
        The page.

    Raises:
        UserError: the results can't be read, or the report can't be written.
    """

    def watched(drawings: Iterable[Drawing]) -> Iterator[Drawing]:
        progress.say("drawing figures and writing the report")
        return progress.track(drawings, "draw", len(reporting.figures.FIGURES))

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
    config, dataset = bench.config, bench.dataset
    recipe = Recipe(
        bench.network,
        bench.optimizer,
        bench.preprocess_train,
        config.train.precision,
        crop if config.data.augment and dataset.is_text else gather,
        config.opt.ema,
    )
    scan = scans(jax.default_backend(), bench.network.convolutional)
    setting = loop.Setting(
        recipe=recipe,
        run=make_runner(recipe, *dataset.train, scan=scan),
        evaluate=lambda variables: evaluate(
            bench.apply, variables, batches(dataset.test, bench.eval_batch_size)
        ),
        schedule=bench.schedule,
        seed=config.seed,
        inputs=bench.inputs,
        num_examples=len(dataset.train.labels),
        batch_size=config.train.batch_size,
        checkpoint_every_epochs=config.train.checkpoint_every_epochs,
        checkpoint_every_minutes=config.train.checkpoint_every_minutes,
        metadata={"config": config.to_dict(), "fingerprint": dataset.fingerprint} | _how_to_write(bench),
    )
    for one in bench.lineages:
        loop.train(one, setting, checkpoints)


def align_to_first(bench: Workbench, checkpoints: Path) -> None:
    """Move every other network into the basin of `a`; saves `b_aligned`, ..., permuted ones with how."""
    if bench.config.align.method != "none":
        for first, *others in bench.families:
            _align_family(bench, checkpoints, first, others)


def _align_family(bench: Workbench, checkpoints: Path, first: str, others: Sequence[str]) -> None:
    config, a = bench.config, checkpoint.restore(checkpoints / first)
    examples = bench.some_training_data(config.align.examples)
    batch_size = min(config.train.batch_size, len(examples.labels))

    def data() -> Iterator[Batch]:
        return bench.as_in_training(examples, batch_size)

    for name in others:
        directory = checkpoints / aligned_name(name)
        if not checkpoint.steps(directory):
            other = checkpoint.restore(checkpoints / name)
            with progress.bar(f"align {name} to {first} by {config.align.method}", total=None):
                aligned = align(
                    jax.random.fold_in(jax.random.key(config.seed), ALIGN_STREAM),
                    a.variables,
                    other.variables,
                    method=config.align.method,
                    apply=bench.apply,
                    loss=bench.loss,
                    batches=data,
                    inputs=lambda: (batch.images for batch in data()),
                    options=config.align,
                )
            metadata = {
                "config": config.to_dict(),
                "alignment": aligned.summary,
                "source": other.metadata.get("source"),
            }
            checkpoint.save(
                directory, other.step, aligned.variables, metadata, permutation=aligned.permutation
            )
            seconds = aligned.summary["seconds"]
            progress.say(f"aligned {name} to {first} by {config.align.method}: {seconds:.1f} s")
            if None in aligned.summary["objective"]:
                progress.say("  the loss turned NaN on the way: what was best before is kept")


def merge(bench: Workbench, checkpoints: Path) -> None:
    """Save the network at `merge.alpha` between `a` and `b` (aligned, if it was) as `merged`.

    Its running statistics or units are corrected where `corrections` says so.
    """
    config, directory = bench.config, checkpoints / MERGED
    if config.merge.alpha is None or checkpoint.steps(directory):
        return
    name_b = "b" if config.align.method == "none" else aligned_name("b")
    a, b = (checkpoint.restore(checkpoints / name) for name in ("a", name_b))
    alpha = float(config.merge.alpha)
    variables = lerp(a.variables, b.variables, alpha)
    program = read_network(bench, a.variables)
    mended_by = corrections(bench, program)
    for path, correct in paths(bench, program, a.variables, b.variables, (alpha,), mended_by).values():
        if correct is not None and path.corrections is not None:
            variables = correct(variables, path.corrections[alpha])
    metadata = {
        "config": config.to_dict(),
        "merged": {"alpha": alpha},
        "source": a.metadata.get("source"),
    }
    checkpoint.save(directory, a.step, variables, metadata)
    progress.say(f"merged a and {name_b} at alpha = {alpha:g}: {directory}")


def _how_to_write(bench: Workbench) -> dict[str, Any]:
    """The names that the framework of a network of the user's own gives to its arrays, for the export."""
    return {"source": trained_source(bench.network)} if isinstance(bench.network, OwnNetwork) else {}


_PROVENANCE = ("file", "format", "sha256", "matched_by", "framework", "conventions", "pairing")


def _provenance(source: Source) -> dict[str, Any]:
    return {field: source[field] for field in _PROVENANCE}
