"""The one convolution of the package: XLA's, except where XLA:CPU runs it at one hundredth of its speed."""

from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.types import Array

_TINY_MAP = 4  # output positions; on CPU, 2x2 maps run at 4 GFLOP/s as a convolution and at 240 as a matmul


def conv_general_dilated(lhs: Array, rhs: Array, window_strides: Any, padding: Any, **options: Any) -> Array:
    """`jax.lax.conv_general_dilated`, as im2col and one matmul for tiny feature maps on CPU.

    A drop-in for the `conv_general_dilated` argument of `flax.linen.Conv`: NHWC inputs, HWIO kernels. The
    value is the same up to float rounding; only the schedule differs.
    """
    if _is_tiny_on_cpu(lhs, rhs, window_strides, padding, options):
        return _as_matmul(lhs, rhs, padding, options.get("precision"))
    return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)


def _is_tiny_on_cpu(lhs: Array, rhs: Array, strides: Any, padding: Any, options: dict[str, Any]) -> bool:
    plain = options.get("feature_group_count", 1) == 1 and all(
        factor == 1 for name in ("lhs_dilation", "rhs_dilation") for factor in (options.get(name) or (1, 1))
    )
    return (
        plain
        and jax.default_backend() == "cpu"
        and lhs.ndim == 4
        and tuple(strides) == (1, 1)
        and padding == "SAME"
        and lhs.shape[1] * lhs.shape[2] <= _TINY_MAP
        and rhs.shape[0] * rhs.shape[1] > 1
    )


def _as_matmul(lhs: Array, rhs: Array, padding: str, precision: Any) -> Array:
    del padding  # always SAME here
    kh, kw, _, out = rhs.shape
    _, h, w, _ = lhs.shape
    low, high = ((kh - 1) // 2, kh // 2), ((kw - 1) // 2, kw // 2)
    padded = jnp.pad(lhs, ((0, 0), low, high, (0, 0)))
    patches = [padded[:, i : i + h, j : j + w, :] for i in range(kh) for j in range(kw)]
    return jnp.dot(jnp.concatenate(patches, axis=-1), rhs.reshape(-1, out), precision=precision)
