"""Training: a jitted step, epochs of it, and nothing that isn't a function of (config, data, key, step).

Batch order, augmentation and dropout at a step are derived from the lineage's key and the step alone, so a
run can stop after any epoch, go on in another process, and end with the same parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llfc_jax.data.batches import seeds_from
from llfc_jax.models.model import Model
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, PRNGKey, PyTree, Variables

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
"""Name -> JAX's for how float32 factors are rounded; at least so precisely: GPUs do `bfloat16` as TF32, TPUs
`tf32` in three passes of bfloat16, and CPUs everything in float32."""

INIT, ORDER, AUGMENT, DROPOUT, NOISE = range(5)
"""What a lineage's key is folded with."""


class TrainState(NamedTuple):
    """Everything that a step changes."""

    step: Array
    variables: Variables
    opt_state: PyTree
    average: Variables | None = None
    """Of the variables of all steps, where the recipe has a decay for it."""

    @property
    def result(self) -> Variables:
        """What training is for: the average, where there is one."""
        return self.variables if self.average is None else self.average

    @property
    def beside(self) -> PyTree:
        """What it takes to go on, besides the variables."""
        return self.opt_state if self.average is None else (self.opt_state, self.average)

    def restored(self, step: int, variables: Variables, beside: PyTree) -> "TrainState":
        """A state like this one, of what was saved."""
        opt_state, average = (beside, None) if self.average is None else beside
        return TrainState(jnp.int32(step), variables, opt_state, average)


class Metrics(NamedTuple):
    """Of one batch, before its update."""

    loss: Array
    """Mean cross-entropy (nats)."""
    error: Array
    """Fraction of mistakes."""


def gather(key: PRNGKey, data: tuple[Array, Array], index: Array) -> tuple[Array, Array]:
    """The examples of these indices."""
    del key
    inputs, labels = data
    return inputs[index], labels[index]


class Recipe(NamedTuple):
    """What a step does; all of it static under jit."""

    network: Model
    optimizer: optax.GradientTransformation
    preprocess: Callable[[PRNGKey, Array], Array]
    """Key, uint8 images -> what the network takes, augmentation included."""
    precision: str = "float32"
    """Of matrix products and convolutions: a key of `PRECISIONS`."""
    draw: Callable[[PRNGKey, tuple[Array, Array], Array], tuple[Array, Array]] = gather
    """Key, training inputs and labels, indices (n,) -> those of a batch."""
    ema: float = 0.0
    """Decay of the exponential moving average of all variables; 0 for none."""


def init_state(recipe: Recipe, variables: Variables) -> TrainState:
    """Step 0 from the given variables."""
    opt_state = recipe.optimizer.init(recipe.network.parameters(variables))
    average = jax.tree.map(jnp.copy, variables) if recipe.ema else None  # a buffer is donated but once
    return TrainState(jnp.zeros((), jnp.int32), variables, opt_state, average)


def taken_over(recipe: Recipe, state: TrainState) -> TrainState:
    """The state that another recipe has left, as it goes on by this one.

    An optimizer that keeps the same goes on with it; another begins anew, at the same step of its schedule.
    """
    own = jax.eval_shape(partial(init_state, recipe), state.variables)
    opt_state, average = state.opt_state, state.average
    kept: Any = jax.tree.structure(opt_state)
    same_optimizer = kept == jax.tree.structure(own.opt_state)
    same_average = (average is None) == (own.average is None)
    if same_optimizer and same_average:
        return state
    new = init_state(recipe, state.variables)
    if not same_optimizer:
        count = jnp.copy(state.step)  # a buffer is donated but once
        opt_state = optax.tree.set(new.opt_state, _is_of_schedule, count=count)
    return state._replace(opt_state=opt_state, average=average if same_average else new.average)


def _is_of_schedule(path: tuple[Any, ...], leaf: Any) -> bool:
    del leaf
    return any(getattr(key, "tuple_name", "") == "ScaleByScheduleState" for key in path)


def train_step(
    recipe: Recipe, key: PRNGKey, state: TrainState, images: Array, labels: Array
) -> tuple[TrainState, Metrics]:
    """One update on one batch. Pure; callers jit.

    Args:
        recipe: network, optimizer, preprocessing.
        key: of the lineage.
        state: before.
        images: (n, h, w, c) uint8, or blocks of text, (n, t).
        labels: (n,) int32, or (n, t): the loss is the mean over all of them.
    """
    augment_key, dropout_key = (_at(key, purpose, state.step) for purpose in (AUGMENT, DROPOUT))
    inputs = recipe.preprocess(augment_key, images)

    def loss_fn(params: PyTree) -> tuple[Array, tuple[Array, PyTree]]:
        variables = recipe.network.updated(state.variables, params, {})
        logits, changes = recipe.network.apply_train(variables, inputs, dropout_key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, changes)

    params = recipe.network.parameters(state.variables)
    with jax.default_matmul_precision(PRECISIONS[recipe.precision]):
        (loss, (logits, changes)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = recipe.optimizer.update(gradients, state.opt_state, params)
    variables = recipe.network.updated(state.variables, optax.apply_updates(params, updates), changes)
    error = jnp.mean(logits.argmax(-1) != labels)
    average = _averaged(recipe.ema, state, variables)
    return TrainState(state.step + 1, variables, opt_state, average), Metrics(loss, error)


def _at(key: PRNGKey, purpose: int, step: Array) -> PRNGKey:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)


