"""A plain convolution of images, whose reverse mode XLA:CPU runs as fast as its forward one."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from llfc_jax.program.interpreter import evaluate
from llfc_jax.types import Array

Pair = tuple[int, int]

NHWC = ("NHWC", "HWIO", "NHWC")
_IMAGES_AT_A_TIME = 8
"""In the weight gradient. A loop reads its inputs from memory, where XLA would otherwise compute all that led
to them once more, in the worst order; and so few images stay in the cache while they are transposed."""


def evaluate_for_gradients(eqn: JaxprEqn, operands: Sequence[Array]) -> list[Array]:
    """What an equation makes of arrays; convolutions by `convolve_for_gradients`, where that is faster."""
    if jax.default_backend() != "cpu" or not _is_plain(eqn, *operands):
        return evaluate(eqn, operands)
    how = eqn.params
    padding = tuple((int(low), int(high)) for low, high in how["padding"])
    x, kernel = operands
    return [convolve_for_gradients(x, kernel, tuple(how["window_strides"]), padding, how["precision"])]


def _is_plain(eqn: JaxprEqn, *operands: Array) -> bool:
    """Whether it is a convolution of NHWC images with larger kernels than 1x1, no groups, no dilation."""
    if eqn.primitive.name != "conv_general_dilated":
        return False
    (x, kernel), how = operands, eqn.params
    if x.ndim != 4 or kernel.shape[:2] == (1, 1):
        return False
    plain = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, NHWC)
    return (
        how["dimension_numbers"] == plain
        and {*how["lhs_dilation"], *how["rhs_dilation"]} == {1}
        and how["feature_group_count"] == how["batch_group_count"] == 1
        and how["preferred_element_type"] in (None, x.dtype)
    )


def convolve(x: Array, kernel: Array, strides: Pair, padding: tuple[Pair, ...], precision: Any) -> Array:
    """NHWC images with a HWIO kernel, as XLA runs it."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=NHWC, precision=precision
    )


convolve_for_gradients = partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))(convolve)
"""The same, with fast gradients; there is no forward mode but over reverse."""


def _forward(x: Array, kernel: Array, *how: Any) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel, *how), (x, kernel)


def _backward(
    strides: Pair, padding: tuple[Pair, ...], precision: Any, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Both gradients as convolutions of NHWC inputs with HWIO kernels.

    With y[p] = sum_q k[q] x[s p + q - low] along each spatial axis, that of x is a convolution of dy, spread
    by the stride s, with k reversed; that of k is a convolution of x with dy as the kernel, spread likewise,
    in which channels take the place of the images, and the images that of the channels to sum over.
    """
    x, kernel = saved
    conv = partial(jax.lax.conv_general_dilated, dimension_numbers=NHWC, precision=precision)
    sides = tuple(zip(x.shape[1:3], kernel.shape[:2], gradient.shape[1:3], strides, padding, strict=True))
    edges_x = [(k - 1 - low, size - 1 - (out - 1) * s + low) for size, k, out, s, (low, _) in sides]
    edges_k = [(low, (out - 1) * s + k - size - low) for size, k, out, s, (low, _) in sides]

    def of_kernel(x: Array, gradient: Array) -> Array:
        images_last, as_kernel = x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)
        return conv(images_last, as_kernel, (1, 1), edges_k, rhs_dilation=strides).transpose(1, 2, 0, 3)

    def add(block: Array, total: Array) -> Array:
        start = block * _IMAGES_AT_A_TIME
        some = (jax.lax.dynamic_slice_in_dim(part, start, _IMAGES_AT_A_TIME) for part in (x, gradient))
        return total + of_kernel(*some)

    reversed_kernel = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    of_x = conv(gradient, reversed_kernel, (1, 1), edges_x, lhs_dilation=strides)
    blocks, left_over = divmod(len(x), _IMAGES_AT_A_TIME)
    if left_over:
        return of_x, of_kernel(x, gradient)
    return of_x, jax.lax.fori_loop(0, blocks, add, jnp.zeros_like(kernel))


convolve_for_gradients.defvjp(_forward, _backward)
