"""Language models: GPT-2 (Radford et al. 2019), Llama (Touvron et al. 2023), and what lies between them."""

import flax.linen as nn

from llfc_jax.errors import UserError
from llfc_jax.models.attention import CausalAttention
from llfc_jax.models.layers import ACTIVATIONS, EPSILON, NORMS, Add, Multiply, scaled
from llfc_jax.models.network import Network, Stage, sequence
from llfc_jax.models.residual import Steps
from llfc_jax.models.tokens import Embedding, Position, TiedHead

DIM = 256
MLP_RATIO = 4

CHOICES = {
    "norm": ("layer", "rms"),
    "activation": (*ACTIVATIONS, "swiglu"),
    "positions": ("learned", "rotary"),
}
"""Options that take one of a few values, which aren't all those of other models."""


def gpt(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    blocks: int = 6,
    heads: int = 4,
    kv_heads: int | None = None,
    width: float = 1,
    positions: str = "learned",
    norm: str = "layer",
    epsilon: float = EPSILON,
    activation: str = "gelu",
    tied: bool = True,
) -> Network:
    """Tokens as vectors of 256 dimensions, pre-norm blocks of causal attention and MLP, then a linear layer.

    The logits at a token are of the token that follows. Linear layers have biases where the norm is `layer`,
    as in GPT-2, and none where it is `rms`, as in Llama; the last has none. Initialisation: GPT-2's, N(0,
    0.02^2), over the root of twice the blocks for what is added to the stream; zero biases.

    Args:
        input_shape: (block,), how many tokens are seen at a time.
        num_classes: kinds of tokens.
        blocks: how many.
        heads: of the queries; divides the dimension.
        kv_heads: of keys and values; divides `heads`, which it is by default.
        width: multiplies the dimension of the tokens, and the hidden width of the MLPs with it.
        positions: `learned`, a vector at each place that is added to the tokens, or `rotary`.
        norm: `layer` or `rms`.
        epsilon: of the norms.
        activation: one of `layers.ACTIVATIONS`, in MLPs of 4 times the dimension; or `swiglu` (Shazeer 2020):
            silu(gate) * up, of 8/3 times the dimension, which has as many parameters.
        tied: whether the last layer's kernel is the embedding.

    Raises:
        UserError: heads don't divide the dimension, or not into pairs of units for `rotary`; or those of the
            keys don't divide them.
    """
    del input_shape
    dim, kv_heads = scaled(DIM, width), heads if kv_heads is None else kv_heads
    _check_heads(dim, heads, kv_heads, positions)
    attention = CausalAttention(heads, kv_heads, positions == "rotary", norm == "layer", _deviation(blocks))
    steps: Steps = [("embedding", Embedding(num_classes, dim))]
    steps += [("position", Position())] if positions == "learned" else []
    for index in range(1, blocks + 1):
        name, entry = f"block{index}.", steps[-1][0]
        steps += [
            Stage(f"{name}norm1", NORMS[norm](epsilon=epsilon), (entry,)),
            (f"{name}attention", attention),
            Stage(f"{name}add1", Add(), (entry, f"{name}attention")),
            (f"{name}norm2", NORMS[norm](epsilon=epsilon)),
            *_mlp(name, dim, activation, norm == "layer", _deviation(blocks)),
        ]
        steps += [Stage(f"{name}add2", Add(), (f"{name}add1", steps[-1][0]))]
    steps += [("norm", NORMS[norm](epsilon=epsilon))]
    steps += [
        Stage("head", TiedHead(num_classes), ("norm",), owner="embedding")
        if tied
        else ("head", _dense(num_classes, bias=False))
    ]
    return Network(sequence(steps))


def _mlp(name: str, dim: int, activation: str, bias: bool, out_deviation: float) -> Steps:
    hidden, out = MLP_RATIO * dim, (f"{name}dense2", _dense(dim, bias, out_deviation))
    if activation != "swiglu":
        inner = (f"{name}{activation}", ACTIVATIONS[activation])
        return [(f"{name}dense1", _dense(hidden, bias)), inner, out]
    gate, up, silu = f"{name}gate", f"{name}up", f"{name}silu"
    hidden = 2 * hidden // 3
    return [
        (gate, _dense(hidden, bias)),
        (silu, ACTIVATIONS["silu"]),
        Stage(up, _dense(hidden, bias), (f"{name}norm2",)),
        Stage(f"{name}product", Multiply(), (silu, up)),
        out,
    ]


def _dense(features: int, bias: bool, deviation: float = 0.02) -> nn.Dense:
    return nn.Dense(features, use_bias=bias, kernel_init=nn.initializers.normal(deviation))


def _deviation(blocks: int) -> float:
    """Of kernels whose outputs are summed, two a block."""
    return 0.02 / (2 * blocks) ** 0.5


def _check_heads(dim: int, heads: int, kv_heads: int, positions: str) -> None:
    if heads < 1 or dim % heads:
        raise UserError(f"model.heads: expected a divisor of the dimension {dim}; found {heads}")
    if kv_heads < 1 or heads % kv_heads:
        raise UserError(f"model.kv_heads: expected a divisor of the {heads} heads; found {kv_heads}")
    if positions == "rotary" and dim // heads % 2:
        raise UserError(
            f"model.heads: expected heads of an even size for model.positions=rotary; found {dim // heads}"
        )
