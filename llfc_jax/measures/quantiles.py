"""Quantiles of a stream of numbers that span many decades, from counts in bins of equal ratio."""

import jax.numpy as jnp
import numpy as np

from llfc_jax.types import Array

SMALLEST = -12
"""Exponent of ten of the first bin: what lies below counts as zero."""

DECADES = 13
"""A number above the last bin counts to it."""

PER_DECADE = 32
"""Neighbouring bins differ by 7.5 %; a quantile is right to within one bin."""

BINS = 1 + DECADES * PER_DECADE
"""The first is for zeros."""


def no_counts() -> Array:
    """Counts of nothing, (bins,)."""
    return jnp.zeros(BINS, jnp.int32)


def add_counts(counts: Array, values: Array, counted: Array) -> Array:
    """Counts with those of `values` (n,), none of them negative, where `counted` (n,) is true.

    A NaN has no place among them and falls into the first bin: say elsewhere that there is one.
    """
    place = 1 + jnp.floor((jnp.log10(values) - SMALLEST) * PER_DECADE)
    bins = jnp.where(values > 0, jnp.clip(place, 0, BINS - 1), 0).astype(jnp.int32)
    return counts.at[bins].add(counted.astype(jnp.int32))


def quantile(counts: Array | np.ndarray, fraction: float) -> np.ndarray:
    """The number below which this fraction of the numbers lies, along the last axis; NaN of nothing.

    Example:
        >>> counts = add_counts(no_counts(), jnp.array([1e-6, 1e-3, 1e-1]), jnp.ones(3, bool))
        >>> bool(abs(quantile(counts, 0.5) / 1e-3 - 1) < 0.075)
        True
    """
    counts = np.asarray(counts, np.float64)
    below, total = np.cumsum(counts, -1), counts.sum(-1)
    wanted = fraction * total
    first = np.argmax(below >= np.maximum(wanted, np.finfo(float).tiny)[..., None], -1)
    reached, inside = (np.take_along_axis(x, first[..., None], -1)[..., 0] for x in (below, counts))
    part = 1 - (reached - wanted) / np.where(inside > 0, inside, 1)
    value = 10.0 ** (SMALLEST + (first - 1 + part) / PER_DECADE)
    return np.where(total == 0, np.nan, np.where(first == 0, 0.0, value))
