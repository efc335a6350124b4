"""What a run asks of a network, whoever wrote it: an entry of the zoo, or a file of the user's."""

from collections.abc import Callable, Hashable
from typing import Any, Protocol

from llfc_jax.corrections.correction import Correction
from llfc_jax.types import Array, Features, Params, PRNGKey, PyTree, Variables


class Model(Hashable, Protocol):
    """An architecture without its variables; hashable, hence a static argument of any jitted function."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of what it computes one after another, for the record; none where nobody named them."""

    @property
    def convolutional(self) -> bool:
        """Whether anything in it is a convolution."""

    @property
    def unmoved_statistics(self) -> tuple[str, ...]:
        """Modules that have running statistics which training leaves as they are."""

    def shapes(self, inputs: Any) -> PyTree:
        """Its variables as `jax.ShapeDtypeStruct`s, for inputs of the shape and dtype of these."""

    def draw(self, key: PRNGKey, inputs: Array) -> Variables:
        """Variables before training. Not to be traced: the code of another framework may draw them."""

    def apply(self, variables: Variables, inputs: Array) -> Array:
        """Logits in evaluation mode."""

    def apply_with_features(self, variables: Variables, inputs: Array) -> tuple[Array, Features]:
        """The same with the features that have names of their own."""

    def apply_train(self, variables: Variables, inputs: Array, key: PRNGKey | None) -> tuple[Array, PyTree]:
        """Logits in training mode, and what else changes, for `updated`; no dropout where `key` is None."""

    def parameters(self, variables: Variables) -> Params:
        """What training optimises."""

    def updated(self, variables: Variables, params: Params, changes: PyTree) -> Variables:
        """Variables with other parameters, and with what `apply_train` said has changed."""

    def recompute(self, preprocess: Callable[[Any], Array]) -> Correction | None:
        """Re-estimates running statistics on raw inputs; None where training moves none."""
