"""The one convolution of the package: XLA's, except where XLA:CPU runs it at a small part of its speed.

XLA:CPU is fast for NHWC inputs and HWIO kernels that fit the map. All else runs at 2 to 4 GFLOP/s: a 3x3
kernel on a 2x2 map, and, inside a loop, any other order of axes. Accelerators are left to themselves.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.program.gradients import Pair, convolve, convolve_for_gradients
from llfc_jax.types import Array

_TINY_MAP = 4
"""Output positions up to which a convolution is one matrix product: 240 GFLOP/s instead of 4."""


def conv_general_dilated(lhs: Array, rhs: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """`jax.lax.conv_general_dilated`, on CPU by the rules of this module.

    A drop-in for the `conv_general_dilated` argument of `flax.linen.Conv`: NHWC inputs, HWIO kernels. The
    value is the same up to float rounding; only the schedule differs.
    """
    return _scheduled(convolve, lhs, rhs, window_strides, padding, options)


def conv_for_training(lhs: Array, rhs: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """The same, with reverse-mode gradients that are fast on CPU, a ResNet-20's by a fifth.

    It has no forward-mode derivative (`jax.jvp`) there, which is why it isn't used everywhere.
    """
    return _scheduled(convolve_for_gradients, lhs, rhs, window_strides, padding, options)


def _scheduled(
    schedule: Callable[..., Array],
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
    return schedule(lhs, rhs, strides, padding, precision)


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
