"""Means and squared deviations of streams of numbers, batch by batch."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from llfc_jax.types import Array


class Moments(NamedTuple):
    """Weighted count, mean and sum of squared deviations of a stream of numbers; NumPy, float64."""

    weight: np.ndarray | float = 0.0
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0


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


@np.errstate(all="ignore")  # what is no number shows
def add_moments(moments: Moments, values: np.ndarray, weights: np.ndarray) -> Moments:
    """Moments joined with those of `values` (..., n), weighted by `weights`; weight 0 hides a value.

    Example:
        >>> float(add_moments(Moments(), np.array([1.0, 3.0, np.nan]), np.array([1, 1, 0])).mean)
        2.0
    """
    values = np.where(weights > 0, np.asarray(values, np.float64), 0)
    weights = np.broadcast_to(np.asarray(weights, np.float64), values.shape)
    weight = weights.sum(-1)
    mean = (weights * values).sum(-1) / np.where(weight > 0, weight, 1)
    squares = (weights * np.square(values - mean[..., None])).sum(-1)
    return join_moments(moments, Moments(weight, mean, squares))


def join_moments(first: Moments, second: Moments) -> Moments:
    """Moments of two streams together."""
    total = np.asarray(first.weight + second.weight, np.float64)
    share = second.weight / np.where(total > 0, total, 1)
    shift = second.mean - first.mean
    between = first.weight * share * np.square(shift)
    return Moments(total, first.mean + share * shift, first.squares + second.squares + between)


def variance(moments: Moments) -> np.ndarray:
    """Population variance; NaN of nothing."""
    weight, squares = (np.asarray(leaf, np.float64) for leaf in (moments.weight, moments.squares))
    return np.where(weight > 0, squares / np.where(weight > 0, weight, 1), np.nan)
