"""How pairs come about: networks that share a trunk, or nothing.

*Spawning* (Frankle et al. 2020): one initialisation, shared training for k steps, then children that differ only
in batch order, augmentation and dropout. *Independent*: different initialisations and orders.
"""

import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llfc_jax import checkpoint, progress
from llfc_jax.errors import UserError
from llfc_jax.optimizers import Schedule
from llfc_jax.training import INIT, Recipe, Runner, TrainState, epoch_batches, init_state
from llfc_jax.types import Array, PRNGKey, Variables

TRUNK = "trunk"


class Lineage(NamedTuple):
    """One stretch of training that ends in a network."""

    name: str
    index: int
    """Folded into the seed: draws the order of batches, augmentation and dropout."""
    init_index: int
    """Folded into the seed: draws the initialisation (unused with a parent)."""
    parent: str | None
    first_step: int
    last_step: int


class Setting(NamedTuple):
    """What all lineages of a run share."""

    recipe: Recipe
    run: Runner
    evaluate: Callable[[Variables], tuple[float, float]]
    """Loss and error on the test split."""
    schedule: Schedule
    seed: int
    input_shape: tuple[int, ...]
    num_examples: int
    batch_size: int
    checkpoint_every_epochs: int
    metadata: dict[str, Any]
    """Saved with every checkpoint: configuration and fingerprint of the data."""


History = dict[str, list[float]]
"""Parallel lists, one entry per epoch: epoch, step, train_loss, train_error, test_loss, test_error, learning_rate."""


def plan(config: Mapping[str, Any], steps_per_epoch: int) -> tuple[Lineage, ...]:
    """The stretches to train, parents first.

    Args:
        config: the `train` section.
        steps_per_epoch: full batches in the training data.

    Raises:
        UserError: the trunk would outlast the training.

    Example:
        >>> config = {"pair": "spawn", "networks": 2, "epochs": 3, "spawn_epochs": 1, "spawn_steps": None}
        >>> [(one.name, one.first_step, one.last_step) for one in plan(config, steps_per_epoch=10)]
        [('trunk', 0, 10), ('a', 10, 30), ('b', 10, 30)]
    """
    last = config["epochs"] * steps_per_epoch
    names = network_names(config["networks"])
    if config["pair"] == "independent":
        return tuple(Lineage(name, index, index, None, 0, last) for index, name in enumerate(names, start=1))
    spawn = config["spawn_steps"]
    if spawn is None:
        spawn = round(config["spawn_epochs"] * steps_per_epoch)
    if spawn > last:
        raise UserError(f"config.train.spawn_steps: expected {last} (all of training) at most; found {spawn}")
    children = (Lineage(name, index, 0, TRUNK, spawn, last) for index, name in enumerate(names, start=1))
    return Lineage(TRUNK, 0, 0, None, 0, spawn), *children


def train(lineage: Lineage, setting: Setting, checkpoints: Path) -> None:
    """Bring a lineage to its last step, from wherever its checkpoints (or its parent's) have got to.

    Raises:
        UserError: the loss stops being finite (the last good checkpoint stays), or a checkpoint is unusable.
    """
    directory = checkpoints / lineage.name
    if checkpoint.steps(directory)[-1:] == [lineage.last_step]:
        return
    state, history = _start(lineage, setting, checkpoints)
    key = jax.random.fold_in(jax.random.key(setting.seed), lineage.index)
    steps_per_epoch = setting.num_examples // setting.batch_size
    step = int(state.step)
    if step == lineage.last_step:
        _save(directory, state, history, lineage, setting)
    with progress.bar(f"train {lineage.name}", lineage.last_step - step) as advance:
        while step < lineage.last_step:
            epoch, done = divmod(step, steps_per_epoch)
            end = min((epoch + 1) * steps_per_epoch, lineage.last_step)
            indices = epoch_batches(key, epoch, setting.num_examples, setting.batch_size)
            indices = indices[done : done + end - step]
            losses, errors = [], []
            for state, metrics in setting.run(key, state, indices):
                losses.append(np.asarray(metrics.loss))
                errors.append(np.asarray(metrics.error))
                _check_finite(losses[-1], step, lineage, directory)
                step += len(losses[-1])
                advance(len(losses[-1]), f"loss {losses[-1][-1]:.3f}")
            test_loss, test_error = setting.evaluate(state.variables)
            record = {
                "epoch": step / steps_per_epoch,
                "step": step,
                "train_loss": float(np.concatenate(losses).mean()),
                "train_error": float(np.concatenate(errors).mean()),
                "test_loss": test_loss,
                "test_error": test_error,
                "learning_rate": float(setting.schedule(step - 1)),
            }
            history = {name: [*history.get(name, []), value] for name, value in record.items()}
            if step == lineage.last_step or step % (setting.checkpoint_every_epochs * steps_per_epoch) == 0:
                _save(directory, state, history, lineage, setting)
    if history:
        progress.say(
            f"trained {lineage.name}: step {step}, test loss {history['test_loss'][-1]:.4f} nats, "
            f"test error {history['test_error'][-1]:.2%}"
        )


def _start(lineage: Lineage, setting: Setting, checkpoints: Path) -> tuple[TrainState, History]:
    """The state to go on from: the lineage's own last checkpoint, else its parent's, else an initialisation."""
    init_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(setting.seed), lineage.init_index), INIT)
    create = jax.jit(lambda: _initialise(init_key, setting))
    for name, keep_history in ((lineage.name, True), (lineage.parent, False)):
        if name is not None and checkpoint.steps(checkpoints / name):
            found = checkpoint.restore(checkpoints / name, training=jax.eval_shape(create).opt_state)
            _check_same_data(found, setting, checkpoints / name)
            step = jax.numpy.asarray(found.step, "int32")
            history = found.metadata["history"] if keep_history else {}
            return TrainState(step, found.variables, found.training), history
    return create(), {}


def _initialise(key: PRNGKey, setting: Setting) -> TrainState:
    image = jax.numpy.zeros((1, *setting.input_shape))
    return init_state(setting.recipe, setting.recipe.network.init(key, image))


def _save(directory: Path, state: TrainState, history: History, lineage: Lineage, setting: Setting) -> None:
    metadata = {**setting.metadata, "seed": setting.seed, "lineage": lineage._asdict(), "history": history}
    checkpoint.save(directory, int(state.step), state.variables, metadata, state.opt_state)


def _check_finite(losses: Array, first_step: int, lineage: Lineage, directory: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        kept = checkpoint.steps(directory)
        raise UserError(
            f"training {lineage.name}: the loss became {losses[bad[0]]} at step {first_step + bad[0]}; "
            f"a smaller opt.learning_rate may help ({f'step {kept[-1]} is kept' if kept else 'no step was saved'})"
        )


def _check_same_data(found: checkpoint.Checkpoint, setting: Setting, directory: Path) -> None:
    theirs, ours = found.metadata["fingerprint"], setting.metadata["fingerprint"]
    if theirs != ours:
        raise UserError(
            f"checkpoint {directory} was trained on other data: fingerprint {theirs[:12]}, "
            f"while data.name and data.data_dir now give {ours[:12]}"
        )


def network_names(count: int) -> tuple[str, ...]:
    """a, b, c, ...

    Raises:
        UserError: more than the alphabet has.
    """
    if count > len(string.ascii_lowercase):
        raise UserError(f"config.train.networks: expected 26 at most; found {count}")
    return tuple(string.ascii_lowercase[:count])
