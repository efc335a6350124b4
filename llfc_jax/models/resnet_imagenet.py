"""Residual networks for ImageNet (He et al. 2016, table 1), in the structure of torchvision's weights."""

import flax.linen as nn

from llfc_jax.models.layers import MaxPool, MeanPool, ReLU, conv, dense, kaiming_fan_out, norm_stages, scaled
from llfc_jax.models.network import Network, sequence
from llfc_jax.models.residual import Steps, residual_block

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
        stem: `imagenet` (7x7 convolution and 3x3 max pooling, both of stride 2) or `cifar` (3x3 convolution
            of stride 1).
    """
    del input_shape
    channels = [scaled(size, width) for size in (64, 128, 256, 512)]
    steps: Steps = _stem(stem, channels[0], norm)
    entry, entry_channels = steps[-1][0], channels[0]
    for group, (features, count) in enumerate(zip(channels, BLOCKS[depth], strict=True), start=1):
        for index in range(count):
            stride = 2 if group > 1 and index == 0 else 1
            branch = _branch(depth, features, stride)
            out = branch[-1].features
            resize = _conv(out, 1, stride) if stride != 1 or entry_channels != out else None
            steps += residual_block(f"block{group}_{index + 1}.", entry, branch, resize, norm)
            entry, entry_channels = steps[-1][0], out
    steps += [("mean", MeanPool()), ("dense", dense(entry_channels, num_classes))]
    return Network(sequence(steps))


def _stem(stem: str, features: int, norm: str) -> Steps:
    first = _conv(features, 7, 2) if stem == "imagenet" else _conv(features, 3)
    steps: Steps = [("conv0", first), *norm_stages(norm, "norm0"), ("relu0", ReLU())]
    return [*steps, ("pool0", MaxPool(3, stride=2, padding=1))] if stem == "imagenet" else steps


def _branch(depth: int, features: int, stride: int) -> list[nn.Conv]:
    if depth in BOTTLENECK_DEPTHS:
        return [
            _conv(features, 1),
            _conv(features, 3, stride),
            _conv(features * BOTTLENECK_EXPANSION, 1),
        ]
    return [_conv(features, 3, stride), _conv(features, 3)]


def _conv(features: int, kernel: int, stride: int = 1) -> nn.Conv:
    return conv(features, kernel, stride, use_bias=False, kernel_init=kaiming_fan_out)
