"""Vision transformer (Dosovitskiy et al. 2021), of a size for small images."""

import flax.linen as nn

from llfc_jax.errors import UserError
from llfc_jax.models.layers import ACTIVATIONS, Add, MeanPool, dense, scaled
from llfc_jax.models.network import Network, Stage, sequence
from llfc_jax.models.tokens import ClassToken, FirstToken, Position, Tokens

Steps = list[tuple[str, nn.Module] | Stage]

DIM = 192
MLP_RATIO = 4


def vit(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    patch: int = 4,
    blocks: int = 6,
    heads: int = 3,
    width: float = 1,
    readout: str = "mean",
    epsilon: float = 1e-6,
    activation: str = "gelu",
) -> Network:
    """Patches as tokens of 192 dimensions, pre-LayerNorm blocks of attention and MLP, then a linear layer.

    Initialisation: Xavier uniform for kernels in the blocks, N(0, 0.02^2) for position embeddings, zero for
    biases and the class token, as the paper's code; PyTorch's default for the last layer.

    Args:
        input_shape: of one image.
        num_classes: size of the output.
        patch: side of a patch; divides the sides of the image.
        blocks: how many.
        heads: of the attention; divides the dimension.
        width: multiplies the dimension of the tokens, and the hidden width of the MLPs with it.
        readout: what the last layer reads, the `mean` of all tokens or a class `token`.
        epsilon: of the norms; the paper's code, and torchvision's ViT, have 1e-6.
        activation: the nonlinearity, one of `layers.ACTIVATIONS`.

    Raises:
        UserError: patches don't divide the image, or heads the dimension.
    """
    dim = scaled(DIM, width)
    if patch < 1 or any(side % patch for side in input_shape[:2]):
        size = "x".join(map(str, input_shape[:2]))
        raise UserError(f"model.patch: expected a divisor of both sides of images of {size}; found {patch}")
    if heads < 1 or dim % heads:
        raise UserError(f"model.heads: expected a divisor of the dimension {dim}; found {heads}")
    embedding = nn.Conv(dim, (patch, patch), strides=(patch, patch), padding="VALID")
    steps: Steps = [("patches", embedding), ("tokens", Tokens())]
    steps += [("class_token", ClassToken())] if readout == "token" else []
    steps += [("position", Position())]
    for index in range(1, blocks + 1):
        steps += _block(f"block{index}.", steps[-1][0], dim, heads, epsilon, activation)
    pool = FirstToken() if readout == "token" else MeanPool()
    steps += [("norm", nn.LayerNorm(epsilon=epsilon)), (readout, pool), ("dense", dense(dim, num_classes))]
    return Network(sequence(steps))


def _block(name: str, entry: str, dim: int, heads: int, epsilon: float, activation: str) -> Steps:
    """Attention, then an MLP, each of the normalised stream and added to it."""
    xavier = nn.initializers.xavier_uniform()
    return [
        Stage(f"{name}norm1", nn.LayerNorm(epsilon=epsilon), (entry,)),
        (f"{name}attention", nn.MultiHeadDotProductAttention(heads, kernel_init=xavier)),
        Stage(f"{name}add1", Add(), (entry, f"{name}attention")),
        (f"{name}norm2", nn.LayerNorm(epsilon=epsilon)),
        (f"{name}dense1", nn.Dense(MLP_RATIO * dim, kernel_init=xavier)),
        (f"{name}{activation}", ACTIVATIONS[activation]),
        (f"{name}dense2", nn.Dense(dim, kernel_init=xavier)),
        Stage(f"{name}add2", Add(), (f"{name}add1", f"{name}dense2")),
    ]
