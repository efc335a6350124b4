"""Re-estimating BatchNorm's running statistics along the path.

Averaged weights meet averaged running statistics only approximately; the `recompute` convention replaces the
latter by the statistics of training data under theta_alpha (Izmailov et al. 2018; Jordan et al. 2023).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.data.batches import Batch
from llfc_jax.interpolation import lerp
from llfc_jax.models import Network
from llfc_jax.types import Array, PyTree, Variables


class _Estimate(NamedTuple):
    """Batches seen, mean over them of each batch's statistics, squared deviations of their means."""

    seen: Array
    statistics: PyTree
    spread: PyTree


def recompute_statistics(
    network: Network,
    preprocess: Callable[[Array], Array],
    a: Variables,
    b: Variables,
    alphas: Sequence[float],
    batches: Iterable[Batch],
) -> dict[float, PyTree]:
    """`batch_stats` of theta_alpha at each alpha, from one stream over training data.

    Mean and variance are those of all batches together: the mean of the batches' means, and the mean of their
    variances plus the variance of their means. Deeper layers see batches normalised by their own statistics,
    as in training.

    Args:
        network: with BatchNorm.
        preprocess: images -> inputs of the network.
        a: variables of A.
        b: variables of B.
        alphas: points on the path.
        batches: of training data; an incomplete last one is left out.
    """
    path = jnp.asarray(alphas, jnp.float32)

    def statistics_at(alpha: Array, images: Array) -> PyTree:
        # Momentum 0 forgets the running statistics. Dropout never precedes a BatchNorm here: any key will do.
        variables = lerp(a, b, alpha)
        return network.apply_train(variables, preprocess(images), jax.random.key(0), momentum=0.0)[1]

    @partial(jax.jit, donate_argnums=0)
    def update(estimate: _Estimate, images: Array) -> _Estimate:
        new = jax.lax.map(partial(statistics_at, images=images), path)
        seen = estimate.seen + 1
        shift = jax.tree.map(jnp.subtract, new, estimate.statistics)
        statistics = jax.tree.map(lambda old, delta: old + delta / seen, estimate.statistics, shift)
        spread = jax.tree.map(lambda old, delta: old + delta**2 * (seen - 1) / seen, estimate.spread, shift)
        return _Estimate(seen, statistics, spread)

    zeros = jax.tree.map(lambda leaf: jnp.zeros((len(alphas), *leaf.shape)), a["batch_stats"])
    estimate = _Estimate(jnp.zeros(()), zeros, jax.tree.map(jnp.copy, zeros))
    for batch in batches:
        if batch.mask.all():
            estimate = update(estimate, batch.images)
    stacked = {
        stage: {"mean": own["mean"], "var": own["var"] + estimate.spread[stage]["mean"] / estimate.seen}
        for stage, own in estimate.statistics.items()
    }
    return {
        alpha: jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        for index, alpha in enumerate(alphas)
    }
