"""Carrying a lineage to its last step, through checkpoints, from wherever an earlier process left it."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import DivergenceError, UserError
from llfc_jax.runtime import processes, progress, sharding
from llfc_jax.storage import checkpoint
from llfc_jax.training.lineage import Lineage
from llfc_jax.training.noise import perturbed, renewed
from llfc_jax.training.optimizers import Schedule
from llfc_jax.training.step import (
    INIT,
    NOISE,
    Recipe,
    Runner,
    TrainState,
    epoch_batches,
    init_state,
    taken_over,
)
from llfc_jax.types import PRNGKey, Variables


class Setting(NamedTuple):
    """What lineages of a run share."""

    recipe: Recipe
    run: Runner
    evaluate: Callable[[Variables], tuple[float, float]]
    """Loss and error on the test split."""
    schedule: Schedule
    seed: int
    inputs: jax.ShapeDtypeStruct
    """Of one example."""
    num_examples: int
    batch_size: int
    checkpoint_every_epochs: int
    checkpoint_every_minutes: float
    """Passed over before so much time has gone by, where epochs take seconds."""
    metadata: dict[str, Any]
    """Saved with every checkpoint: configuration and fingerprint of the data."""

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training data."""
        return self.num_examples // self.batch_size


class Record(NamedTuple):
    """One epoch of a lineage; training loss and error are means over its batches, each before its update."""

    epoch: float
    step: int
    train_loss: float
    train_error: float
    test_loss: float
    test_error: float
    learning_rate: float


History = dict[str, list[float]]
"""Parallel lists, one for each field of `Record`."""


def train(lineage: Lineage, setting: Setting, checkpoints: Path, parents: Setting | None = None) -> None:
    """Bring a lineage to its last step, from wherever its checkpoints (or its parent's) have got to.

    Args:
        lineage: what to train.
        setting: by which.
        checkpoints: where they are.
        parents: that of its parent, where it is another; steps count on, epochs are of one's own data.

    Raises:
        DivergenceError: the loss stops being finite; the last good checkpoint stays.
        UserError: a checkpoint is unusable.
    """
    directory = checkpoints / lineage.name
    if checkpoint.steps(directory)[-1:] == [lineage.last_step]:
        return
    state, history = _start(lineage, setting, parents or setting, checkpoints)
    first_step = int(state.step)
    if first_step == lineage.last_step:
        _save(directory, state, history, lineage, setting)
        return
    save_every, saved_at = setting.checkpoint_every_epochs * setting.steps_per_epoch, time.monotonic()

    def is_time() -> bool:
        return time.monotonic() - saved_at >= 60 * setting.checkpoint_every_minutes

    with progress.bar(f"train {lineage.name}", lineage.last_step - first_step) as advance:
        while (step := int(state.step)) < lineage.last_step:
            state, record = _train_epoch(lineage, setting, state, step, advance)
            history = {name: [*history[name], value] for name, value in record._asdict().items()}
            if record.step == lineage.last_step or (
                record.step % save_every == 0 and processes.of_first(is_time)
            ):
                _save(directory, state, history, lineage, setting)
                saved_at = time.monotonic()
    progress.say(
        f"trained {lineage.name}: step {lineage.last_step}, test loss {history['test_loss'][-1]:.4f} nats, "
        f"test error {history['test_error'][-1]:.2%}"
    )


def _train_epoch(
    lineage: Lineage, setting: Setting, state: TrainState, step: int, advance: progress.Advance
) -> tuple[TrainState, Record]:
    """To the end of the epoch, or of the lineage; returns the state there and a record for the history."""
    key = jax.random.fold_in(jax.random.key(setting.seed), lineage.stream)
    epoch, done = divmod(step, setting.steps_per_epoch)
    todo = min(setting.steps_per_epoch - done, lineage.last_step - step)
    learning_rate = float(setting.schedule(step + todo - 1))
    indices = epoch_batches(key, epoch, setting.num_examples, setting.batch_size)[done : done + todo]
    losses, errors = [], []
    for new_state, metrics in setting.run(key, state, indices):
        state, (loss, error) = new_state, jax.tree.map(np.asarray, metrics)
        _check_finite(loss, step, lineage)
        losses.append(loss)
        errors.append(error)
        step += len(loss)
        advance(len(loss), f"loss {loss[-1]:.3f}")
    test_loss, test_error = setting.evaluate(state.result)
    _check_finite(np.array([test_loss]), step, lineage)  # the last update is in no training loss yet
    return state, Record(
        epoch=step / setting.steps_per_epoch,
        step=step,
        train_loss=float(np.concatenate(losses).mean()),
        train_error=float(np.concatenate(errors).mean()),
        test_loss=test_loss,
        test_error=test_error,
        learning_rate=learning_rate,
    )


