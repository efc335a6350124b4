"""Networks by name."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from llfc_jax.errors import UserError
from llfc_jax.models.layers import ACTIVATIONS, POOLINGS
from llfc_jax.models.lenet import lenet
from llfc_jax.models.mlp import mlp
from llfc_jax.models.network import INPUT, Network, Stage
from llfc_jax.models.resnet import resnet
from llfc_jax.models.resnet_imagenet import resnet_imagenet
from llfc_jax.models.vgg import vgg
from llfc_jax.models.vit import vit
from llfc_jax.types import Params

__all__ = ["CHOICES", "MODELS", "Network", "Stage", "build", "count_parameters", "options_of"]

MODELS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "lenet": lenet,
    **{f"vgg{depth}": partial(vgg, depth=depth) for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    **{f"resnet{depth}": partial(resnet_imagenet, depth=depth) for depth in (18, 34, 50)},
    "vit": vit,
}
"""Name -> `(input_shape, num_classes, **options) -> Network`."""

CHOICES = {
    "norm": ("none", "batch", "layer"),
    "shortcut": ("pad", "conv"),
    "stem": ("imagenet", "cifar"),
    "readout": ("mean", "token"),
    "padding": ("torch", "same"),
    "activation": tuple(ACTIVATIONS),
    "pooling": tuple(POOLINGS),
}
"""Options that take one of a few values."""


def build(config: Mapping[str, Any], input_shape: tuple[int, ...], num_classes: int) -> Network:
    """The network that `config` (name and options; `None` keeps the model's default) asks for.

    Raises:
        UserError: the name or an option is unknown, or the images don't fit the model.
    """
    options = options_of(config)
    network = MODELS[config["name"]](input_shape, num_classes, **options)
    _check_images_fit(config["name"], network, input_shape)
    return network


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `config` sets of the options of its model.

    Raises:
        UserError: the name, an option or its value is unknown.
    """
    options = {field: value for field, value in config.items() if field != "name" and value is not None}
    name = config["name"]
    if name not in MODELS:
        raise UserError(f"model.name: expected one of {', '.join(MODELS)}; found {name!r}")
    accepted = inspect.signature(MODELS[name]).parameters
    for field in options.keys() - accepted.keys():
        if options[field] not in ((), ""):
            raise UserError(
                f"model.{field}: model.name={name!r} has no such option; "
                f"reset it by --config.model.{field}=None"
            )
        del options[field]
    for field, value in options.items():
        if field in CHOICES and value not in CHOICES[field]:
            raise UserError(f"model.{field}: expected one of {', '.join(CHOICES[field])}; found {value!r}")
    if not 0 <= options.get("epsilon", 0) < 1:
        raise UserError(f"model.epsilon: expected a number in [0, 1); found {options['epsilon']}")
    if not 0 < options.get("width", 1) < math.inf:
        raise UserError(f"model.width: expected a positive number; found {options['width']}")
    return options


def count_parameters(params: Params) -> int:
    """How many numbers training optimises."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _check_images_fit(name: str, network: Network, input_shape: tuple[int, ...]) -> None:
    shapes = {INPUT: jax.ShapeDtypeStruct((1, *input_shape), "float32")}
    for stage in network.stages:
        try:
            shape = stage.output_shape(*(shapes[source] for source in stage.inputs))
        except (ValueError, TypeError, ZeroDivisionError):
            shape = None
        if shape is None or 0 in shape.shape:
            found = "x".join(map(str, input_shape))
            raise UserError(
                f"model.name={name!r} can't take images of {found}: nothing is left of them at {stage.name!r}"
            )
        shapes[stage.name] = shape
