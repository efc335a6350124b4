"""Mean and variance per channel over a stream of batches, from those of each batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.path.moments import merged_weights
from llfc_jax.types import Array, PyTree

Statistics = dict[str, dict[str, Array]]
"""Module -> `mean` and `var`, each (..., channels), in the layout of Linen's `batch_stats`."""


class ChannelMoments(NamedTuple):
    """What was seen of batches of one size."""

    seen: Array
    """Number of batches."""
    statistics: Statistics
    """Mean over batches of their means and variances."""
    spread: PyTree
    """Module -> summed squared deviations of the batches' means."""


def no_batches(like: PyTree) -> ChannelMoments:
    """Before the first batch; `like` has the shapes of the statistics."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    spread = {stage: jnp.zeros_like(own["mean"]) for stage, own in zeros.items()}
    return ChannelMoments(jnp.zeros(()), zeros, spread)


def add_batch(moments: ChannelMoments, new: Statistics) -> ChannelMoments:
    """With the statistics of one more batch."""
    seen, share, between = merged_weights(moments.seen, jnp.ones(()))
    shift = jax.tree.map(jnp.subtract, new, moments.statistics)
    return ChannelMoments(
        seen=seen,
        statistics=jax.tree.map(lambda old, delta: old + share * delta, moments.statistics, shift),
        spread={
            stage: old + between * jnp.square(shift[stage]["mean"]) for stage, old in moments.spread.items()
        },
    )


def whole(moments: ChannelMoments) -> Statistics:
    """Of all batches together: the variance is the mean of the variances plus the variance of the means."""
    return {
        stage: {"mean": own["mean"], "var": own["var"] + moments.spread[stage] / moments.seen}
        for stage, own in moments.statistics.items()
    }
