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
def largest(*features: Array) -> Array:
    """The size of each sample's largest entry in any of these (n, ...), (n,).

    Where several measures ask this of the same arrays, XLA computes it once.
    """
    sizes = reduce(jnp.maximum, map(jnp.abs, features))
    return sizes.max(range(1, sizes.ndim)).astype(jnp.float32)


def power_near(sizes: Array) -> Array:
    """The power of two near each number; 0 for 0, and the largest there is for what is no number."""
    return jax.lax.bitcast_convert_type(_exponents(sizes), jnp.float32)


def unit_of(sizes: Array) -> Array:
    """`power_near`, but NaN for what is no number: all else vanishes beside it, but isn't zero."""
    return jnp.where(jnp.isfinite(sizes), power_near(sizes), jnp.nan)


@jax.jit
def in_units(sizes: Array, *features: Array) -> tuple[Array, ...]:
    """Features (n, ...), each sample over the power of two near its size.

    The inverse of the power is an exponent without digits, too, so that nothing is divided: of a quotient XLA
    would store what a product of the same it computes anew wherever it is read.

    Args:
        sizes: (n,), of which no entry of a sample is far above, see `largest`.
        features: real; what is no number shows in them.
    """
    inverses = jax.lax.bitcast_convert_type(_INVERTED - _exponents(sizes), jnp.float32)
    return tuple(x * jnp.expand_dims(inverses, range(1, x.ndim)) for x in features)


def as_rows(x: Array) -> Array:
    """Features (n, ...) as (n, features) in float32; a complex number as its two parts."""
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], -1)
    return x.astype(jnp.float32).reshape(len(x), -1)


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


def _exponents(sizes: Array) -> Array:
    """The bits of powers of two whose inverses aren't subnormal."""
    exponents = jax.lax.bitcast_convert_type(sizes, jnp.int32) & _EXPONENT
    return jnp.minimum(exponents, _INVERTED - _UNIT)