def _averaged(decay: float, state: TrainState, variables: Variables) -> Variables | None:
    """The average after one more step; its first steps weigh less, as the initialisation isn't worth keeping.

    The decay at step t is min(decay, (1 + t) / (10 + t)), as TensorFlow's with a number of updates.
    """
    if state.average is None:
        return None
    rate = jnp.maximum(1 - decay, 9 / (10 + state.step))

    def averaged(new: Array, old: Array) -> Array:
        counts = not jnp.issubdtype(new.dtype, jnp.inexact)  # as BatchNorm's batches are, by PyTorch
        return new if counts else optax.incremental_update(new, old, rate)

    return jax.tree.map(averaged, variables, state.average)


@partial(jax.jit, static_argnames=("num_examples", "batch_size"))
def epoch_batches(key: PRNGKey, epoch: int, num_examples: int, batch_size: int) -> Array:
    """The batches of an epoch: (steps, batch_size) indices, a fresh permutation without its odd end."""
    epoch_key = jax.random.fold_in(jax.random.fold_in(key, ORDER), epoch)
    steps = num_examples // batch_size
    return jax.random.permutation(epoch_key, num_examples)[: steps * batch_size].reshape(steps, batch_size)


Runner = Callable[[PRNGKey, TrainState, Array], Iterator[tuple[TrainState, Metrics]]]
"""Key, state, batches (steps, batch_size) -> the state and the metrics (k,) after every k steps."""


def make_runner(recipe: Recipe, images: np.ndarray, labels: np.ndarray, *, scan: bool) -> Runner:
    """How to run many steps: all in one compiled scan, or one call per step.

    A scan costs one dispatch per epoch, which is what accelerators and small networks want. XLA:CPU, however,
    runs some convolutions 30-100 times slower inside a loop than outside.

    Args:
        recipe: what a step does.
        images: the training images, (N, h, w, c) uint8, or blocks of text; kept on every device.
        labels: (N, ...) int32.
        scan: whether to scan.
    """
    data = sharding.replicate((images, labels))
    step, steps = _jitted(recipe)

    def run(key: PRNGKey, state: TrainState, indices: Array) -> Iterator[tuple[TrainState, Metrics]]:
        if scan:
            yield steps(key, state, data, sharding.shard_batch(indices, axis=1))
        else:
            for index in np.asarray(indices):  # rows of an array on a device would be a computation each
                state, metrics = step(key, state, data, sharding.shard_batch(index))
                yield state, jax.tree.map(lambda x: x[None], metrics)

    return run


Read = Callable[[Sequence[np.ndarray], Sequence[Any]], Iterator[tuple[Array, Array]]]
"""Indices (n,) of batches, a seed of each for what is cropped as it is read -> their inputs and labels."""


def make_streaming_runner(recipe: Recipe, read: Read) -> Runner:
    """How to run many steps on batches that come to the devices one by one: a call for each.

    Args:
        recipe: what a step does; its `draw` is not asked.
        read: reads batches, ahead of their use.
    """
    step = _jitted_on_batch(recipe)

    def run(key: PRNGKey, state: TrainState, indices: Array) -> Iterator[tuple[TrainState, Metrics]]:
        first, rows = int(state.step), list(np.asarray(indices))
        seeds = seeds_from(jax.random.fold_in(key, AUGMENT), range(first, first + len(rows)))
        for images, labels in read(rows, seeds):
            state, metrics = step(key, state, images, labels)
            yield state, jax.tree.map(lambda x: x[None], metrics)

    return run


@lru_cache(maxsize=8)
def _jitted_on_batch(recipe: Recipe) -> Callable[..., Any]:
    return jax.jit(partial(train_step, recipe), donate_argnums=1)


@lru_cache(maxsize=8)
def _jitted(recipe: Recipe) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A step, and a scan of them; the same for an equal recipe, so that nothing is compiled again."""

    @partial(jax.jit, donate_argnums=1)
    def step(key: PRNGKey, state: TrainState, data: tuple[Array, Array], index: Array) -> Any:
        images, labels = recipe.draw(_at(key, AUGMENT, state.step), data, index)
        return train_step(recipe, key, state, images, labels)

    @partial(jax.jit, donate_argnums=1)
    def steps(key: PRNGKey, state: TrainState, data: tuple[Array, Array], indices: Array) -> Any:
        return jax.lax.scan(lambda carry, index: step(key, carry, data, index), state, indices)

    return step, steps


def scans(backend: str, convolutional: bool) -> bool:
    """Whether epochs are best scanned on this backend."""
    return backend != "cpu" or not convolutional
