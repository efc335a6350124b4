"""A network is data: an ordered sequence of named stages, and pure functions that run it.

Because each stage names its layer and its inputs, everything the package measures is one lookup away: the
feature of any stage, a prefix of one network feeding a suffix of another, a layer applied to a foreign input.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from llfc_jax.corrections.batchnorm import recompute_by
from llfc_jax.corrections.correction import Correction
from llfc_jax.models import attention, convolution, layers, tokens
from llfc_jax.runtime import compilation
from llfc_jax.types import Array, Features, Params, PRNGKey, PyTree, Variables

INPUT = "input"
"""The name under which images or tokens enter."""

KINDS: dict[type[nn.Module], str] = {
    nn.Dense: "dense",
    nn.Conv: "conv",
    nn.BatchNorm: "norm",
    nn.LayerNorm: "norm",
    nn.RMSNorm: "norm",
    nn.Dropout: "dropout",
    nn.MultiHeadDotProductAttention: "attention",
    attention.CausalAttention: "attention",
    layers.ReLU: "relu",
    layers.GELU: "gelu",
    layers.Elementwise: "activation",
    layers.MaxPool: "pool",
    layers.AveragePool: "pool",
    layers.MeanPool: "pool",
    layers.AdaptiveMeanPool: "pool",
    layers.Flatten: "flatten",
    layers.Add: "add",
    layers.Multiply: "multiply",
    layers.PadShortcut: "shortcut",
    tokens.Tokens: "flatten",
    tokens.ClassToken: "token",
    tokens.Position: "position",
    tokens.FirstToken: "pool",
    tokens.Embedding: "embedding",
    tokens.TiedHead: "dense",
}
"""What a layer is called in results and figures."""


class Stage(NamedTuple):
    """One named step: `layer` applied to the outputs of the stages called `inputs`."""

    name: str
    layer: nn.Module
    inputs: tuple[str, ...]
    owner: str | None = None
    """The stage whose variables it shares; None where it has its own."""

    @property
    def kind(self) -> str:
        """The entry of `KINDS` for this stage's layer; another layer's is the name of its class."""
        return KINDS.get(type(self.layer), type(self.layer).__name__)

    @property
    def is_feature(self) -> bool:
        """Whether the output is a representation of its own (a flattened or dropped-out copy is not)."""
        return self.kind not in ("flatten", "dropout")

    def mode(self, *, train: bool) -> dict[str, Any]:
        """What the layer's call must be told of training or evaluation."""
        if isinstance(self.layer, nn.BatchNorm):
            return {"use_running_average": not train}
        if isinstance(self.layer, nn.Dropout):
            return {"deterministic": not train}
        return {}

    def output_shape(self, *inputs: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """What comes out of the layer in evaluation mode.

        Raises:
            Exception: of whatever type Linen or JAX chooses, where the inputs don't fit the layer.
        """
        return _output_shape(self.layer, inputs, **self.mode(train=False))


def sequence(steps: Iterable[tuple[str, nn.Module] | Stage]) -> tuple[Stage, ...]:
    """Wire steps one after another; a `Stage` among them keeps the inputs it names."""
    stages: list[Stage] = []
    for step in steps:
        previous = stages[-1].name if stages else INPUT
        stages.append(step if isinstance(step, Stage) else Stage(*step, inputs=(previous,)))
    return tuple(stages)


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture: hashable, without parameters, hence a static argument of any jitted function.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from llfc_jax.models import mlp
        >>> network = mlp((8, 8, 1), num_classes=10, hidden=(32,))
        >>> variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> network.apply(variables, jnp.zeros((5, 8, 8, 1))).shape
        (5, 10)
        >>> [stage.name for stage in network.stages]
        ['flatten', 'dense1', 'relu1', 'dense2']
    """

    stages: tuple[Stage, ...]

    def init(self, key: PRNGKey, inputs: Array) -> Variables:
        """Draw all variables: `{"params": {stage: ...}, "batch_stats": {stage: ...}}`.

        Args:
            key: folded with the index of each stage.
            inputs: (n, ...), of which the shape and the dtype alone count.
        """
        variables: dict[str, dict] = {"params": {}, "batch_stats": {}}
        shapes = {INPUT: jax.eval_shape(jnp.asarray, inputs)}
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(self.stages)))
        for stage, own_key in zip(self.stages, keys, strict=True):
            of_inputs = tuple(shapes[name] for name in stage.inputs)
            shapes[stage.name] = stage.output_shape(*of_inputs)
            if stage.owner is not None:
                continue
            own = _draw(own_key, stage.layer, of_inputs, **stage.mode(train=False))
            for collection, value in own.items():
                variables[collection][stage.name] = value
        return {name: tree for name, tree in variables.items() if tree}

    def draw(self, key: PRNGKey, inputs: Array | jax.ShapeDtypeStruct) -> Variables:
        """`init` as one program, the same for all keys."""
        return _drawer(self, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype))(key)

    def shapes(self, inputs: Any) -> PyTree:
        """The shapes of all variables."""
        return jax.eval_shape(self.init, jax.random.key(0), inputs)

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the stages."""
        return tuple(stage.name for stage in self.stages)

    @property
    def convolutional(self) -> bool:
        """Whether any stage is a convolution."""
        return any(stage.kind == "conv" for stage in self.stages)

    @property
    def unmoved_statistics(self) -> tuple[str, ...]:
        """Every stage is run, so that training moves them all."""
        return ()

    def apply(self, variables: Variables, inputs: Array) -> Array:
        """Logits in evaluation mode: (n, ...) -> (n, classes), or (n, t, classes) of tokens."""
        return self.apply_with_features(variables, inputs)[0]

    def apply_with_features(self, variables: Variables, inputs: Array) -> tuple[Array, Features]:
        """Logits, and the input with the outputs of all stages, in evaluation mode."""
        values = self.run(variables, {INPUT: inputs}, self.stages)
        return values[self.stages[-1].name], values

    def apply_train(
        self, variables: Variables, inputs: Array, key: PRNGKey | None, *, momentum: float | None = None
    ) -> tuple[Array, PyTree]:
        """Logits in training mode, and the running statistics after this batch.

        On CPU there is no forward-mode derivative (`jax.jvp`) of a convolution in training, for the sake of
        its reverse-mode gradients.

        Args:
            variables: parameters and running statistics.
            inputs: (n, ...) images or tokens.
            key: drives dropout; `None` leaves dropout out.
            momentum: replaces the momentum of every BatchNorm; 0 returns the statistics of this batch alone.

        Returns:
            The logits, and the new `batch_stats` collection (empty without BatchNorm).
        """
        values, statistics = {INPUT: inputs}, {}
        for index, stage in enumerate(self.stages):
            layer = _in_training(stage.layer, momentum)
            drops_out = isinstance(layer, nn.Dropout)
            rngs = {"dropout": jax.random.fold_in(key, index)} if drops_out and key is not None else None
            values[stage.name], updated = _apply(
                layer,
                _own(variables, stage),
                *(values[name] for name in stage.inputs),
                rngs=rngs,
                mutable="batch_stats",
                **stage.mode(train=key is not None or not drops_out),
            )
            if updated:
                statistics[stage.name] = updated["batch_stats"]
        return values[self.stages[-1].name], statistics

    def parameters(self, variables: Variables) -> Params:
        """All but running statistics."""
        return variables["params"]

    def updated(self, variables: Variables, params: Params, changes: PyTree) -> Variables:
        """Other parameters, and the running statistics of `apply_train` where it found any."""
        variables = {**variables, "params": params}
        return with_statistics(variables, changes) if changes else variables

    def recompute(self, preprocess: Callable[[Any], Array]) -> Correction | None:
        """Of every BatchNorm, in one evaluation: with no momentum the new statistics are the batch's."""
        if not any(isinstance(stage.layer, nn.BatchNorm) for stage in self.stages):
            return None
        return recompute_by(_BatchStatistics(self, preprocess), with_statistics)

    @staticmethod
    def run(variables: Variables, values: Mapping[str, Array], stages: Iterable[Stage]) -> dict[str, Array]:
        """Run `stages` in evaluation mode on top of known `values`; returns these and the new ones."""
        known: dict[str, Any] = dict(values)
        for stage in stages:
            arguments = [known[name] for name in stage.inputs]
            known[stage.name] = _apply(
                stage.layer, _own(variables, stage), *arguments, **stage.mode(train=False)
            )
        return known


@dataclasses.dataclass(frozen=True)
class _BatchStatistics:
    """Mean and variance of what each BatchNorm sees of a batch in training."""

    network: Network
    preprocess: Callable[[Any], Array]

    def __call__(self, variables: Variables, inputs: Any) -> PyTree:
        return self.network.apply_train(variables, self.preprocess(inputs), key=None, momentum=0.0)[1]


def with_statistics(variables: Variables, statistics: PyTree) -> Variables:
    """The same parameters with other running statistics."""
    return {**variables, "batch_stats": statistics}


def _own(variables: Variables, stage: Stage) -> dict[str, Mapping]:
    owner = stage.owner or stage.name
    return {name: tree[owner] for name, tree in variables.items() if owner in tree}


def _in_training(layer: nn.Module, momentum: float | None) -> nn.Module:
    if isinstance(layer, nn.BatchNorm) and momentum is not None:
        return layer.clone(momentum=momentum)
    if isinstance(layer, nn.Conv) and layer.conv_general_dilated is convolution.conv_general_dilated:
        return layer.clone(conv_general_dilated=convolution.conv_for_training)
    return layer


@lru_cache(maxsize=8)
def _drawer(network: Network, inputs: jax.ShapeDtypeStruct) -> Callable[[PRNGKey], Variables]:
    return compilation.jit_once(lambda key: network.init(key, jnp.zeros(inputs.shape, inputs.dtype)))


# Layers that are alike, of which deep networks have many, are traced, lowered and compiled once.


@partial(jax.jit, static_argnames=("layer", "mutable", "use_running_average", "deterministic"))
def _apply(layer: nn.Module, variables: Variables, *inputs: Array, **options: Any) -> Any:
    return layer.apply(variables, *inputs, **options)


@partial(jax.jit, static_argnames=("layer", "inputs", "use_running_average", "deterministic"))
def _draw(key: PRNGKey, layer: nn.Module, inputs: tuple[jax.ShapeDtypeStruct, ...], **mode: Any) -> PyTree:
    return layer.init(key, *(jnp.zeros(one.shape, one.dtype) for one in inputs), **mode)


@cache
def _output_shape(layer: nn.Module, inputs: tuple[jax.ShapeDtypeStruct, ...], **mode: Any) -> Any:
    return jax.eval_shape(partial(layer.init_with_output, **mode), jax.random.key(0), *inputs)[0]
