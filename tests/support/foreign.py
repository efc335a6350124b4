"""Networks as other people write them: none of them knows of llfc_jax.

Each function takes a key and returns (apply, variables, inputs), with weights drawn, biases and statistics
included, so that no term of any identity vanishes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import randomise
from flax import nnx


def seed_of(key):
    """A key's numbers, to draw by NumPy, which has nothing to compile."""
    return np.asarray(jax.random.key_data(key))


def draw(variables, key):
    """Every float leaf moved a little at random; variances stay positive."""
    rng = np.random.default_rng(seed_of(key))

    def moved(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        factor, shift = np.exp(0.1 * rng.normal(size=leaf.shape)), 0.1 * np.abs(rng.normal(size=leaf.shape))
        return jax.device_put(np.float32(np.asarray(leaf) * factor + shift))

    return jax.tree.map(moved, variables)


def images(key, side=8, channels=3, n=4):
    rng = np.random.default_rng(seed_of(key))
    return jax.device_put(rng.normal(size=(n, side, side, channels)).astype(np.float32))


def tokens(key, length=6, vocabulary=11, n=3):
    rng = np.random.default_rng(seed_of(key))
    return jax.device_put(rng.integers(vocabulary, size=(n, length), dtype=np.int32))


def linen(module, inputs):
    def network(key):
        return module.apply, randomise(jax.eval_shape(module.init, key, inputs), seed_of(key)), inputs

    return network


def with_nnx(build, inputs, **mode):
    def network(key):
        model = build(nnx.Rngs(int(jax.random.bits(key, dtype=np.uint16))))
        model.eval()
        graph, state = nnx.split(model)

        def apply(state, x):
            return nnx.merge(graph, state)(x)

        return apply, draw(state, jax.random.fold_in(key, 1)), inputs

    return network


class ResNetBlock(nn.Module):
    """As in Flax's ImageNet example."""

    filters: int
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x):
        residual = x
        y = nn.Conv(self.filters, (3, 3), self.strides, use_bias=False)(x)
        y = nn.BatchNorm(use_running_average=True)(y)
        y = nn.relu(y)
        y = nn.Conv(self.filters, (3, 3), use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=True, scale_init=nn.initializers.zeros_init())(y)
        if residual.shape != y.shape:
            residual = nn.Conv(self.filters, (1, 1), self.strides, use_bias=False, name="conv_proj")(residual)
            residual = nn.BatchNorm(use_running_average=True, name="norm_proj")(residual)
        return nn.relu(residual + y)


class LinenResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False, name="conv_init")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name="bn_init")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        x = ResNetBlock(12, (2, 2))(x)
        return nn.Dense(5)(jnp.mean(x, axis=(1, 2)))


