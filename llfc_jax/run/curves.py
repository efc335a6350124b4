"""Beyond the line: curves between the networks of a run, the centre of a star, the plane through three."""

import itertools
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax

from llfc_jax.data.batches import batches
from llfc_jax.matching.alignment import UNIVERSE
from llfc_jax.measures.measure import TEST
from llfc_jax.measures.plane import plane_through, scan
from llfc_jax.path.bending import bend
from llfc_jax.path.curves import LINE, Curve
from llfc_jax.path.descent import Budget
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.star import star
from llfc_jax.results import CONTROL, STAR, PathKey
from llfc_jax.run.workbench import CURVE_STREAM, STAR_STREAM, Workbench, training_stream
from llfc_jax.runtime import progress
from llfc_jax.storage import checkpoint
from llfc_jax.training import lineage
from llfc_jax.training.noise import renewed
from llfc_jax.types import Batch, Variables

Names = tuple[str, str]


def aligned_pairs(bench: Workbench, checkpoints: Path) -> list[Names]:
    """The first network of each family with every other that was moved into its basin."""
    return [
        (first, lineage.aligned_name(name))
        for first, *others in bench.families
        for name in others
        if (checkpoints / lineage.aligned_name(name)).exists()
    ]


def all_pairs(bench: Workbench, checkpoints: Path) -> list[Names]:
    """All that are compared: pairs that can be bent, each of one family with its star's centre, and tasks."""
    rays = [(name, STAR) for name in bench.as_aligned] if bench.config.path.star else []
    families = bench.families if bench.config.path.tasks else ()
    tasks = [pair for one in families for pair in itertools.combinations(map(lineage.task_name, one), 2)]
    return [*_bendable(bench, checkpoints), *rays, *tasks]


def _bendable(bench: Workbench, checkpoints: Path) -> list[Names]:
    """As they were, with the control, moved to the first or to one universe."""
    plain = [pair for family in bench.families for pair in itertools.combinations(family, 2)]
    if bench.config.train.control:
        plain.append((bench.families[0][0], CONTROL))
    aligned = aligned_pairs(bench, checkpoints)
    if bench.config.align.method != UNIVERSE:
        return [*plain, *aligned]
    each = itertools.combinations(aligned, 2)
    return [*plain, *aligned, *((one, other) for (first, one), (second, other) in each if first == second)]


def bend_paths(bench: Workbench, checkpoints: Path) -> None:
    """Train the bend of every path, where the configuration asks for curves; each is saved as a network."""
    config = bench.config.path
    if config.kind == LINE:
        return
    for name_a, name_b in _bendable(bench, checkpoints):
        directory = checkpoints / _bend_of(bench, name_a, name_b)
        if checkpoint.steps(directory):
            continue
        a, b = (checkpoint.restore(checkpoints / name) for name in (name_a, name_b))
        data = partial(_training_data, bench, f"bend {name_a}-{name_b}")
        curve, losses = bend(
            jax.random.fold_in(jax.random.key(bench.config.seed), CURVE_STREAM),
            a.variables,
            b.variables,
            kind=config.kind,
            loss_fn=bench.pipeline.loss,
            batches=data,
            budget=Budget(config.steps, config.learning_rate),
        )
        metadata = {"config": bench.config.to_dict(), "source": a.metadata.get("source")}
        checkpoint.save(directory, config.steps, curve.bend, metadata)
        progress.say(f"bent {name_a}-{name_b}: training loss {losses[0]:.3g}, in the end {losses[-1]:.3g}")


def bent(bench: Workbench, checkpoints: Path, line: PathKey, a: Variables, b: Variables) -> tuple[Curve, ...]:
    """The curve beside a line; none where the configuration asks for none, or of a line that isn't bent."""
    kind = bench.config.path.kind
    names = str(line.a), str(line.b)
    if kind == LINE or names not in _bendable(bench, checkpoints):
        return ()
    middle = checkpoint.restore(checkpoints / _bend_of(bench, *names)).variables
    return (Curve(a, b, bend=middle, kind=kind),)


