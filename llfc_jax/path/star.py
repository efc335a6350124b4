"""The centre of a star: one network to which many lie on lines of low loss."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.path.descent import Budget, LossFn, descend
from llfc_jax.path.interpolation import lerp, mean
from llfc_jax.types import PRNGKey, Variables


def star(
    key: PRNGKey,
    tips: Sequence[Variables],
    *,
    loss_fn: LossFn,
    batches: Callable[[], Iterable[Any]],
    budget: Budget,
) -> tuple[Variables, list[float]]:
    """The network C that minimises the expected loss on the lines from it to all of several networks.

    C = argmin E_i E_alpha L((1 - alpha) theta_i + alpha C), alpha uniform (Sonthalia et al. 2024, *Do deep
    neural network solutions form a star domain?*, arXiv 2403.07968, equation 5). The conjecture is that all
    networks, once permuted, are linearly connected to such a C, where two of them are not to each other.
    From the mean of the networks on, each step takes one batch, one network and one alpha.

    Args:
        key: draws a network and an alpha for each step.
        tips: variables of two networks or more, best aligned with each other.
        loss_fn: traced under jit.
        batches: starts a stream over training data; started again until there are enough.
        budget: of the training.

    Returns:
        C, and the loss of each step.

    Raises:
        UserError: the networks differ in structure, there are no batches, or the loss ends up as no number.
    """
    start = mean(tips)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tips)
    return descend(key, start, _on_ray, stacked, loss_fn=loss_fn, batches=batches, budget=budget)


def _on_ray(tips: Variables, centre: Variables, key: PRNGKey) -> Variables:
    """A point on the line from one of the stacked networks to the centre."""
    key_tip, key_alpha = jax.random.split(key)
    chosen = jax.random.randint(key_tip, (), 0, len(jax.tree.leaves(tips)[0]))
    tip = jax.tree.map(lambda leaf: leaf[chosen], tips)
    return lerp(tip, centre, jax.random.uniform(key_alpha))
