"""Residual networks for 32x32 images (He et al. 2016, section 4.2), as in the LLFC authors' code."""

import flax.linen as nn

from llfc_jax.models.layers import (
    Add,
    MeanPool,
    PadShortcut,
    ReLU,
    conv,
    kaiming_fan_in,
    norm_stages,
    uniform_fan_in,
)
from llfc_jax.models.network import Network, Stage, sequence

Steps = list[tuple[str, nn.Module] | Stage]


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

    Initialisation: Kaiming normal (fan in) for all kernels, PyTorch's default for the last bias, as the
    paper's code.

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
    channels = [round(size * width) for size in (16, 32, 64)]
    steps: Steps = [*_conv_norm("", 0, channels[0], norm, stride=1), ("relu0", ReLU())]
    entry, entry_channels = "relu0", channels[0]
    for group, features in enumerate(channels, start=1):
        for index in range((depth - 2) // 6):
            block = f"block{group}_{index + 1}."
            stride = 2 if group > 1 and index == 0 else 1
            steps += _block(block, entry, entry_channels, features, stride, norm, shortcut)
            entry, entry_channels = f"{block}relu2", features
    last = nn.Dense(num_classes, kernel_init=kaiming_fan_in, bias_init=uniform_fan_in(entry_channels))
    steps += [("mean", MeanPool()), ("dense", last)]
    return Network(sequence(steps))


def _block(
    block: str, entry: str, entry_features: int, features: int, stride: int, norm: str, shortcut: str
) -> Steps:
    """conv-norm-relu-conv-norm, added to the (reshaped) input of the block, then ReLU."""
    steps: Steps = [
        *_conv_norm(block, 1, features, norm, stride=stride, entry=entry),
        (f"{block}relu1", ReLU()),
        *_conv_norm(block, 2, features, norm, stride=1),
    ]
    branch = _name(steps[-1])
    if stride != 1 or entry_features != features:
        if shortcut == "pad":
            steps += [Stage(f"{block}shortcut", PadShortcut(features, stride), (entry,))]
        else:
            kernel = conv(features, kernel=1, stride=stride, use_bias=False, kernel_init=kaiming_fan_in)
            steps += [Stage(f"{block}shortcut", kernel, (entry,))]
            steps += norm_stages(norm, f"{block}shortcut_norm")
        entry = _name(steps[-1])
    return [*steps, Stage(f"{block}add", Add(), (branch, entry)), (f"{block}relu2", ReLU())]


def _conv_norm(
    block: str, index: int, features: int, norm: str, *, stride: int, entry: str | None = None
) -> Steps:
    layer = conv(features, stride=stride, use_bias=False, kernel_init=kaiming_fan_in)
    name = f"{block}conv{index}"
    first = (name, layer) if entry is None else Stage(name, layer, (entry,))
    return [first, *norm_stages(norm, f"{block}norm{index}")]


def _name(step: tuple[str, nn.Module] | Stage) -> str:
    return step[0]
