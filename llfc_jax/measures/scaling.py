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
_UNIT = 1 << 23
"""The lowest of them."""
_INVERTED = 254 * _UNIT
"""The exponents of a power of two and of its inverse together."""


@jax.jit
def in_units(*features: Array) -> tuple[Array, tuple[Array, ...]]:
    """For each sample, the power of two near its largest entry in any of these, and all of them over it.

    Both the power and its inverse are an exponent without digits, so that nothing is divided: of a quotient
    XLA would store what a product of the same it computes anew wherever it is read.

    Args:
        features: real, of one shape (n, ...).

    Returns:
        (n,), for zeros the smallest power there is, and 1 where an entry is no number, which then shows
        elsewhere; and the features, each (n, ...).
    """
    entries = reduce(jnp.maximum, map(jnp.abs, features))
    largest = entries.max(range(1, entries.ndim)).astype(jnp.float32)
    exponent = jax.lax.bitcast_convert_type(largest, jnp.int32) & _EXPONENT
    within = jnp.clip(exponent, _UNIT, _INVERTED - _UNIT)  # neither the power nor its inverse is subnormal
    exponent = jnp.where(exponent < _EXPONENT, within, _INVERTED // 2)
    powers, inverses = (
        jax.lax.bitcast_convert_type(bits, jnp.float32) for bits in (exponent, _INVERTED - exponent)
    )
    inverses = jnp.expand_dims(inverses, range(1, entries.ndim))
    return powers, tuple(x * inverses for x in features)


def real_parts(x: Array) -> Array:
    """The same features in float32; a complex number as its two parts, along a further axis."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], -1)
    return x.astype(jnp.float32)


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
