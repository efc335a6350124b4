"""Networks as other programs write them, made without those: MLPs in NumPy, residual ones in Linen."""

from functools import partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)


def mlp_state(names, order=None, hidden=32, seed=0, bias=True):
    """A state dict of PyTorch: 64 inputs, square hidden layers, 10 classes.

    Args:
        names: of the modules, in the order of computation.
        order: in which they are registered; by default that of computation.
        hidden: width of all hidden layers.
        seed: another one draws another network.
        bias: whether the layers have one.
    """
    generator = np.random.default_rng(seed)
    sizes = [64, *[hidden] * (len(names) - 1), 10]
    modules = {}
    for name, (fan_in, fan_out) in zip(names, pairwise(sizes), strict=True):
        modules[name] = {f"{name}.weight": generator.normal(size=(fan_out, fan_in)) / fan_in**0.5}
        if bias:
            modules[name][f"{name}.bias"] = generator.normal(size=fan_out)
    arrays = [array for name in order or names for array in modules[name].items()]
    return {key: array.astype(np.float32) for key, array in arrays}


def mlp_logits(state, names, images=IMAGES):
    """What such a network computes, in float64."""
    x = images.reshape(len(images), -1).astype(np.float64)
    for index, name in enumerate(names):
        x = x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)
        x = np.maximum(x, 0) if index < len(names) - 1 else x
    return x


def relative_error(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


def in_float64(apply, variables, images):
    """Logits in double precision, in which nothing but another function differs by more than 1e-9."""
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (variables, images))
        return np.asarray(jax.jit(apply)(*double))


CHANNELS = (2, 4, 8)
"""Of ResNet-20 at width 1/8."""


class Block(nn.Module):
    """As in Flax's ImageNet example, with its names; convolutions pad as Flax does where it isn't told."""

    channels: int
    stride: int
    preactivation: bool = False

    @nn.compact
    def __call__(self, x):
        conv, norm = partial(nn.Conv, use_bias=False), nn.LayerNorm
        if self.preactivation:
            y = conv(self.channels, (3, 3), strides=self.stride)(nn.relu(norm()(x)))
            y = conv(self.channels, (3, 3))(nn.relu(norm()(y)))
            missing = self.channels - x.shape[-1]
            shortcut = x[:, :: self.stride, :: self.stride]
            return y + jnp.pad(shortcut, [(0, 0)] * 3 + [(missing // 2, missing // 2)])
        y = nn.relu(norm()(conv(self.channels, (3, 3), strides=self.stride)(x)))
        y = norm()(conv(self.channels, (3, 3))(y))
        if self.stride > 1:
            x = conv(self.channels, (1, 1), strides=self.stride, name="conv_proj")(x)
            x = norm(name="norm_proj")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet-20 of eighth width; the names of its layers are sorted in another order than they are called."""

    preactivation: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(CHANNELS[0], (3, 3), use_bias=False, name="conv_init")(x)
        x = x if self.preactivation else nn.relu(nn.LayerNorm(name="bn_init")(x))
        for index in range(9):
            stride = 2 if index in (3, 6) else 1
            name = f"ResNetBlock_{index}"
            x = Block(CHANNELS[index // 3], stride, self.preactivation, name=name)(x)
        x = nn.relu(nn.LayerNorm(name="norm_final")(x)) if self.preactivation else x
        return nn.Dense(10)(x.mean((1, 2)))


def randomised(variables, seed=0):
    """Variables of the same shapes, scales around 1, none of them zero."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 4
        return (generator.normal(size=leaf.shape) * fan_in**-0.5).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, variables)
