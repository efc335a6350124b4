"""A PyTorch module in a file: read by `llfc_jax.from_torch`, drawn by PyTorch."""

import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.bridges.torch import from_torch
from llfc_jax.bridges.torch_import import import_torch
from llfc_jax.models.own.network import Entry
from llfc_jax.types import Array, Features, PRNGKey, Variables


class TorchDefinition:
    """A `Definition`; inputs are (n, height, width, channels), and PyTorch's (n, channels, height, width)."""

    framework = "PyTorch"

    def __init__(
        self, make: Callable[[], Any], input_shape: tuple[int, ...], num_classes: int, output: str | None
    ) -> None:
        self._make = make
        module = _drawn(make, 0)
        self._network = from_torch(module, _example(input_shape, num_classes), output=output)
        self.variables = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._network.variables
        )
        optimised = {name for name, one in module.named_parameters() if one.requires_grad}
        self.trainable = frozenset(optimised & self.variables.keys())
        self.entries = {
            name: Entry(leaf, tuple(axes)) for name, (leaf, axes) in self._network.names().items()
        }

    def draw(self, key: PRNGKey) -> Variables:
        """What the module is born with, of a seed that the key draws."""
        seed = int(jax.random.bits(key, dtype=jnp.uint32))
        return self._network.variables_of(_drawn(self._make, seed).state_dict())

    def outputs(self, variables: Variables, inputs: Array) -> tuple[Array, Features]:
        """Features are named by submodules."""
        return self._network.apply_with_features(variables, _channels_first(inputs))

    def train(
        self, variables: Variables, inputs: Array, key: PRNGKey | None
    ) -> tuple[Array, dict[str, Array]]:
        """Buffers change."""
        return self._network.apply_train(variables, _channels_first(inputs), key)


def _drawn(make: Callable[[], Any], seed: int) -> Any:
    """A module that PyTorch draws by a seed, with the state of all generators left as it was."""
    torch, _ = import_torch()
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (the user's code may draw from it)
        random.seed(seed)
        return make()
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])


def _example(input_shape: tuple[int, ...], num_classes: int) -> Array:
    """Two images as numbers are after normalisation, or two lists of tokens."""
    generator = np.random.default_rng(0)
    if len(input_shape) == 1:
        return jnp.asarray(generator.integers(0, num_classes, (2, *input_shape)), jnp.int32)
    return _channels_first(jnp.asarray(generator.normal(size=(2, *input_shape)), jnp.float32))


def _channels_first(images: Array) -> Array:
    return jnp.moveaxis(images, -1, 1) if images.ndim == 4 else images
