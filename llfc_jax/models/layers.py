"""The vocabulary of layers that networks are built from.

Layers with parameters are Linen's own (`nn.Dense`, `nn.Conv`, `nn.BatchNorm`, `nn.LayerNorm`); those without
are the few modules below, so that every step of a network is a named stage whose output can be measured.
"""

import math
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.models.convolution import conv_general_dilated
from llfc_jax.types import Array

Padding: TypeAlias = str | tuple[tuple[int, int], tuple[int, int]]
"""`VALID`, `SAME`, or what is put before and after each side of a map."""


def scaled(size: int, width: float) -> int:
    """`size` units, times `width`.

    Raises:
        UserError: none are left, or more than XLA can count.
    """
    if not 1 <= (units := round(size * width)) < 2**31:
        raise UserError(
            f"model.width: expected to make 1 to 2^31 - 1 units of {size}; found {width}, which makes {units}"
        )
    return units


@cache
def uniform_fan_in(fan_in: int) -> Callable[..., Array]:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for biases."""
    bound = fan_in**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def variance_scaling(
    scale: float,
    fan: Literal["fan_in", "fan_out"],
    distribution: Literal["normal", "truncated_normal", "uniform"],
) -> Callable[..., Array]:
    """Flax's initializer of that name, drawn as a matrix of the same fan.

    The numbers are the same, but XLA takes a second and a half to compile each draw along four axes.
    """
    draw = nn.initializers.variance_scaling(scale, fan, distribution)

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        *positions, fan_in, fan_out = shape
        area = math.prod(positions)
        matrix = (area * fan_in, fan_out) if fan == "fan_in" else (fan_in, area * fan_out)
        return draw(key, matrix, dtype).reshape(shape)

    return init


torch_kernel = variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for weights: Kaiming uniform with a = sqrt(5), the same range as for biases."""

kaiming_fan_in = variance_scaling(2.0, "fan_in", "truncated_normal")
kaiming_fan_out = variance_scaling(2.0, "fan_out", "normal")


class ReLU(nn.Module):
    """max(x, 0)."""

    def __call__(self, x: Array) -> Array:
        return nn.relu(x)


class GELU(nn.Module):
    """x Phi(x), with Phi the normal distribution function: exact, as PyTorch's default, or as Flax's."""

    approximate: bool = False

    def __call__(self, x: Array) -> Array:
        return nn.gelu(x, approximate=self.approximate)


class Elementwise(nn.Module):
    """Any other function of one unit, by its name in `flax.linen`."""

    function: str

    def __call__(self, x: Array) -> Array:
        return getattr(nn, self.function)(x)


ACTIVATIONS: dict[str, nn.Module] = {
    "relu": ReLU(),
    "gelu": GELU(),
    "gelu_tanh": GELU(approximate=True),
    **{name: Elementwise(name) for name in ("tanh", "silu", "elu", "leaky_relu")},
}
"""Nonlinearities by name; `gelu` is exact, `gelu_tanh` its approximation, which Flax and Haiku call gelu."""


class MaxPool(nn.Module):
    """Max pooling over square windows, by default ones that don't overlap.

    Those are an elementwise maximum, whose gradient XLA:CPU finds in a tenth of the time of a window's.
    """

    window: int = 2
    stride: int | None = None
    padding: Padding = "VALID"

    def __call__(self, x: Array) -> Array:
        size, stride = self.window, self.stride or self.window
        if stride != size or self.padding != "VALID":
            return nn.max_pool(x, (size, size), (stride, stride), self.padding)
        return reduce(jnp.maximum, _corners(x, size))


