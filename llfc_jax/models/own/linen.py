"""A Linen module in a file."""

import inspect
from typing import Any

import flax.linen as nn
import jax

from llfc_jax.errors import UserError
from llfc_jax.models.own.network import as_saved, by_path
from llfc_jax.runtime import compilation
from llfc_jax.types import Array, Features, PRNGKey, Variables

_TRAINING = {"train": True, "training": True, "is_training": True} | {
    "deterministic": False,
    "use_running_average": False,
}
"""An argument of `__call__` that is told of training -> what it is then."""

_PASSING = ("intermediates", "perturbations")
"""Collections that are no part of a network's variables."""


class LinenDefinition:
    """A `Definition`: `params` are optimised, other collections change in training."""

    framework = "Flax"

    def __init__(self, module: nn.Module, inputs: jax.ShapeDtypeStruct) -> None:
        self._module, self._mode = module, _mode(module)
        self._draw = compilation.jit_once(
            lambda key: self._init(key, jax.numpy.zeros(inputs.shape, inputs.dtype))
        )
        self.variables = jax.eval_shape(self._draw, jax.random.key(0))
        self.trainable = frozenset(
            path for path in by_path(self.variables) if path.partition("/")[0] == "params"
        )
        self.entries = as_saved(self.variables)

    def draw(self, key: PRNGKey) -> Variables:
        """The module's own initialisation."""
        return self._draw(key)

    def outputs(self, variables: Variables, inputs: Array) -> tuple[Any, Features]:
        """What it computes is named by its scopes when it is read."""
        return self._module.apply(variables, inputs, **self._in_mode(training=False)), {}

    def train(self, variables: Variables, inputs: Array, key: PRNGKey | None) -> tuple[Any, dict[str, Array]]:
        """All collections but the parameters may change."""
        changing = [collection for collection in variables if collection != "params"]
        mode = self._in_mode(training=True)
        with nn.intercept_methods(_without_dropout if key is None else _as_it_is):
            rngs = None if key is None else {"dropout": key}
            outputs, changed = self._module.apply(variables, inputs, rngs=rngs, mutable=changing, **mode)
        return outputs, by_path(changed)

    def _init(self, key: PRNGKey, inputs: Array) -> Variables:
        found = self._module.init(key, inputs, **self._in_mode(training=False))
        return {name: dict(tree) for name, tree in found.items() if name not in _PASSING}

    def _in_mode(self, *, training: bool) -> dict[str, Any]:
        return {name: value if training else not value for name, value in self._mode.items()}


def _mode(module: nn.Module) -> dict[str, bool]:
    """The arguments of a module's call that say whether it is in training -> what they are then.

    Raises:
        UserError: it asks for something else, too.
    """
    _, *others = inspect.signature(type(module).__call__).parameters.values()
    found = {}
    for one in others[1:]:
        if one.name in _TRAINING:
            found[one.name] = _TRAINING[one.name]
        elif one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            raise UserError(
                f"its __call__ asks for {one.name}; expected inputs, and of {', '.join(_TRAINING)} any"
            )
    return found


def _without_dropout(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if isinstance(context.module, nn.Dropout):
        return args[0] if args else kwargs["inputs"]
    if isinstance(context.module, nn.MultiHeadDotProductAttention) and context.method_name == "__call__":
        kwargs = {**kwargs, "deterministic": True}
    return call(*args, **kwargs)


def _as_it_is(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    del context
    return call(*args, **kwargs)
