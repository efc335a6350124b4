"""How PyTorch lays out the arrays of a layer, and how Linen does.

Every difference is a reshape, a transpose and a reshape, so both directions are exact.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import numpy as np

Shape = tuple[int, ...]

COUNTER = "num_batches_tracked"
"""The one entry of a state dict that evaluation has no use for: how many batches BatchNorm has seen."""


class Layout(NamedTuple):
    """One array on the other side, against ours."""

    shape: Shape
    """There."""
    split: Shape
    """The same with axes split where they are to be reordered."""
    axes: Shape
    """The order of these axes on our side, where they are merged again."""


def same(shape: Shape, flattened: Shape | None = None) -> Layout:
    """An array that is the same on both sides."""
    del flattened
    return Layout(shape, shape, tuple(range(len(shape))))


def linear(shape: Shape, flattened: Shape | None = None) -> Layout:
    """`nn.Linear.weight`, (out, in), of our kernel (in, out).

    Args:
        shape: ours.
        flattened: (height, width, channels) of the feature map that the inputs were flattened from, if they
            were: PyTorch flattens it as (channels, height, width).

    Example:
        >>> linear((18, 10), flattened=(3, 3, 2))
        Layout(shape=(10, 18), split=(10, 2, 3, 3), axes=(2, 3, 1, 0))
    """
    inputs, outputs = shape
    if flattened is None:
        return Layout((outputs, inputs), (outputs, inputs), (1, 0))
    height, width, channels = flattened
    return Layout((outputs, inputs), (outputs, channels, height, width), (2, 3, 1, 0))


def convolution(shape: Shape, flattened: Shape | None = None) -> Layout:
    """`nn.Conv2d.weight`, (out, in, height, width), of our kernel (height, width, in, out)."""
    del flattened
    height, width, inputs, outputs = shape
    there = (outputs, inputs, height, width)
    return Layout(there, there, (2, 3, 1, 0))


LAYERS: dict[type[nn.Module], dict[str, tuple[str, Callable[[Shape, Shape | None], Layout]]]] = {
    nn.Dense: {"kernel": ("weight", linear), "bias": ("bias", same)},
    nn.Conv: {"kernel": ("weight", convolution), "bias": ("bias", same)},
    nn.BatchNorm: {
        "scale": ("weight", same),
        "bias": ("bias", same),
        "mean": ("running_mean", same),
        "var": ("running_var", same),
    },
    nn.LayerNorm: {"scale": ("weight", same), "bias": ("bias", same)},
}
"""Linen's layer -> its array -> what PyTorch calls it, and how it lays it out."""


def with_shape(layout: Layout, shape: Shape) -> Layout | None:
    """The layout of an array that may have axes of length 1 more than expected, as biases have in Equinox.

    Example:
        >>> with_shape(same((3,)), (3, 1, 1))
        Layout(shape=(3, 1, 1), split=(3, 1, 1), axes=(0, 1, 2))
        >>> with_shape(same((3,)), (4,))
    """
    if shape == layout.shape:
        return layout
    vectors = len(layout.shape) == 1 and tuple(size for size in shape if size != 1) == layout.shape
    return same(shape) if vectors else None


def to_ours(array: np.ndarray, layout: Layout, shape: Shape) -> np.ndarray:
    """The other side's array in our layout, of our `shape`."""
    return array.reshape(layout.split).transpose(layout.axes).reshape(shape)


def to_theirs(array: np.ndarray, layout: Layout) -> np.ndarray:
    """The inverse of `to_ours`.

    Example:
        >>> layout = linear((4, 3), flattened=(1, 2, 2))
        >>> kernel = np.arange(12).reshape(4, 3)
        >>> bool((to_ours(to_theirs(kernel, layout), layout, (4, 3)) == kernel).all())
        True
    """
    split = [layout.split[axis] for axis in layout.axes]
    return array.reshape(split).transpose(np.argsort(layout.axes)).reshape(layout.shape)
