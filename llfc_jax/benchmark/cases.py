"""Networks and data to measure on. Both are random: that changes nothing of the work."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax import data, models
from llfc_jax.types import Array, Features, Variables


class Case(NamedTuple):
    """A network and the data it is fed."""

    model: dict[str, Any]
    image: tuple[int, int, int]
    batch_size: int
    """Of measurements."""
    images: int
    repeats: int = 5
    """Times that something short is timed; the median counts."""
    training_batch_size: int = 128
    """Of a training step, and of a bare forward pass."""
    alphas: int = 25
    """Of the path, for LMC."""
    precision: str = "float32"
    """Of forward passes and training steps; measures are always taken in float32."""

    def on(self, backend: str) -> "Case":
        """The same with what fills an accelerator."""
        return self if backend == "cpu" else self._replace(images=2_000, batch_size=500)

    @property
    def network(self) -> models.Network:
        """Of ten classes."""
        return models.build(self.model, self.image, num_classes=10)

    def variables(self, seed: int) -> Variables:
        """A random network."""
        return self.network.draw(jax.random.key(seed), jax.ShapeDtypeStruct((1, *self.image), jnp.float32))

    def split(self) -> data.Split:
        """Random images and labels."""
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (self.images, *self.image), dtype=np.uint8)
        return data.Split(images, generator.integers(0, 10, self.images, dtype=np.int32))

    def apply_with_features(self, variables: Variables, images: Array) -> tuple[Array, Features]:
        """Raw images -> logits and the outputs of all stages."""
        return self.network.apply_with_features(variables, data.normalise(images, (0.5,), (0.25,)))

    def apply(self, variables: Variables, images: Array) -> Array:
        """Raw images -> logits."""
        return self.apply_with_features(variables, images)[0]


_CIFAR = (32, 32, 3)

CASES = {
    "mlp": Case({"name": "mlp"}, (28, 28, 1), batch_size=500, images=2_000),
    "resnet20": Case({"name": "resnet20"}, _CIFAR, batch_size=32, images=32),
    "resnet20x4": Case(
        {"name": "resnet20", "width": 4}, _CIFAR, batch_size=16, images=16, training_batch_size=32
    ),
    "resnet20x4-ln": Case(
        {"name": "resnet20", "width": 4, "norm": "layer", "shortcut": "conv"}, _CIFAR, 100, images=400
    ),
    "vgg16": Case({"name": "vgg16", "norm": "batch"}, _CIFAR, batch_size=32, images=32),
    "vgg16-512": Case({"name": "vgg16", "norm": "batch", "head": (512, 512)}, _CIFAR, 32, images=128),
}
