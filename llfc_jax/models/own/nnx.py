"""An NNX module in a file."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from flax.traverse_util import unflatten_dict

from llfc_jax.models.own.network import as_saved, by_path
from llfc_jax.runtime import compilation
from llfc_jax.types import Array, Features, PRNGKey, PyTree, Variables


class NnxDefinition:
    """A `Definition`: what is an `nnx.Param` is optimised, what isn't, but for keys, changes in training.

    Variables are the module's state as nested dicts, without the keys of its streams.
    """

    framework = "Flax"

    def __init__(self, make: Callable[[nnx.Rngs], Any]) -> None:
        self._make = make
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        self._graphs = {mode: _split(module, mode)[0] for mode in ("evaluation", "training", "quiet")}
        _, self._keys, self._params, self._others = _split(module, "evaluation")
        self.variables = self._to_variables(self._params, self._others)
        self.trainable = frozenset(_paths(self._params))
        self.entries = as_saved(self.variables)
        self._draw = compilation.jit_once(self._drawn)

    def draw(self, key: PRNGKey) -> Variables:
        """What the module is born with."""
        return self._draw(key)

    def outputs(self, variables: Variables, inputs: Array) -> tuple[Any, Features]:
        """After `module.eval()`; what it computes is named by its weights when it is read."""
        return self._merged("evaluation", variables, None)(inputs), {}

    def train(self, variables: Variables, inputs: Array, key: PRNGKey | None) -> tuple[Any, dict[str, Array]]:
        """After `module.train()`."""
        module = self._merged("quiet" if key is None else "training", variables, key)
        outputs = module(inputs)
        _, _, _, others = _split_state(module)
        return outputs, by_path(self._to_variables(others))

    def _drawn(self, key: PRNGKey) -> Variables:
        _, _, *states = _split(self._make(nnx.Rngs(key)), "evaluation")
        return self._to_variables(*states)

    def _to_variables(self, *states: PyTree) -> Variables:
        leaves = {path: leaf for state in states for path, leaf in _paths(state).items()}
        return unflatten_dict(leaves, sep="/")

    def _merged(self, mode: str, variables: Variables, key: PRNGKey | None) -> Any:
        leaves = by_path(variables)

        def filled(state: PyTree) -> PyTree:
            return jax.tree.unflatten(jax.tree.structure(state), [leaves[path] for path in _paths(state)])

        return nnx.merge(
            self._graphs[mode], _streams(self._keys, key), filled(self._params), filled(self._others)
        )


def _split(module: Any, mode: str) -> Any:
    """The module's graph in a mode, keys, parameters and other state; `quiet` is training without dropout."""
    if mode == "evaluation":
        module.eval()
    else:
        module.train()
    if mode == "quiet":
        module.set_attributes(deterministic=True, raise_if_not_found=False)
    return _split_state(module)


def _split_state(module: Any) -> Any:
    return nnx.split(module, nnx.RngState, nnx.Param, ...)


def _paths(state: PyTree) -> dict[str, Any]:
    """Path in the module -> array."""
    return {path.removesuffix("/value"): leaf for path, leaf in by_path(state).items()}


def _streams(keys: PyTree, key: PRNGKey | None) -> PyTree:
    """The state of all random streams, of one key; each begins anew."""
    key = jax.random.key(0) if key is None else key
    leaves, structure = jax.tree.flatten(keys)
    fresh = [
        jax.random.fold_in(key, index)
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jax.numpy.zeros(leaf.shape, leaf.dtype)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, fresh)
