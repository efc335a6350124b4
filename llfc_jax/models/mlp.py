"""Multilayer perceptron, as in the LLFC authors' code: 784-512-512-512-10 on MNIST."""

import math
from itertools import pairwise

import flax.linen as nn

from llfc_jax.models.layers import ACTIVATIONS, EPSILON, Flatten, dense, norm_stages, scaled
from llfc_jax.models.network import Network, sequence


def mlp(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    hidden: tuple[int, ...] = (512, 512, 512),
    width: float = 1,
    norm: str = "none",
    epsilon: float = EPSILON,
    activation: str = "relu",
) -> Network:
    """Layers of the given widths, then a linear one.

    Initialisation: PyTorch's default (Kaiming uniform, a = sqrt(5), biases too), as the paper's code.

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        hidden: widths of the hidden layers.
        width: multiplies every hidden width.
        norm: `none`, `batch` or `layer`, before each nonlinearity.
        epsilon: of the norm.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
    """
    widths = [math.prod(input_shape), *(scaled(size, width) for size in hidden), num_classes]
    steps: list[tuple[str, nn.Module]] = [("flatten", Flatten())]
    for index, (fan_in, features) in enumerate(pairwise(widths), start=1):
        steps += [(f"dense{index}", dense(fan_in, features))]
        if index < len(widths) - 1:
            steps += norm_stages(norm, f"norm{index}", epsilon)
            steps += [(f"{activation}{index}", ACTIVATIONS[activation])]
    return Network(sequence(steps))
