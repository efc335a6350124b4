"""Re-estimating BatchNorm's running statistics along the path.

Averaged weights meet averaged running statistics only approximately; the `recompute` convention replaces the
latter by the statistics of training data under theta_alpha (Izmailov et al. 2018; Jordan et al. 2023).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from llfc_jax.corrections.channel_moments import ChannelMoments, Statistics, add_batch, no_batches, whole
from llfc_jax.models import Network
from llfc_jax.path.interpolation import lerp
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Batch, PyTree, Variables

StatisticsAt = Callable[[PyTree, Array, Array], Statistics]
"""What theta_alpha is made of, alpha, images -> statistics of these images."""


def recompute_statistics(
    network: Network,
    preprocess: Callable[[Array], Array],
    a: Variables,
    b: Variables,
    alphas: Sequence[float],
    batches: Iterable[Batch],
) -> dict[float, Statistics]:
    """`batch_stats` of theta_alpha at each alpha, from one stream over training data.

    Mean and variance are those of all batches together. Deeper layers see batches normalised by their own
    statistics, as in training.

    Args:
        network: with BatchNorm.
        preprocess: images -> inputs of the network.
        a: variables of A.
        b: variables of B.
        alphas: points on the path.
        batches: of training data; an incomplete one is left out.

    Raises:
        ValueError: there is no complete batch.
    """
    return stream_along(_BatchStatistics(network, preprocess), (a, b), alphas, batches)


@dataclasses.dataclass(frozen=True)
class _BatchStatistics:
    """A `StatisticsAt`."""

    network: Network
    preprocess: Callable[[Array], Array]

    def __call__(self, ends: tuple[Variables, Variables], alpha: Array, images: Array) -> Statistics:
        inputs = self.preprocess(images)
        return self.network.apply_train(lerp(*ends, alpha), inputs, key=None, momentum=0.0)[1]


def with_statistics(variables: Variables, statistics: Statistics) -> Variables:
    """The same parameters with other running statistics."""
    return {**variables, "batch_stats": statistics}


def stream_along(
    statistics_at: StatisticsAt, ends: PyTree, alphas: Sequence[float], batches: Iterable[Batch]
) -> dict[float, PyTree]:
    """Statistics of whole batches at each alpha, joined over a stream; one compiled loop per batch.

    Args:
        statistics_at: pure. Give an equal one again, and nothing is compiled again.
        ends: what `statistics_at` makes theta_alpha of.
        alphas: points on the path.
        batches: an incomplete one is left out.

    Raises:
        ValueError: there is no complete batch.
    """
    path = jnp.asarray(alphas, jnp.float32)
    moments = None
    for batch in batches:
        if batch.mask.all():
            if moments is None:
                seen = jax.eval_shape(_look, statistics_at, ends, path, batch.images)
                moments = sharding.replicate(no_batches(seen))
            moments = _update(statistics_at, moments, ends, path, batch.images)
    if moments is None:
        raise ValueError("batches: expected a complete one at least; found none")
    stacked = whole(moments)
    return {
        alpha: jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        for index, alpha in enumerate(alphas)
    }


@partial(jax.jit, static_argnums=0)
def _look(statistics_at: StatisticsAt, ends: PyTree, path: Array, images: Array) -> Statistics:
    """Of one batch, stacked over the path."""
    return jax.lax.map(lambda alpha: statistics_at(ends, alpha, images), path)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _update(
    statistics_at: StatisticsAt, moments: ChannelMoments, ends: PyTree, path: Array, images: Array
) -> ChannelMoments:
    return add_batch(moments, _look(statistics_at, ends, path, images))
