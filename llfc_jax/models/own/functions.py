"""A pair of functions in a file: `init(key, inputs)` and `apply(variables, inputs)`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.models.own.network import as_saved, by_path
from llfc_jax.runtime import compilation
from llfc_jax.types import Array, Features, PRNGKey, PyTree, Variables


class FunctionsDefinition:
    """A `Definition`: all floats are optimised, and training is as evaluation."""

    framework = "JAX"

    def __init__(
        self,
        init: Callable[[PRNGKey, Array], PyTree],
        apply: Callable[[PyTree, Array], Any],
        inputs: jax.ShapeDtypeStruct,
    ) -> None:
        self._apply = apply
        self._draw = compilation.jit_once(lambda key: init(key, jnp.zeros(inputs.shape, inputs.dtype)))
        self.variables = jax.eval_shape(self._draw, jax.random.key(0))
        leaves = by_path(self.variables).items()
        self.trainable = frozenset(path for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))
        self.entries = as_saved(self.variables)

    def draw(self, key: PRNGKey) -> Variables:
        """What `init` draws."""
        return self._draw(key)

    def outputs(self, variables: Variables, inputs: Array) -> tuple[Any, Features]:
        """What it computes is named by its weights when it is read."""
        return self._apply(variables, inputs), {}

    def train(self, variables: Variables, inputs: Array, key: PRNGKey | None) -> tuple[Any, dict[str, Array]]:
        """Nothing else changes."""
        del key
        return self._apply(variables, inputs), {}