def _start(
    lineage: Lineage, setting: Setting, parents: Setting, checkpoints: Path
) -> tuple[TrainState, History]:
    """The lineage's own last checkpoint, else its parent's, else an initialisation."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(setting.seed), lineage.init_stream), INIT)
    no_history: History = {name: [] for name in Record._fields}
    for name, by in ((lineage.name, setting), (lineage.parent, parents)):
        if name is not None and checkpoint.steps(checkpoints / name):
            shapes = by.recipe.network.shapes(by.inputs)
            like = jax.eval_shape(partial(init_state, by.recipe), shapes)
            found = checkpoint.restore(checkpoints / name, training=like.beside)
            _check_same_data(found, by, checkpoints / name)
            if name == lineage.name:
                state = like.restored(found.step, found.variables, found.training)
                return sharding.place(state), found.metadata["history"]
            variables = _parted(lineage, setting, found.variables)
            state = like.restored(found.step, variables, found.training)
            return sharding.place(taken_over(setting.recipe, state)), no_history
    return sharding.place(create(key, setting.recipe, setting.inputs)), no_history


def _parted(lineage: Lineage, setting: Setting, variables: Variables) -> Variables:
    """Its parent's variables, with the noise by which a twin differs, and layers that it begins anew."""
    own = jax.random.fold_in(jax.random.key(setting.seed), lineage.own_stream)
    network, inputs = setting.recipe.network, setting.inputs
    params = perturbed(jax.random.fold_in(own, NOISE), network.parameters(variables), lineage.noise)
    if lineage.fresh:
        drawn = network.draw(jax.random.fold_in(own, INIT), jnp.zeros(inputs.shape, inputs.dtype))
        params = renewed(params, network.parameters(drawn), lineage.fresh)
    return network.updated(variables, params, {})


def create(key: PRNGKey, recipe: Recipe, inputs: jax.ShapeDtypeStruct) -> TrainState:
    """Step 0, with variables drawn by `key`, for inputs of this shape and dtype."""
    return _initial(recipe, recipe.network.draw(key, jnp.zeros(inputs.shape, inputs.dtype)))


_initial = jax.jit(init_state, static_argnums=0)


def _save(directory: Path, state: TrainState, history: History, lineage: Lineage, setting: Setting) -> None:
    metadata = {**setting.metadata, "seed": setting.seed, "lineage": lineage._asdict(), "history": history}
    is_result = int(state.step) == lineage.last_step and not lineage.is_trunk
    variables = state.result if is_result else state.variables
    checkpoint.save(directory, int(state.step), variables, metadata, state.beside)


def _check_finite(losses: np.ndarray, first_step: int, lineage: Lineage) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise DivergenceError(
            f"training {lineage.name}: the loss became {losses[bad[0]]} at step {first_step + bad[0]}; "
            "the last good checkpoint is kept; a smaller opt.learning_rate may help"
        )


def _check_same_data(found: checkpoint.Checkpoint, setting: Setting, directory: Path) -> None:
    theirs, ours = found.metadata["fingerprint"], setting.metadata["fingerprint"]
    files = {metadata.get("of_files", "") for metadata in (found.metadata, setting.metadata)}
    alike = len(files) == 1 and "" not in files  # though held there and streamed here, or vice versa
    if theirs != ours and not alike:
        raise UserError(
            f"checkpoint {directory} was trained on other data: fingerprint {theirs[:12]}, "
            f"while data.name and data.data_dir now give {ours[:12]}"
        )
