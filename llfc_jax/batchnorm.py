"""Re-estimating BatchNorm's running statistics along the path.

Averaged weights meet averaged running statistics only approximately; the `recompute` convention replaces the
latter by the statistics of training data under theta_alpha (Izmailov et al. 2018; Jordan et al. 2023).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from llfc_jax.channel_moments import ChannelMoments, Statistics, add_batch, no_batches, whole
from llfc_jax.data.batches import Batch
from llfc_jax.interpolation import lerp
from llfc_jax.models import Network
from llfc_jax.types import Array, PyTree, Variables


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

    def statistics_at(alpha: Array, images: Array) -> Statistics:
        variables = lerp(a, b, alpha)
        return network.apply_train(variables, preprocess(images), key=None, momentum=0.0)[1]

    return stream_along(statistics_at, alphas, batches)


def with_statistics(variables: Variables, statistics: Statistics) -> Variables:
    """The same parameters with other running statistics."""
    return {**variables, "batch_stats": statistics}


def stream_along(
    statistics_at: Callable[[Array, Array], Statistics], alphas: Sequence[float], batches: Iterable[Batch]
) -> dict[float, PyTree]:
    """Statistics of whole batches at each alpha, joined over a stream; one compiled loop per batch.

    Args:
        statistics_at: alpha, images -> statistics of this batch.
        alphas: points on the path.
        batches: an incomplete one is left out.

    Raises:
        ValueError: there is no complete batch.
    """
    path = jnp.asarray(alphas, jnp.float32)

    @jax.jit
    def look(images: Array) -> Statistics:
        return jax.lax.map(lambda alpha: statistics_at(alpha, images), path)

    @partial(jax.jit, donate_argnums=0)
    def update(moments: ChannelMoments, images: Array) -> ChannelMoments:
        return add_batch(moments, look(images))

    moments = None
    for batch in batches:
        if batch.mask.all():
            moments = no_batches(jax.eval_shape(look, batch.images)) if moments is None else moments
            moments = update(moments, batch.images)
    if moments is None:
        raise ValueError("batches: expected a complete one at least; found none")
    stacked = whole(moments)
    return {
        alpha: jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        for index, alpha in enumerate(alphas)
    }
