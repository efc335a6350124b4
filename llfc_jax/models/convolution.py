"""The one convolution of the package: XLA's, except where XLA:CPU runs it at a small part of its speed.

XLA:CPU is fast for NHWC inputs and HWIO kernels that fit the map. All else runs at 2 to 4 GFLOP/s: a 3x3
kernel on a 2x2 map, and, inside a loop, any other order of axes. Accelerators are left to themselves.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.types import Array

Pair = tuple[int, int]

_TINY_MAP = 4
"""Output positions up to which a convolution is one matrix product: 240 GFLOP/s instead of 4."""
_IMAGES_AT_A_TIME = 8
"""In the weight gradient. A loop reads its inputs from memory, where XLA would otherwise compute all that led
to them once more, in the worst order; and so few images stay in the cache while they are transposed."""
_NHWC = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(lhs: Array, rhs: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """`jax.lax.conv_general_dilated`, on CPU by the rules of this module.

    A drop-in for the `conv_general_dilated` argument of `flax.linen.Conv`: NHWC inputs, HWIO kernels. The
    value is the same up to float rounding; only the schedule differs.
    """
    return _scheduled(_convolve, lhs, rhs, window_strides, padding, options)


def conv_for_training(lhs: Array, rhs: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """The same, with reverse-mode gradients that are fast on CPU, a ResNet-20's by a fifth.

    It has no forward-mode derivative (`jax.jvp`) there, which is why it isn't used everywhere.
    """
    return _scheduled(_convolve_for_training, lhs, rhs, window_strides, padding, options)


def _scheduled(
    convolve: Callable[..., Array],
    lhs: Array,
    rhs: Array,
    strides: Any,
    padding: Any,
    options: dict[str, Any],
) -> Array:
    if jax.default_backend() != "cpu" or not _is_plain(rhs, options):
        return jax.lax.conv_general_dilated(lhs, rhs, strides, padding, **options)
    strides, kernel, precision = tuple(strides), rhs.shape[:2], options.get("precision")
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(lhs.shape[1:3], kernel, strides, padding)
    padding = tuple((int(low), int(high)) for low, high in padding)
    if strides == (1, 1) and lhs.shape[1] * lhs.shape[2] <= _TINY_MAP:
        return _as_matmul(lhs, rhs, padding, precision)
    return convolve(lhs, rhs, strides, padding, precision)


def _is_plain(kernel: Array, options: dict[str, Any]) -> bool:
    """Whether it is a convolution of images without groups and dilation; 1x1 is a matrix product to XLA."""
    dilations = [options.get(name) or (1, 1) for name in ("lhs_dilation", "rhs_dilation")]
    undilated = all(tuple(factors) == (1, 1) for factors in dilations)
    ungrouped = options.get("feature_group_count", 1) == 1
    return undilated and ungrouped and kernel.ndim == 4 and kernel.shape[:2] != (1, 1)


def _as_matmul(x: Array, kernel: Array, padding: tuple[Pair, ...], precision: Any) -> Array:
    height, width, _, out = kernel.shape
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (size - side + 1 for size, side in zip(padded.shape[1:3], (height, width), strict=True))
    patches = [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.dot(jnp.concatenate(patches, axis=-1), kernel.reshape(-1, out), precision=precision)


def _convolve(x: Array, kernel: Array, strides: Pair, padding: tuple[Pair, ...], precision: Any) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=_NHWC, precision=precision
    )


_convolve_for_training = partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))(_convolve)


def _forward(x: Array, kernel: Array, *how: Any) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, *how), (x, kernel)


def _backward(
    strides: Pair, padding: tuple[Pair, ...], precision: Any, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Both gradients as convolutions of NHWC inputs with HWIO kernels.

    With y[p] = sum_q k[q] x[s p + q - low] along each spatial axis, that of x is a convolution of dy, spread
    by the stride s, with k reversed; that of k is a convolution of x with dy as the kernel, spread likewise,
    in which channels take the place of the images, and the images that of the channels to sum over.
    """
    x, kernel = saved
    convolve = partial(jax.lax.conv_general_dilated, dimension_numbers=_NHWC, precision=precision)
    sides = tuple(zip(x.shape[1:3], kernel.shape[:2], gradient.shape[1:3], strides, padding, strict=True))
    edges_x = [(k - 1 - low, size - 1 - (out - 1) * s + low) for size, k, out, s, (low, _) in sides]
    edges_k = [(low, (out - 1) * s + k - size - low) for size, k, out, s, (low, _) in sides]

    def of_kernel(x: Array, gradient: Array) -> Array:
        images_last, as_kernel = x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
        return convolve(images_last, as_kernel, (1, 1), edges_k, rhs_dilation=strides).transpose(1, 2, 0, 3)

    def add(block: Array, total: Array) -> Array:
        start = block * _IMAGES_AT_A_TIME
        some = (jax.lax.dynamic_slice_in_dim(part, start, _IMAGES_AT_A_TIME) for part in (x, gradient))
        return total + of_kernel(*some)

    reversed_kernel = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    of_x = convolve(gradient, reversed_kernel, (1, 1), edges_x, lhs_dilation=strides)
    blocks, left_over = divmod(len(x), _IMAGES_AT_A_TIME)
    if left_over:
        return of_x, of_kernel(x, gradient)
    return of_x, jax.lax.fori_loop(0, blocks, add, jnp.zeros_like(kernel))


_convolve_for_training.defvjp(_forward, _backward)
