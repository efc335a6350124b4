"""Residual networks for ImageNet (He et al. 2016, table 1), in the structure of torchvision's weights."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from llfc_jax.models import layers
from llfc_jax.models.layers import EPSILON, MaxPool, MeanPool, dense, kaiming_fan_out, scaled
from llfc_jax.models.network import Network, sequence
from llfc_jax.models.residual import Steps, Style, residual_block

BLOCKS: dict[int, tuple[int, int, int, int]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Depth -> number of blocks in each group."""

BOTTLENECK_DEPTHS = (50,)
BOTTLENECK_EXPANSION = 4


def resnet_imagenet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    width: float = 1,
    norm: str = "batch",
    epsilon: float = EPSILON,
    activation: str = "relu",
    padding: str = "torch",
    stem: str = "imagenet",
) -> Network:
    """Four groups of residual blocks with 64, 128, 256 and 512 channels, then a linear layer.

    Depths 18 and 34 have basic blocks (3x3, 3x3), depth 50 has bottlenecks (1x1, 3x3, 1x1 with four times the
    channels) whose stride is in the 3x3 convolution. A block that changes shape has a 1x1 convolution and the
    norm as its shortcut. Initialisation: Kaiming normal (fan out) for convolutions, PyTorch's default for the
    linear layer.

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        depth: 18, 34 or 50.
        width: multiplies every channel count.
        norm: `none`, `batch` or `layer`, after each convolution.
        epsilon: of the norm.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
        padding: of windows that move by more than one position, `torch` or `same`; see `layers.pad`.
        stem: `imagenet` (7x7 convolution and 3x3 max pooling, both of stride 2) or `cifar` (3x3 convolution
            of stride 1).
    """
    del input_shape
    channels = [scaled(size, width) for size in (64, 128, 256, 512)]
    style, conv = Style(norm, epsilon, activation), partial(_conv, padding=padding)
    steps: Steps = _stem(stem, channels[0], style, padding)
    entry, entry_channels = steps[-1][0], channels[0]
    for group, (features, count) in enumerate(zip(channels, BLOCKS[depth], strict=True), start=1):
        for index in range(count):
            stride = 2 if group > 1 and index == 0 else 1
            branch = _branch(depth, features, stride, conv)
            out = branch[-1].features
            resize = conv(out, 1, stride) if stride != 1 or entry_channels != out else None
            steps += residual_block(f"block{group}_{index + 1}.", entry, branch, resize, style)
            entry, entry_channels = steps[-1][0], out
    steps += [("mean", MeanPool()), ("dense", dense(entry_channels, num_classes))]
    return Network(sequence(steps))


def _stem(stem: str, features: int, style: Style, padding: str) -> Steps:
    kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
    first = _conv(features, kernel, stride, padding=padding)
    steps: Steps = [("conv0", first), *style.norm("norm0"), *style.activation("{}0")]
    if stem == "imagenet":
        steps += [("pool0", MaxPool(3, stride=2, padding=layers.pad(3, 2, padding)))]
    return steps


def _branch(depth: int, features: int, stride: int, conv: Callable[..., nn.Conv]) -> list[nn.Conv]:
    if depth in BOTTLENECK_DEPTHS:
        return [
            conv(features, 1),
            conv(features, 3, stride),
            conv(features * BOTTLENECK_EXPANSION, 1),
        ]
    return [conv(features, 3, stride), conv(features, 3)]


def _conv(features: int, kernel: int, stride: int = 1, *, padding: str) -> nn.Conv:
    return layers.conv(features, kernel, stride, padding, use_bias=False, kernel_init=kaiming_fan_out)