class NNXCNN(nnx.Module):
    """As in Flax's MNIST example."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(8, rngs=rngs)
        self.dropout1 = nnx.Dropout(0.025, rngs=rngs)
        self.conv2 = nnx.Conv(8, 12, (3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(48, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x)))), (2, 2), (2, 2))
        x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        return self.linear2(nnx.relu(self.linear1(x.reshape(x.shape[0], -1))))


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(
            y, mask=nn.make_causal_mask(jnp.ones(x.shape[:2]))
        )
        y = nn.LayerNorm()(x)
        return x + nn.Dense(x.shape[-1])(nn.gelu(nn.Dense(24)(y)))


class LinenTransformer(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(11, 12)(ids) + self.param("pos", nn.initializers.normal(), (6, 12))
        return nn.Dense(5)(nn.LayerNorm()(EncoderBlock()(x)).mean(1))


class ScannedTransformer(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(11, 12)(ids)
        block = nn.scan(
            lambda module, carry, _: (module(carry), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )
        x, _ = block(EncoderBlock(), x, None)
        return nn.Dense(5)(x.mean(1))


class LinenLSTM(nn.Module):
    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(11, 6)(ids)
        start = jnp.zeros((len(x), 8), x.dtype)  # by itself it would be float32, whatever the rest is
        x = nn.RNN(nn.LSTMCell(8))(x, initial_carry=(start, start))
        return nn.Dense(5)(x[:, -1])


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        down1 = nn.relu(nn.GroupNorm(2)(nn.Conv(8, (3, 3))(x)))
        down2 = nn.silu(nn.Conv(12, (3, 3))(nn.avg_pool(down1, (2, 2), (2, 2))))
        up = nn.ConvTranspose(8, (2, 2), strides=(2, 2))(down2)
        x = nn.relu(nn.Conv(8, (3, 3))(jnp.concatenate([up, down1], -1)))
        return nn.Conv(5, (1, 1))(x).mean((1, 2))


def rms_norm(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def rotated(x):
    """Rotary positions: (n, t, heads, d)."""
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] / 100 ** (jnp.arange(half) / half)
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    x1, x2 = x[..., :half], x[..., half:]
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1)


def llama(key, heads=4, groups=2, width=16, blocks=1):
    """RMSNorm, rotary positions, grouped queries, SwiGLU; a plain function of a plain tree."""
    d = width // heads
    shapes = {
        "attention_norm": (width,),
        "wq": (width, heads, d),
        "wk": (width, groups, d),
        "wv": (width, groups, d),
        "wo": (heads, d, width),
        "ffn_norm": (width,),
        "gate": (width, 24),
        "up": (width, 24),
        "down": (24, width),
    }

    rng = np.random.default_rng(seed_of(key))

    def weights(shape, size=0.25):
        drawn = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else size * rng.normal(size=shape)
        return jax.device_put(np.float32(drawn))

    variables = {
        "embed": weights((11, width), 1),
        "layers": [{name: weights(shape) for name, shape in shapes.items()} for _ in range(blocks)],
        "norm": weights((width,)),
        "head": weights((width, 5)),
    }

    def attention(layer, x):
        q, k = (rotated(jnp.einsum("ntc,chd->nthd", x, layer[name])) for name in ("wq", "wk"))
        v = jnp.einsum("ntc,chd->nthd", x, layer["wv"])
        k, v = (jnp.repeat(one, heads // groups, axis=2) for one in (k, v))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(d)
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None, None]
        scores = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        return jnp.einsum("nqhd,hdc->nqc", jnp.einsum("nhqk,nkhd->nqhd", scores, v), layer["wo"])

    def apply(variables, ids):
        x = variables["embed"][ids]
        for layer in variables["layers"]:
            x = x + attention(layer, rms_norm(x, layer["attention_norm"][None, None]))
            h = rms_norm(x, layer["ffn_norm"][None, None])
            x = x + (jax.nn.silu(h @ layer["gate"]) * (h @ layer["up"])) @ layer["down"]
        return (rms_norm(x, variables["norm"][None, None]) @ variables["head"]).mean(1)

    return apply, variables, tokens(jax.random.key(7))


def densenet(key):
    """Concatenations of everything before."""
    widths, rng = [3, 6, 6, 6], np.random.default_rng(seed_of(key))

    def weights(*shape):
        return jax.device_put(rng.normal(size=shape, scale=0.25).astype(np.float32))

    kernels = [weights(3, 3, sum(widths[: i + 1]), 6) for i in range(3)]
    variables = {"convs": kernels, "head": 4 * weights(sum(widths), 5)}

    def apply(variables, x):
        for kernel in variables["convs"]:
            new = jax.lax.conv_general_dilated(
                jax.nn.relu(x), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jnp.concatenate([x, new], -1)
        return jnp.tanh(x.mean((1, 2))) @ variables["head"]

    return apply, variables, images(jax.random.key(7))


def layer_norm(x, scale, shift):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5) * scale + shift


def gpt(key, heads=2, width=12, blocks=1):
    """Learned positions, LayerNorm, queries, keys and values of one weight, GELU; a plain function."""
    shapes = {
        **dict.fromkeys(("ln1_scale", "ln1_shift", "ln2_scale", "ln2_shift"), (1, 1, width)),
        **{"qkv": (width, 3 * width), "qkv_bias": (1, 1, 3 * width), "out": (width, width)},
        **{"up": (width, 24), "up_bias": (1, 1, 24), "down": (24, width), "down_bias": (1, 1, width)},
    }

    rng = np.random.default_rng(seed_of(key))

    def weights(shape, size=1 / 3):
        drawn = rng.uniform(0.5, 1.5, shape) if len(shape) == 3 else size * rng.normal(size=shape)
        return jax.device_put(np.float32(drawn))

    variables = {
        "wte": weights((11, width), 1),
        "wpe": weights((6, width)),
        "blocks": [{name: weights(shape) for name, shape in shapes.items()} for _ in range(blocks)],
        "lnf_scale": weights((1, 1, width)),
        "lnf_shift": weights((1, 1, width)),
        "head": weights((width, 5)),
    }

    def attention(block, x):
        n, t, _ = x.shape
        fused = x @ block["qkv"] + block["qkv_bias"]
        q, k, v = (one.reshape(n, t, heads, width // heads) for one in jnp.split(fused, 3, axis=-1))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / jnp.sqrt(width // heads)
        causal = jnp.tril(jnp.ones((t, t), bool))[None, None]
        scores = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        return jnp.einsum("nhqk,nkhd->nqhd", scores, v).reshape(n, t, width) @ block["out"]

    def apply(variables, ids):
        x = variables["wte"][ids] + variables["wpe"][None, : ids.shape[1]]
        for block in variables["blocks"]:
            x = x + attention(block, layer_norm(x, block["ln1_scale"], block["ln1_shift"]))
            h = layer_norm(x, block["ln2_scale"], block["ln2_shift"]) @ block["up"] + block["up_bias"]
            x = x + jax.nn.gelu(h) @ block["down"] + block["down_bias"]
        x = layer_norm(x, variables["lnf_scale"], variables["lnf_shift"])
        return x[:, -1] @ variables["head"]

    return apply, variables, tokens(jax.random.key(7))


def equinox_cnn(key):
    """Channels first, one sample at a time, weights (out, in): Equinox's own layers under `jax.vmap`."""
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(key, 4)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 8, 3, padding=1, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(128, 16, key=keys[1]),
            eqx.nn.Lambda(jax.nn.silu),
            eqx.nn.Linear(16, 5, key=keys[2]),
        ]
    )
    weights, graph = eqx.partition(model, eqx.is_array)

    def apply(weights, x):
        return jax.vmap(eqx.combine(weights, graph))(x)

    return apply, draw(weights, keys[3]), jax.random.normal(jax.random.key(7), (4, 3, 8, 8))


NETWORKS = {
    "linen_resnet": linen(LinenResNet(), images(jax.random.key(7))),
    "nnx_cnn": with_nnx(NNXCNN, images(jax.random.key(7))),
    "linen_transformer": linen(LinenTransformer(), tokens(jax.random.key(7))),
    "scanned_transformer": linen(ScannedTransformer(), tokens(jax.random.key(7))),
    "linen_lstm": linen(LinenLSTM(), tokens(jax.random.key(7))),
    "unet": linen(UNet(), images(jax.random.key(7))),
    "llama": llama,
    "gpt": gpt,
    "densenet": densenet,
    "equinox_cnn": equinox_cnn,
}
"""Name -> key -> (apply, variables, inputs); logits are (n, 5)."""
