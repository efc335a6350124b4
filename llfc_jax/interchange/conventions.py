"""What no file of weights holds and programs differ in: padding, and what is added to variances."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from llfc_jax.interchange.torch_layouts import Shape
from llfc_jax.models import Network
from llfc_jax.models.layers import ACTIVATIONS, GELU, POOLINGS, MaxPool

Conventions = dict[str, Any]
"""Field of `config.model` -> its value."""

_OWN = "llfc_jax"

FRAMEWORKS: dict[str, Conventions] = {
    _OWN: {},
    "PyTorch": {"padding": "torch", "epsilon": 1e-5, "activation": "gelu"},
    "Equinox": {"padding": "torch", "epsilon": 1e-5, "activation": "gelu"},
    "Flax": {"padding": "same", "epsilon": 1e-6, "activation": "gelu_tanh"},
    "Haiku": {"padding": "same", "epsilon": 1e-5, "activation": "gelu_tanh"},
}
"""What a program's layers do where it isn't told otherwise.

`padding` is that of strided windows, `epsilon` that of LayerNorm (BatchNorm's is 1e-5 everywhere),
`activation` what it calls gelu."""


def framework(matched_by: str, kernels: Mapping[str, str], is_tree: bool) -> str:
    """The program that a file is from, by what it calls the weights of layers.

    Args:
        matched_by: `names of llfc_jax` or another way that the network was found.
        kernels: name of the weights of each layer -> role, which tells their layout.
        is_tree: whether the file is a pytree.

    Example:
        >>> framework("shapes", {"Dense_0/kernel": "kernel"}, True)
        'Flax'
        >>> framework("shapes", {"fc1.weight": "weight"}, False)
        'PyTorch'
    """
    if "weight" in kernels.values():
        return "Equinox" if is_tree else "PyTorch"
    if any(name.endswith(("/w", ".w")) or name == "w" for name in kernels):
        return "Haiku"
    return _OWN if matched_by == f"names of {_OWN}" else "Flax"


def expected(framework: str, network: Network, input_shape: Shape) -> Conventions:
    """What a framework's conventions say of this network: only of what is in it."""
    theirs, fields = FRAMEWORKS[framework], described(network)
    kinds = {type(stage.layer) for stage in network.stages}
    if not _padding_matters(network, input_shape):
        fields.pop("padding", None)
    if nn.LayerNorm not in kinds:
        fields.pop("epsilon", None)
    if GELU not in kinds:
        fields.pop("activation", None)
    return {field: theirs[field] for field in fields if field in theirs}


def described(network: Network) -> Conventions:
    """How a network does what no file says; fields of `config.model`."""
    found: Conventions = {}
    for stage in network.stages:
        layer = stage.layer
        if (window := _strided(layer)) is not None:
            found["padding"] = "same" if window[2] == "SAME" else "torch"
        if isinstance(layer, nn.BatchNorm | nn.LayerNorm):
            found["epsilon"] = layer.epsilon
        for field, choices in (("activation", ACTIVATIONS), ("pooling", POOLINGS)):
            if (name := next((name for name in choices if layer == choices[name]), None)) is not None:
                found[field] = name
    return {
        field: found[field] for field in ("padding", "epsilon", "activation", "pooling") if field in found
    }


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Conventions:
    """Those of theirs that ours differ from."""
    return {field: value for field, value in theirs.items() if ours.get(field) != value}


def _strided(layer: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...], Any] | None:
    """Window, strides and padding of a layer that moves a padded window by more than one position."""
    if isinstance(layer, nn.Conv):
        window, strides, padding = _pair(layer.kernel_size), layer.strides, layer.padding
    elif isinstance(layer, MaxPool):
        window, strides, padding = (layer.window,) * 2, (layer.stride or layer.window,) * 2, layer.padding
    else:
        return None
    strides = _pair(strides or 1)
    return None if padding == "VALID" or max(strides) == 1 or max(window) == 1 else (window, strides, padding)


def _pair(sides: int | Sequence[int]) -> tuple[int, ...]:
    return (sides, sides) if isinstance(sides, int) else tuple(sides)


def _padding_matters(network: Network, input_shape: Shape) -> bool:
    """Whether PyTorch's padding and SAME differ anywhere, which they don't on maps of odd sides."""
    image = jax.ShapeDtypeStruct((1, *input_shape), "float32")
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    features = jax.eval_shape(network.apply_with_features, variables, image)[1]
    for stage in network.stages:
        if (window := _strided(stage.layer)) is not None:
            sides, strides, _ = window
            same = jax.lax.padtype_to_pads(features[stage.inputs[0]].shape[1:3], sides, strides, "SAME")
            if same != [(side // 2, side // 2) for side in sides]:
                return True
    return False
