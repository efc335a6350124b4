"""Quantiles of a stream of numbers that span many decades, from counts in bins of equal ratio."""

import numpy as np

SMALLEST = -12
"""Exponent of ten of the first bin: what lies below counts as zero."""

DECADES = 13
"""A number above the last bin counts to it."""

PER_DECADE = 32
"""Neighbouring bins differ by 7.5 %; a quantile is right to within one bin."""

BINS = 1 + DECADES * PER_DECADE
"""The first is for zeros."""


def add_counts(counts: np.ndarray | float, values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Counts with those of `values` (..., n), none of them negative, where `counted` is true: (..., bins).

    A NaN has no place among them and falls into the first bin: say elsewhere that there is one.

    Args:
        counts: before; 0 of nothing.
        values: the numbers.
        counted: of the same shape.
    """
    place = 1 + np.floor((np.log10(np.where(values > 0, values, 1)) - SMALLEST) * PER_DECADE)
    bins = np.where(values > 0, np.clip(place, 0, BINS - 1), 0).astype(int)
    streams = np.arange(values[..., 0].size).reshape(*values.shape[:-1], 1)
    new = np.bincount((BINS * streams + bins)[counted], minlength=BINS * streams.size)
    return counts + new.reshape(*values.shape[:-1], BINS)


def quantile(counts: np.ndarray, fraction: float) -> np.ndarray:
    """The number below which this fraction of the numbers lies, along the last axis; NaN of nothing.

    Example:
        >>> counts = add_counts(0, np.array([1e-6, 1e-3, 1e-1]), np.ones(3, bool))
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
