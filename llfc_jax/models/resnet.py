"""Residual networks for 32x32 images (He et al. 2016, section 4.2), as in the LLFC authors' code."""

import flax.linen as nn

from llfc_jax.models.layers import (
    MeanPool,
    PadShortcut,
    ReLU,
    conv,
    kaiming_fan_in,
    norm_stages,
    scaled,
    uniform_fan_in,
)
from llfc_jax.models.network import Network, sequence
from llfc_jax.models.residual import Steps, residual_block


def resnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    width: float = 1,
    norm: str = "batch",
    shortcut: str = "pad",
) -> Network:
    """Three groups of (depth - 2) / 6 basic blocks with 16, 32 and 64 channels, then a linear layer.

    Initialisation: Kaiming normal (fan in; truncated, as Flax draws it) for all kernels, PyTorch's default
    for the last bias, as the paper's code.

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        depth: 6 n + 2.
        width: multiplies every channel count.
        norm: `none`, `batch` or `layer`, after each convolution.
        shortcut: where a block changes shape, `pad` (option A: subsample and pad with zeros, no parameters;
            the paper's) or `conv` (option B: a 1x1 convolution and the norm).
    """
    del input_shape
    channels = [scaled(size, width) for size in (16, 32, 64)]
    steps: Steps = [("conv0", _conv(channels[0])), *norm_stages(norm, "norm0"), ("relu0", ReLU())]
    entry, entry_channels = "relu0", channels[0]
    for group, features in enumerate(channels, start=1):
        for index in range((depth - 2) // 6):
            stride = 2 if group > 1 and index == 0 else 1
            resize: nn.Module | None = None
            if stride != 1 or entry_channels != features:
                resize = PadShortcut(features, stride) if shortcut == "pad" else _conv(features, stride, 1)
            branch = [_conv(features, stride), _conv(features)]
            steps += residual_block(f"block{group}_{index + 1}.", entry, branch, resize, norm)
            entry, entry_channels = steps[-1][0], features
    last = nn.Dense(num_classes, kernel_init=kaiming_fan_in, bias_init=uniform_fan_in(entry_channels))
    steps += [("mean", MeanPool()), ("dense", last)]
    return Network(sequence(steps))


def _conv(features: int, stride: int = 1, kernel: int = 3) -> nn.Conv:
    return conv(features, kernel, stride, use_bias=False, kernel_init=kaiming_fan_in)
