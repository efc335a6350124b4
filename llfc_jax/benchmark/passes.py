"""What everything else is made of: a forward pass and a training step, on one batch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from llfc_jax.benchmark.cases import Case
from llfc_jax.benchmark.timing import forward_flops, median_seconds, rates
from llfc_jax.training.step import PRECISIONS, Recipe, init_state, train_step
from llfc_jax.types import Array


def forward(case: Case) -> dict[str, Any]:
    """Logits of one batch."""
    images, _ = _batch(case)
    variables, apply = case.variables(0), jax.jit(case.network.apply)
    with jax.default_matmul_precision(PRECISIONS[case.precision]):
        return _rates(case, lambda: apply(variables, images), passes=1)


def training_step(case: Case) -> dict[str, Any]:
    """One update on one batch by SGD with momentum and weight decay; counted as three forward passes."""
    images, labels = _batch(case)
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))
    recipe = Recipe(case.network, optimizer, preprocess=lambda key, images: images, precision=case.precision)
    step = jax.jit(partial(train_step, recipe), donate_argnums=1)
    key, state = jax.random.key(0), init_state(recipe, case.variables(0))

    def work() -> Array:
        nonlocal state
        state, metrics = step(key, state, images, labels)
        return metrics.loss

    return _rates(case, work, passes=3)


def _batch(case: Case) -> tuple[Array, Array]:
    size = case.training_batch_size
    return jax.random.normal(jax.random.key(1), (size, *case.image)), jnp.arange(size) % 10


def _rates(case: Case, work: Callable[[], Array], passes: int) -> dict[str, Any]:
    images, _ = _batch(case)
    took = median_seconds(work, case.repeats)
    flops = passes * forward_flops(case.network.apply, case.variables(0), images)
    return {"images": len(images)} | rates(took, len(images), flops, case.precision)