def train_star(bench: Workbench, checkpoints: Path) -> None:
    """Train the centre of the star of all networks, where the configuration asks for it."""
    config, directory = bench.config.path, checkpoints / STAR
    if not config.star or checkpoint.steps(directory):
        return
    tips = [checkpoint.restore(checkpoints / name) for name in bench.as_aligned]
    centre, losses = star(
        jax.random.fold_in(jax.random.key(bench.config.seed), STAR_STREAM),
        [tip.variables for tip in tips],
        loss_fn=bench.pipeline.loss,
        batches=partial(_training_data, bench, STAR),
        budget=Budget(config.steps, config.learning_rate),
    )
    source = tips[0].metadata.get("source")
    metadata = {"config": bench.config.to_dict(), "history": {"step": []}, "source": source}
    checkpoint.save(directory, config.steps, centre, metadata)
    progress.say(f"trained {STAR}: training loss {losses[0]:.3g}, in the end {losses[-1]:.3g}")


def add_tasks(bench: Workbench, checkpoints: Path) -> None:
    """Save theta_0 + 2 lambda tau for each network, tau = theta - theta_0 its task vector from the trunk.

    Halfway between two of them lies theta_0 + lambda_1 tau_1 + lambda_2 tau_2, task arithmetic's sum, whose
    features are linear where there is cross-task linearity (Zhou et al. 2024, arXiv 2402.03660). Layers that
    children began anew, and running statistics, are not shared: they are the network's own.
    """
    network, config = bench.network, bench.config
    trunks = {one.name: one.parent for one in bench.lineages if one.parent is not None}
    for family in bench.families if config.path.tasks else ():
        for name, factor in zip(family, config.path.tasks, strict=True):
            directory = checkpoints / lineage.task_name(name)
            if checkpoint.steps(directory):
                continue
            own, trunk = (checkpoint.restore(checkpoints / one) for one in (name, trunks[name]))
            params = network.parameters(own.variables)
            moved = lerp(network.parameters(trunk.variables), params, 2 * factor)
            moved = renewed(moved, params, config.train.fresh)
            metadata = {
                "config": config.to_dict(),
                "history": {"step": []},
                "source": own.metadata.get("source"),
            }
            checkpoint.save(directory, own.step, network.updated(own.variables, moved, {}), metadata)


def measure_plane(bench: Workbench, checkpoints: Path) -> dict[str, Any]:
    """Test loss and error over the plane through a and b, and c, or what else there is.

    Raises:
        UserError: the three don't span a plane.
    """
    first, second, *others = bench.families[0]
    aligned, kind = checkpoints / lineage.aligned_name(second), bench.config.path.kind
    if others:
        third, directory = others[0], checkpoints / others[0]
    elif aligned.exists():
        third, directory = aligned.name, aligned
    else:
        third, directory = kind, checkpoints / _bend_of(bench, first, second)
    places = {first: checkpoints / first, second: checkpoints / second, third: directory}
    networks = {name: checkpoint.restore(place).variables for name, place in places.items()}
    with progress.bar(f"plane through {', '.join(networks)}", total=None):
        stream = batches(bench.measured[TEST], bench.eval_batch_size)
        found = scan(plane_through(networks), bench.pipeline.apply, stream, bench.config.plane.size)
    return {"networks": [*networks], **found}


def _bend_of(bench: Workbench, name_a: str, name_b: str) -> str:
    return f"{name_a}-{name_b}.{bench.config.path.kind}"


def _training_data(bench: Workbench, label: str) -> Iterator[Batch]:
    config, examples = bench.config, bench.dataset.train
    size = min(config.train.batch_size, examples.size)
    passes = math.ceil(config.path.steps / max(examples.size // size, 1))
    return training_stream(bench, examples, size, label, passes)
