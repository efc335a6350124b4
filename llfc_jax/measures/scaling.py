"""Squares of features of any size: sums of them in units of a power of two, which loses nothing.

Features of 1e20 or 1e-20 have no squares in float32. Each sample is divided by a power of two near its
largest entry, and sums over samples are kept in units of the largest of these.
"""

from functools import reduce

import jax
import jax.numpy as jnp

from llfc_jax.types import Array

_EXPONENT = 0x7F800000
"""The bits of float32 that hold it."""


def sample_scales(*features: Array) -> Array:
    """For each sample, the power of two near the largest entry that it has in any of these, (n, ...).

    Returns:
        (n,): 0 where all entries are zero, and 1 where one is no number, which then shows elsewhere.
    """
    return _power_of_two(reduce(jnp.maximum, (jnp.max(jnp.abs(x), range(1, x.ndim)) for x in features)))


def real_parts(x: Array) -> Array:
    """The same features in float32; a complex number as its two parts, along a further axis."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], -1)
    return x.astype(jnp.float32)


def in_units(x: Array, scales: Array) -> Array:
    """(n, ...) features, divided by a scale for each sample (by 1 where that is 0)."""
    return x / jnp.expand_dims(jnp.where(scales > 0, scales, 1), range(1, x.ndim))


def joined(before: Array, scales: Array) -> tuple[Array, Array, Array]:
    """One unit for sums of squares in units of `before` and for samples that have their own.

    Args:
        before: (...), the scale so far.
        scales: (..., n), of new samples.

    Returns:
        The new scale, the larger of all; and what to multiply the sum by, (...), and the samples, (..., n).
    """
    scale = jnp.maximum(before, scales.max(-1))
    unit = jnp.where(scale > 0, scale, 1)
    return scale, jnp.square(before / unit), jnp.square(scales / unit[..., None])


def _power_of_two(x: Array) -> Array:
    """The largest one up to x, which is its exponent alone; 0 for 0, and 1 for what is no number."""
    exponent = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32) & _EXPONENT
    return jnp.where(jnp.isfinite(x), jax.lax.bitcast_convert_type(exponent, jnp.float32), 1)
