"""LeNet-5, as in the LLFC authors' code: ReLU and max pooling, 28x28 inputs."""

import flax.linen as nn

from llfc_jax.models.layers import (
    ACTIVATIONS,
    POOLINGS,
    Flatten,
    conv,
    dense,
    scaled,
    torch_kernel,
    uniform_fan_in,
)
from llfc_jax.models.network import Network, sequence


def lenet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: float = 1,
    activation: str = "relu",
    pooling: str = "max",
) -> Network:
    """Two 5x5 convolutions (6, 16 channels) and three linear layers (120, 84, classes).

    Initialisation: PyTorch's default (Kaiming uniform, a = sqrt(5), biases too), as the paper's code.

    Args:
        input_shape: of one image; 28x28 in the paper.
        num_classes: size of the output.
        width: multiplies every channel count and hidden width.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.
        pooling: `max` or `mean`.
    """
    height, wide, channels = input_shape
    c1, c2, d3, d4 = (scaled(size, width) for size in (6, 16, 120, 84))
    positions = ((height // 2 - 4) // 2) * ((wide // 2 - 4) // 2)

    def conv5(fan_in: int, features: int, padding: str) -> nn.Conv:
        bias_init = uniform_fan_in(25 * fan_in)
        return conv(features, kernel=5, padding=padding, kernel_init=torch_kernel, bias_init=bias_init)

    return Network(
        sequence(
            [
                ("conv1", conv5(channels, c1, "same")),
                (f"{activation}1", ACTIVATIONS[activation]),
                ("pool1", POOLINGS[pooling]),
                ("conv2", conv5(c1, c2, "VALID")),
                (f"{activation}2", ACTIVATIONS[activation]),
                ("pool2", POOLINGS[pooling]),
                ("flatten", Flatten()),
                ("dense3", dense(max(positions, 1) * c2, d3)),
                (f"{activation}3", ACTIVATIONS[activation]),
                ("dense4", dense(d3, d4)),
                (f"{activation}4", ACTIVATIONS[activation]),
                ("dense5", dense(d4, num_classes)),
            ]
        )
    )
