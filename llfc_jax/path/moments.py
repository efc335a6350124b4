"""Means and squared deviations of streams of numbers, batch by batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.types import Array


class Moments(NamedTuple):
    """Weighted count, mean and sum of squared deviations of a stream of numbers."""

    weight: Array
    mean: Array
    squares: Array


class MergedWeights(NamedTuple):
    """How two streams become one (Chan, Golub & LeVeque 1979).

    Deviations from means don't cancel where large sums of squares or products would.
    """

    weight: Array
    """Of both."""
    share: Array
    """Of the second: by this part of the way from its own to the second's the first's mean moves."""
    between: Array
    """What the products of these ways count for, in sums of products of deviations from the means."""


def merged_weights(first: Array, second: Array) -> MergedWeights:
    """Of two streams of these weights; nothing and nothing make nothing.

    Example:
        >>> [float(part) for part in merged_weights(jnp.float32(3), jnp.float32(1))]
        [4.0, 0.25, 0.75]
    """
    weight = first + second
    share = second / jnp.where(weight > 0, weight, 1)
    return MergedWeights(weight, share, first * share)


def no_moments() -> Moments:
    """Moments of nothing."""
    return Moments(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


@jax.jit
def add_moments(moments: Moments, values: Array, weights: Array) -> Moments:
    """Moments joined with those of `values` (n,), weighted by `weights` (n,); weight 0 hides a value."""
    values = jnp.where(weights > 0, values, 0)
    weight = weights.sum()
    mean = jnp.sum(weights * values) / jnp.where(weight > 0, weight, 1)
    squares = jnp.sum(weights * jnp.square(values - mean))
    total, share, between = merged_weights(moments.weight, weight)
    shift = mean - moments.mean
    return Moments(
        weight=total,
        mean=moments.mean + share * shift,
        squares=moments.squares + squares + between * jnp.square(shift),
    )


def variance(moments: Moments) -> np.ndarray:
    """Population variance, in float64; NaN of nothing."""
    weight, squares = (np.asarray(leaf, np.float64) for leaf in (moments.weight, moments.squares))
    return np.where(weight > 0, squares / np.where(weight > 0, weight, 1), np.nan)
