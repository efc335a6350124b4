"""Residual networks for 32x32 images (He et al. 2016, section 4.2), as in the LLFC authors' code."""

from functools import partial

import flax.linen as nn

from llfc_jax.models import layers
from llfc_jax.models.layers import EPSILON, MeanPool, PadShortcut, kaiming_fan_in, scaled, uniform_fan_in
from llfc_jax.models.network import Network, sequence
from llfc_jax.models.residual import Steps, Style, residual_block


def resnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    width: float = 1,
    norm: str = "batch",
    epsilon: float = EPSILON,
    activation: str = "relu",
    padding: str = "torch",
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
        epsilon: of the norm.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
        padding: of windows that move by more than one position, `torch` or `same`; see `layers.pad`.
        shortcut: where a block changes shape, `pad` (option A: subsample and pad with zeros, no parameters;
            the paper's) or `conv` (option B: a 1x1 convolution and the norm).
    """
    del input_shape
    channels = [scaled(size, width) for size in (16, 32, 64)]
    style, conv = Style(norm, epsilon, activation), partial(_conv, padding=padding)
    steps: Steps = [("conv0", conv(channels[0])), *style.norm("norm0"), *style.activation("{}0")]
    entry, entry_channels = steps[-1][0], channels[0]
    for group, features in enumerate(channels, start=1):
        for index in range((depth - 2) // 6):
            stride = 2 if group > 1 and index == 0 else 1
            resize: nn.Module | None = None
            if stride != 1 or entry_channels != features:
                resize = PadShortcut(features, stride) if shortcut == "pad" else conv(features, stride, 1)
            branch = [conv(features, stride), conv(features)]
            steps += residual_block(f"block{group}_{index + 1}.", entry, branch, resize, style)
            entry, entry_channels = steps[-1][0], features
    last = nn.Dense(num_classes, kernel_init=kaiming_fan_in, bias_init=uniform_fan_in(entry_channels))
    steps += [("mean", MeanPool()), ("dense", last)]
    return Network(sequence(steps))


def _conv(features: int, stride: int = 1, kernel: int = 3, *, padding: str) -> nn.Conv:
    return layers.conv(features, kernel, stride, padding, use_bias=False, kernel_init=kaiming_fan_in)
