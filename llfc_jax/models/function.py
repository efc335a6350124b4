"""A network of one's own, given as two pure functions of its parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from llfc_jax.corrections.correction import Correction
from llfc_jax.runtime import compilation
from llfc_jax.types import Array, Features, Params, PRNGKey, PyTree, Variables


@dataclasses.dataclass(frozen=True)
class FunctionModel:
    """A `Model` whose variables are its parameters alone: nothing random, no running statistics."""

    init: Callable[[PRNGKey, Array], Params]
    evaluate: Callable[[Params, Array], Array]
    steps: tuple[str, ...] = ()
    convolutional: bool = True
    """It may be."""
    unmoved_statistics: tuple[str, ...] = ()

    def shapes(self, inputs: Any) -> PyTree:
        """Of the parameters."""
        return jax.eval_shape(self.init, jax.random.key(0), inputs)

    def draw(self, key: PRNGKey, inputs: Array) -> Variables:
        """As one program."""
        return compilation.jit_once(self.init)(key, inputs)

    def apply(self, variables: Variables, inputs: Array) -> Array:
        """Logits."""
        return self.evaluate(variables, inputs)

    def apply_with_features(self, variables: Variables, inputs: Array) -> tuple[Array, Features]:
        """Logits; no feature has a name."""
        return self.evaluate(variables, inputs), {}

    def apply_train(self, variables: Variables, inputs: Array, key: PRNGKey | None) -> tuple[Array, PyTree]:
        """The same as in evaluation."""
        del key
        return self.evaluate(variables, inputs), None

    def parameters(self, variables: Variables) -> Params:
        """All of them."""
        return variables

    def updated(self, variables: Variables, params: Params, changes: PyTree) -> Variables:
        """The parameters."""
        del variables, changes
        return params

    def recompute(self, preprocess: Callable[[Any], Array]) -> Correction | None:
        """There is nothing to recompute."""
        del preprocess
        return None
