"""Residual networks whose norms come before the convolutions: of He et al. (2016b), and wide ones."""

from functools import partial

import flax.linen as nn

from llfc_jax.models import layers
from llfc_jax.models.layers import EPSILON, Add, MeanPool, dense, kaiming_fan_out, scaled
from llfc_jax.models.network import Network, Stage, sequence
from llfc_jax.models.residual import Steps, Style

CHANNELS = (16, 32, 64)


def preresnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    width: float = 1,
    norm: str = "batch",
    epsilon: float = EPSILON,
    activation: str = "relu",
    padding: str = "torch",
) -> Network:
    """Three groups of (depth - 2) / 6 pre-activation blocks with 16, 32 and 64 channels (He et al. 2016b).

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        depth: 6 n + 2.
        width: multiplies every channel count.
        norm: `none`, `batch`, `layer` or `rms`, before each nonlinearity.
        epsilon: of the norm.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
        padding: of windows that move by more than one position, `torch` or `same`; see `layers.pad`.
    """
    del input_shape
    first = scaled(CHANNELS[0], width)
    style = Style(norm, epsilon, activation)
    return _network(num_classes, (depth - 2) // 6, first, width, style, padding)


def wide_resnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    width: float = 1,
    norm: str = "batch",
    epsilon: float = EPSILON,
    activation: str = "relu",
    padding: str = "torch",
) -> Network:
    """Wide residual networks, WRN-depth-width (Zagoruyko & Komodakis 2016), without dropout.

    Three groups of (depth - 4) / 6 pre-activation blocks with 16, 32 and 64 channels times the width, after a
    convolution of 16.

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        depth: 6 n + 4.
        width: the widening factor, of all channel counts but the first convolution's.
        norm: `none`, `batch`, `layer` or `rms`, before each nonlinearity.
        epsilon: of the norm.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
        padding: of windows that move by more than one position, `torch` or `same`; see `layers.pad`.
    """
    del input_shape
    style = Style(norm, epsilon, activation)
    return _network(num_classes, (depth - 4) // 6, CHANNELS[0], width, style, padding)


def _network(num_classes: int, blocks: int, first: int, width: float, style: Style, padding: str) -> Network:
    """Initialisation: Kaiming normal (fan out) for convolutions, PyTorch's default for the linear layer."""
    conv = partial(layers.conv, padding=padding, use_bias=False, kernel_init=kaiming_fan_out)
    steps: Steps = [("conv0", conv(first))]
    channels = first
    for group, size in enumerate(CHANNELS, start=1):
        features = scaled(size, width)
        for index in range(blocks):
            stride = 2 if group > 1 and index == 0 else 1
            branch = (conv(features, stride=stride), conv(features))
            resizes = stride != 1 or channels != features
            shortcut = conv(features, kernel=1, stride=stride) if resizes else None
            steps += _block(f"block{group}_{index + 1}.", steps[-1][0], branch, shortcut, style)
            channels = features
    steps += [*style.norm("norm"), *style.activation("{}")]
    return Network(sequence([*steps, ("mean", MeanPool()), ("dense", dense(channels, num_classes))]))


def _block(
    name: str, entry: str, convolutions: tuple[nn.Conv, nn.Conv], shortcut: nn.Conv | None, style: Style
) -> Steps:
    """branch(a) + x with a = relu(norm(x)); branch(a) + shortcut(a) where the shape changes.

    Args:
        name: prefix of the names of all stages.
        entry: the stage before, whose output is x.
        convolutions: of the branch, with the norm and the nonlinearity between them.
        shortcut: what brings a to the shape of the branch; None where x has it.
        style: the norm and the nonlinearity, which stands where ReLU does above.
    """
    first, second = convolutions
    before = [*style.norm(f"{name}norm1"), *style.activation(f"{name}{{}}1")]
    branch = [
        (f"{name}conv1", first),
        *style.norm(f"{name}norm2"),
        *style.activation(f"{name}{{}}2"),
        (f"{name}conv2", second),
    ]
    if shortcut is None:
        return [*before, *branch, Stage(f"{name}add", Add(), (f"{name}conv2", entry))]
    resized = Stage(f"{name}shortcut", shortcut, (before[-1][0],))
    return [*before, *branch, resized, Stage(f"{name}add", Add(), (f"{name}conv2", resized.name))]
