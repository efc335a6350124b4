"""Networks of many kinds, each with inputs, randomised variables and the permutations it is known to have."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Case(NamedTuple):
    """A network; `sizes` maps the size of a permutation to how many of that size it has."""

    apply: Callable[..., Any]
    variables: Any
    inputs: tuple[Any, ...]
    sizes: Mapping[int, int]


def randomise(variables, seed=0):
    """Fills arrays with values that break accidental symmetries: no zero bias, no unit scale or variance."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        if "var" in name:
            values = rng.uniform(0.5, 2.0, leaf.shape)
        elif "scale" in name:
            values = rng.uniform(0.5, 1.5, leaf.shape)
        elif leaf.ndim > 1:
            values = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            values = 0.5 * rng.normal(size=leaf.shape)
        return jax.device_put(np.float32(values))

    return jax.tree_util.tree_map_with_path(fill, variables)


def images(*shape, seed=1):
    return jax.device_put(np.float32(np.random.default_rng(seed).normal(size=shape)))


def linen(module, x, sizes):
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    return Case(module.apply, randomise(variables), (x,), sizes)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for width in (16, 12):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(5)(x)


class LeNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (6, 16):
            x = nn.max_pool(nn.relu(nn.Conv(width, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for width in (24, 20):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


def normalise(norm, x):
    match norm:
        case "batch":
            return nn.BatchNorm(use_running_average=True)(x)
        case "layer":
            return nn.LayerNorm()(x)
    return x


class VGG(nn.Module):
    norm: str = "none"

    @nn.compact
    def __call__(self, x):
        for width in (8, "pool", 12, 16, "pool"):
            if width == "pool":
                x = nn.avg_pool(x, (2, 2), (2, 2))
            else:
                x = nn.relu(normalise(self.norm, nn.Conv(width, (3, 3))(x)))
        x = nn.relu(nn.Dense(24)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


class BasicBlock(nn.Module):
    width: int
    stride: int
    shortcut: str
    norm: str

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(self.width, (3, 3), self.stride, use_bias=False)(x)
        y = nn.relu(normalise(self.norm, y))
        y = normalise(self.norm, nn.Conv(self.width, (3, 3), use_bias=False)(y))
        grows = self.width - x.shape[-1]
        if grows and self.shortcut == "pad":
            x = jnp.pad(x[:, ::2, ::2, :], [(0, 0)] * 3 + [(grows // 2, grows - grows // 2)])
        elif grows:
            x = normalise(self.norm, nn.Conv(self.width, (1, 1), self.stride, use_bias=False)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    shortcut: str
    norm: str = "batch"
    blocks: int = 1

    @nn.compact
    def __call__(self, x):
        x = nn.relu(normalise(self.norm, nn.Conv(8, (3, 3), use_bias=False)(x)))
        for width in (8, 16, 32):
            for block in range(self.blocks):
                stride = 2 if width > 8 and block == 0 else 1
                x = BasicBlock(width, stride, self.shortcut, self.norm)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class Bottleneck(nn.Module):
    width: int
    stride: int

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=True)
        y = nn.relu(norm()(conv(self.width, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.width, (3, 3), self.stride)(y)))
        y = norm()(conv(4 * self.width, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.width, (1, 1), self.stride)(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (7, 7), 2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                x = Bottleneck(self.width * 2**stage, 2 if stage and block == 0 else 1)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class ViT(nn.Module):
    dim: int = 15
    heads: int = 3
    depth: int = 2

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.dim, (4, 4), (4, 4), padding="VALID")(x)
        x = x.reshape(x.shape[0], -1, self.dim)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, self.dim))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, self.dim)), x], axis=1)
        x = x + self.param("position", nn.initializers.normal(), (1, x.shape[1], self.dim))
        for _ in range(self.depth):
            x = x + nn.MultiHeadDotProductAttention(self.heads)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.dim)(nn.gelu(nn.Dense(20)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x)[:, 0])


class Mixer(nn.Module):
    dim: int = 16

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.dim, (4, 4), (4, 4))(x)
        x = x.reshape(x.shape[0], -1, self.dim)
        for _ in range(2):
            y = nn.LayerNorm()(x).swapaxes(1, 2)
            x = x + nn.Dense(x.shape[1])(nn.gelu(nn.Dense(12)(y))).swapaxes(1, 2)
            x = x + nn.Dense(self.dim)(nn.gelu(nn.Dense(20)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


class DepthwiseSeparable(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        for width, multiplier in ((12, 1), (16, 3)):
            channels = x.shape[-1]
            x = nn.relu(nn.Conv(multiplier * channels, (3, 3), feature_group_count=channels)(x))
            x = nn.relu(nn.Conv(width, (1, 1))(x))
        return nn.Dense(10)(x.mean((1, 2)))


class GroupNormCNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width, groups in ((8, 4), (15, 3)):
            x = nn.relu(nn.GroupNorm(groups)(nn.Conv(width, (3, 3))(x)))
        return nn.Dense(10)(x.mean((1, 2)))


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(nn.OptimizedLSTMCell(12))(x)[:, -1])


def plain_function():
    """Two inputs, a bilinear join, a Gram matrix: nothing of Flax."""
    weights = {
        "left": np.zeros((6, 16)),
        "right": np.zeros((5, 16)),
        "bias": np.zeros(16),
        "out": [np.zeros((16, 9)), np.zeros((9, 3))],
    }

    def apply(w, inputs):
        joined = jax.nn.sigmoid(inputs["a"] @ w["left"] + w["bias"]) * (inputs["b"] @ w["right"])
        hidden = jnp.tanh(joined @ w["out"][0])
        gram = jnp.einsum("bi,bj->ij", hidden, hidden)
        return {"y": jnp.einsum("bi,ij,jk->bk", hidden, gram, w["out"][1]), "norm": (joined**2).sum(-1)}

    inputs = {"a": images(4, 6), "b": images(4, 5, seed=2)}
    return Case(apply, randomise(weights), (inputs,), {16: 1, 9: 1})


def fused_attention():
    """Queries, keys and values from one kernel, split by slices; a gated MLP, split in halves."""
    dim, heads, inner, hidden = 10, 2, 5, 7
    weights = {
        "embed": np.zeros((6, dim)),
        "qkv": np.zeros((dim, 3 * heads * inner)),
        "proj": np.zeros((heads * inner, dim)),
        "gated": np.zeros((dim, 2 * hidden)),
        "out": np.zeros((hidden, 3)),
    }

    def apply(w, x):
        x = x @ w["embed"]
        q, k, v = jnp.moveaxis((x @ w["qkv"]).reshape(*x.shape[:2], 3, heads, inner), 2, 0)
        weight = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / inner**0.5)
        x = x + jnp.einsum("bhqk,bkhd->bqhd", weight, v).reshape(x.shape) @ w["proj"]
        value, gate = jnp.split(x @ w["gated"], 2, axis=-1)
        return (value * jax.nn.silu(gate)) @ w["out"]

    return Case(apply, randomise(weights), (images(2, 4, 6),), {dim: 1, heads: 1, inner: 2, hidden: 1})


def language_model():
    """Embedding lookup with the table tied to the output, and a sinusoidal position code: a constant."""
    tokens, dim, hidden = 11, 8, 12
    weights = {
        "table": np.zeros((tokens, dim)),
        "up": np.zeros((dim, hidden)),
        "down": np.zeros((hidden, dim)),
    }

    def apply(w, ids, code):
        x = w["table"][ids] + code
        x = x + jax.nn.relu(x @ w["up"]) @ w["down"]
        return x @ w["table"].T

    code = np.sin(np.arange(5)[:, None] * np.ones(dim)).astype(np.float32)
    varying = np.sin(np.arange(5)[:, None] + np.arange(dim)).astype(np.float32)
    ids = jax.device_put(np.int32([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]))
    uniform_case = Case(lambda w, i: apply(w, i, code), randomise(weights), (ids,), {dim: 1, hidden: 1})
    return uniform_case, uniform_case._replace(apply=lambda w, i: apply(w, i, varying), sizes={hidden: 1})


def stacked_layers():
    """A residual MLP whose layers are stacked in one array and scanned."""
    layers, dim, hidden = 3, 6, 10
    weights = {
        "in": np.zeros((4, dim)),
        "up": np.zeros((layers, dim, hidden)),
        "bias": np.zeros((layers, hidden)),
        "down": np.zeros((layers, hidden, dim)),
        "out": np.zeros((dim, 3)),
    }

    def apply(w, x):
        def layer(h, p):
            return h + jax.nn.relu(h @ p["up"] + p["bias"]) @ p["down"], jnp.max(h, -1)

        h, maxima = jax.lax.scan(
            jax.checkpoint(layer), x @ w["in"], {k: w[k] for k in ("up", "bias", "down")}
        )
        return h @ w["out"], maxima

    return Case(apply, randomise(weights), (images(5, 4),), {dim: 1, hidden: layers})


def loops_and_branches():
    """A recurrent map iterated by a while loop, then, for each sample, one of two branches."""
    shapes = {"in": (4, 9), "loop": (9, 9), "a": (9, 7), "b": (9, 7), "out": (7, 3)}
    weights = {name: np.zeros(shape) for name, shape in shapes.items()}

    def apply(w, x):
        def iterate(h):
            def step(state):
                return state[0] + 1, jnp.tanh(state[1] @ w["loop"])

            return jax.lax.while_loop(lambda state: state[0] < 3, step, (0, h))[1]

        def branch(h):
            return jax.lax.cond(h.sum() > 0, lambda: h @ w["a"], lambda: jnp.sin(h @ w["b"]))

        return jax.lax.map(branch, iterate(x @ w["in"])) @ w["out"]

    return Case(apply, randomise(weights), (images(8, 4),), {9: 1, 7: 1})


def pinned(operation):
    """A network whose first layer goes through `operation`, which does not commute with permutations."""
    weights = {"in": np.zeros((4, 8)), "hidden": np.zeros((8, 6)), "out": np.zeros((6, 3))}

    def apply(w, x):
        return jax.nn.relu(operation(x @ w["in"]) @ w["hidden"]) @ w["out"]

    return Case(apply, randomise(weights), (images(5, 4),), {6: 1})


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.hidden = nnx.Linear(4 * 4 * 8, 12, rngs=rngs)
        self.out = nnx.Linear(12, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.out(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


def nnx_network():
    graph, state = nnx.split(NNXNet(nnx.Rngs(0)))
    return Case(lambda s, x: nnx.merge(graph, s)(x), randomise(state), (images(2, 4, 4, 3),), {8: 1, 12: 1})


def bottleneck_sizes(width, depths):
    stream = {4 * width * 2**stage: 1 for stage in range(len(depths))}
    inner = {width * 2**stage: 2 * depth for stage, depth in enumerate(depths)}
    sizes = {size: stream.get(size, 0) + inner.get(size, 0) for size in stream | inner}
    return sizes | {width: sizes[width] + 1}  # and the stem


SMALL = images(2, 8, 8, 3)

CASES: dict[str, Callable[[], Case]] = {
    "mlp": lambda: linen(MLP(), images(3, 4, 5, 1), {16: 1, 12: 1}),
    "lenet": lambda: linen(LeNet(), images(2, 28, 28, 1), {6: 1, 16: 1, 24: 1, 20: 1}),
    "vgg": lambda: linen(VGG(), SMALL, {8: 1, 12: 1, 16: 1, 24: 1}),
    "vgg_batchnorm": lambda: linen(VGG("batch"), SMALL, {8: 1, 12: 1, 16: 1, 24: 1}),
    "vgg_layernorm": lambda: linen(VGG("layer"), SMALL, {8: 1, 12: 1, 16: 1, 24: 1}),
    # per stage a stream, and the inner channels of each block
    "resnet_conv": lambda: linen(ResNet("conv", blocks=2), SMALL, {8: 3, 16: 3, 32: 3}),
    "resnet_conv_layernorm": lambda: linen(ResNet("conv", "layer"), SMALL, {8: 2, 16: 2, 32: 2}),
    # the stream grows at both ends: what is new in a group has a permutation of its own
    "resnet_pad": lambda: linen(ResNet("pad"), SMALL, {8: 3, 16: 2, 32: 1}),
    "bottlenecks": lambda: linen(
        ResNet50(4, (2, 1, 1)), images(2, 32, 32, 3), bottleneck_sizes(4, (2, 1, 1))
    ),
    # the stream; heads, query-key and value axes, and hidden units of two blocks
    "vit": lambda: linen(ViT(), SMALL, {15: 1, 3: 2, 5: 4, 20: 2}),
    "mixer": lambda: linen(Mixer(), SMALL, {16: 1, 12: 2, 20: 2}),
    "depthwise": lambda: linen(DepthwiseSeparable(), SMALL, {8: 1, 12: 1, 3: 1, 16: 1}),
    "groupnorm": lambda: linen(GroupNormCNN(), SMALL, {4: 1, 2: 1, 3: 1, 5: 1}),
    "lstm": lambda: linen(LSTM(), images(2, 5, 4), {12: 1}),
    "plain_function": plain_function,
    "fused_attention": fused_attention,
    "uniform_constant": lambda: language_model()[0],
    "varying_constant": lambda: language_model()[1],
    "stacked_layers": stacked_layers,
    "loops_and_branches": loops_and_branches,
    "nnx": nnx_network,
    "fft": lambda: pinned(lambda h: jnp.fft.fft(h).real),
    "reverse": lambda: pinned(lambda h: h * h[:, ::-1]),
    "cumsum": lambda: pinned(lambda h: jnp.cumsum(h, axis=-1)),
    "callback": lambda: pinned(lambda h: jax.pure_callback(lambda a: a[:, ::-1], h, h)),
}