def _corners(x: Array, size: int) -> list[Array]:
    """The positions of windows that don't overlap, one after another."""
    rows, columns = (side // size * size for side in x.shape[1:3])
    return [x[:, i:rows:size, j:columns:size] for i in range(size) for j in range(size)]


class AveragePool(nn.Module):
    """Means over 2x2 windows that don't overlap."""

    def __call__(self, x: Array) -> Array:
        return reduce(jnp.add, _corners(x, 2)) / 4


POOLINGS: dict[str, nn.Module] = {"max": MaxPool(), "mean": AveragePool()}
"""What halves the sides of a map, by name."""


class MeanPool(nn.Module):
    """Mean over all positions: (n, ..., c) -> (n, c)."""

    def __call__(self, x: Array) -> Array:
        return x.mean(axis=range(1, x.ndim - 1))


class AdaptiveMeanPool(nn.Module):
    """Means over size x size windows that cover the map: (n, h, w, c) -> (n, size, size, c).

    Window i of a side of length m runs from floor(i m / size) to ceil((i + 1) m / size), as in PyTorch: it is
    the identity where m = size, and repeats positions where m < size.
    """

    size: int

    def __call__(self, x: Array) -> Array:
        rows, columns = (self._windows(side) for side in x.shape[1:3])
        return jnp.einsum("ih,jw,nhwc->nijc", rows, columns, x, precision=jax.lax.Precision.HIGHEST)

    def _windows(self, side: int) -> Array:
        """(size, side): the weights of each mean."""
        index, position = np.arange(self.size)[:, None], np.arange(side)[None, :]
        inside = (position * self.size > index * side - self.size) & (
            position * self.size < (index + 1) * side
        )
        return jnp.asarray(inside / inside.sum(1, keepdims=True), jnp.float32)


class Flatten(nn.Module):
    """(n, ...) -> (n, product)."""

    def __call__(self, x: Array) -> Array:
        return x.reshape(x.shape[0], -1)


class Add(nn.Module):
    """The end of a residual branch."""

    def __call__(self, x: Array, y: Array) -> Array:
        return x + y


class Multiply(nn.Module):
    """The end of a gated branch."""

    def __call__(self, x: Array, y: Array) -> Array:
        return x * y


class PadShortcut(nn.Module):
    """Option A of He et al. (2016): subsample positions, pad channels with zeros on both sides."""

    features: int
    stride: int

    def __call__(self, x: Array) -> Array:
        missing = self.features - x.shape[-1]
        x = x[:, :: self.stride, :: self.stride, :]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


def dense(fan_in: int, features: int) -> nn.Dense:
    """A linear layer with PyTorch's default initialisation, bias included."""
    return nn.Dense(features, kernel_init=torch_kernel, bias_init=uniform_fan_in(fan_in))


def pad(kernel: int, stride: int, padding: str) -> Padding:
    """What is put around a map before a window of side `kernel` moves over it.

    Args:
        kernel: side of the window.
        stride: of its moves.
        padding: `torch`: kernel // 2 on all four sides, as PyTorch's code has it; `same`: TensorFlow's and
            Flax's SAME, which puts less on the first sides than on the last where the total is odd. They
            differ at strides above 1 alone.
    """
    return "SAME" if stride == 1 or padding == "same" else ((kernel // 2,) * 2,) * 2


def conv(features: int, kernel: int = 3, stride: int = 1, padding: str = "torch", **kwargs: Any) -> nn.Conv:
    """A square convolution, padded as `pad` says, or `VALID`."""
    around = "VALID" if padding == "VALID" else pad(kernel, stride, padding)
    kwargs = {"padding": around, "conv_general_dilated": conv_general_dilated} | kwargs
    return nn.Conv(features, (kernel, kernel), strides=(stride, stride), **kwargs)


EPSILON = 1e-5
"""Added to variances: PyTorch's default for every norm, Flax's for BatchNorm (its LayerNorm has 1e-6)."""

NORMS: dict[str, Callable[..., nn.Module]] = {
    "batch": partial(nn.BatchNorm, momentum=0.9),
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,
}
"""Normalisations by name; `layer` and `rms` normalise the channels of each position, as Git Re-Basin does."""


def norm_stages(norm: str, name: str, epsilon: float = EPSILON) -> list[tuple[str, nn.Module]]:
    """The normalisation called `norm` as a list of one stage, or of none."""
    return [] if norm == "none" else [(name, NORMS[norm](epsilon=epsilon))]
