"""VGG, for 32x32 images as in the LLFC authors' code, or for ImageNet as in torchvision."""

import flax.linen as nn

from llfc_jax.models.layers import (
    ACTIVATIONS,
    EPSILON,
    POOLINGS,
    AdaptiveMeanPool,
    Flatten,
    MeanPool,
    conv,
    kaiming_fan_out,
    norm_stages,
    scaled,
)
from llfc_jax.models.network import Network, sequence

CONVOLUTIONS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Depth -> number of 3x3 convolutions before each pooling (Simonyan & Zisserman 2015, Table 1)."""

CHANNELS = (64, 128, 256, 512, 512)


def vgg(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int,
    width: float = 1,
    norm: str = "none",
    epsilon: float = EPSILON,
    activation: str = "relu",
    pooling: str = "max",
    pool: int = 1,
    head: tuple[int, ...] = (4096, 4096),
    dropout: float = 0.5,
) -> Network:
    """Five groups of 3x3 convolutions, each ended by max pooling, then a fully connected head.

    Initialisation: Kaiming normal (fan out) for convolutions, N(0, 0.01^2) for linear layers, zero biases, as
    the paper's code.

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        depth: 11, 13, 16 or 19.
        width: multiplies every channel count and head width.
        norm: `none`, `batch` or `layer`, after each convolution.
        epsilon: of the norm.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
        pooling: `max` or `mean`, after each group.
        pool: side of the map of means that the head reads: 1, or 7 for torchvision's weights.
        head: widths of the hidden linear layers; empty for none.
        dropout: rate after each hidden linear layer.
    """
    del input_shape
    steps: list[tuple[str, nn.Module]] = []
    for group, (count, channels) in enumerate(zip(CONVOLUTIONS[depth], CHANNELS, strict=True), start=1):
        for index in range(1, count + 1):
            name = f"{group}_{index}"
            steps += [
                (f"conv{name}", conv(scaled(channels, width), kernel_init=kaiming_fan_out)),
                *norm_stages(norm, f"norm{name}", epsilon),
                (f"{activation}{name}", ACTIVATIONS[activation]),
            ]
        steps += [(f"pool{group}", POOLINGS[pooling])]
    if pool == 1:
        steps += [("mean", MeanPool())]
    else:
        steps += [("mean", AdaptiveMeanPool(pool)), ("flatten", Flatten())]
    for index, size in enumerate(head, start=6):
        steps += [
            (f"dense{index}", _dense(scaled(size, width))),
            (f"{activation}{index}", ACTIVATIONS[activation]),
        ]
        if dropout:
            steps += [(f"dropout{index}", nn.Dropout(dropout))]
    steps += [(f"dense{6 + len(head)}", _dense(num_classes))]
    return Network(sequence(steps))


def _dense(features: int) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.normal(0.01))
