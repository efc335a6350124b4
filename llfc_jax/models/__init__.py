"""Networks by name."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from llfc_jax.errors import UserError
from llfc_jax.models.gpt import CHOICES as GPT_CHOICES
from llfc_jax.models.gpt import gpt
from llfc_jax.models.layers import ACTIVATIONS, POOLINGS
from llfc_jax.models.lenet import lenet
from llfc_jax.models.mlp import mlp
from llfc_jax.models.network import INPUT, Network, Stage
from llfc_jax.models.own import OwnNetwork
from llfc_jax.models.own import build as build_own
from llfc_jax.models.preactivation import preresnet, wide_resnet
from llfc_jax.models.resnet import resnet
from llfc_jax.models.resnet_imagenet import resnet_imagenet
from llfc_jax.models.vgg import vgg
from llfc_jax.models.vit import vit
from llfc_jax.storage.paths import is_in_file
from llfc_jax.types import Params

__all__ = [
    "CHOICES",
    "MODELS",
    "OF_TEXT",
    "Network",
    "OwnNetwork",
    "Stage",
    "build",
    "check_kind",
    "count_parameters",
    "make",
    "options_of",
    "takes",
]

MODELS: dict[str, Callable[..., Network]] = {
    "mlp": mlp,
    "lenet": lenet,
    **{f"vgg{depth}": partial(vgg, depth=depth) for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    **{f"resnet{depth}": partial(resnet_imagenet, depth=depth) for depth in (18, 34, 50)},
    **{f"preresnet{depth}": partial(preresnet, depth=depth) for depth in (20, 32, 44, 56, 110)},
    **{f"wideresnet{depth}": partial(wide_resnet, depth=depth) for depth in (10, 16, 22, 28, 40)},
    "vit": vit,
    "gpt": gpt,
}
"""Name -> `(input_shape, num_classes, **options) -> Network`."""

OF_TEXT = ("gpt",)
"""Models of tokens, for inputs of shape (block,); the others take images."""

_CHOICES = {
    "norm": ("none", "batch", "layer", "rms"),
    "shortcut": ("pad", "conv"),
    "stem": ("imagenet", "cifar"),
    "readout": ("mean", "token"),
    "padding": ("torch", "same"),
    "activation": tuple(ACTIVATIONS),
    "pooling": tuple(POOLINGS),
}
_OWN_CHOICES = {"gpt": GPT_CHOICES}

CHOICES: dict[str, tuple[str, ...]] = {
    field: tuple(dict.fromkeys([*_CHOICES.get(field, ()), *GPT_CHOICES.get(field, ())]))
    for field in _CHOICES | GPT_CHOICES
}
"""Options that take one of a few values, of which a model may know a part."""


OWN_ALONE = ("args", "output", "sha256")
"""Fields of `config.model` for networks in files."""


def make(config: Mapping[str, Any], input_shape: tuple[int, ...], num_classes: int) -> Network | OwnNetwork:
    """The network that `config` names, of the zoo or in a file of the user's.

    Raises:
        UserError: it can't be made.
    """
    if is_in_file(config["name"]):
        options_of(config)
        return build_own(config["name"], dict(config["args"]), input_shape, num_classes, config.get("output"))
    return build(config, input_shape, num_classes)


def build(config: Mapping[str, Any], input_shape: tuple[int, ...], num_classes: int) -> Network:
    """The network of the zoo that `config` (name and options; `None` keeps the model's default) asks for.

    Raises:
        UserError: the name or an option is unknown, or the images or the text don't fit the model.
    """
    name, options = config["name"], options_of(config)
    if not takes(name, input_shape):
        check_kind(name, text=name not in OF_TEXT)
    network = MODELS[name](input_shape, num_classes, **options)
    _check_inputs_fit(name, network, input_shape)
    return network


def takes(name: str, input_shape: tuple[int, ...]) -> bool:
    """Whether the model of that name is for inputs of this rank: a text's, an image's, or any for an MLP."""
    return name == "mlp" or (name in OF_TEXT) == (len(input_shape) == 1)


def check_kind(name: str, text: bool) -> None:
    """Raise a `UserError` if the zoo's model of that name isn't for texts, or for images."""
    if name in MODELS and (name in OF_TEXT) != text:
        expected, found = ("images", "text") if text else ("text", "images")
        raise UserError(f"model.name={name!r}: expected {expected} for data; found {found}")


def options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What `config` sets of the options of its model.

    Raises:
        UserError: the name, an option or its value is unknown.
    """
    name = config["name"]
    options = {
        field: value
        for field, value in config.items()
        if field not in ("name", *OWN_ALONE) and value is not None
    }
    if is_in_file(name):
        _check_no_options(name, options)
        return {}
    if name not in MODELS:
        raise UserError(f"model.name: expected one of {', '.join(MODELS)}, FILE.py:NAME; found {name!r}")
    for field in OWN_ALONE:
        if config.get(field):
            raise UserError(f"model.{field}: expected none for model.name={name!r}, which is in no file")
    accepted = inspect.signature(MODELS[name]).parameters
    for field in options.keys() - accepted.keys():
        if options[field] not in ((), ""):
            raise UserError(
                f"model.{field}: model.name={name!r} has no such option; "
                f"reset it by --config.model.{field}=None"
            )
        del options[field]
    for field, value in options.items():
        choices = _OWN_CHOICES.get(name, _CHOICES).get(field, CHOICES.get(field))
        if choices is not None and value not in choices:
            raise UserError(f"model.{field}: expected one of {', '.join(choices)}; found {value!r}")
    if not 0 <= options.get("epsilon", 0) < 1:
        raise UserError(f"model.epsilon: expected a number in [0, 1); found {options['epsilon']}")
    if not 0 < options.get("width", 1) < math.inf:
        raise UserError(f"model.width: expected a positive number; found {options['width']}")
    return options


def _check_no_options(name: str, options: Mapping[str, Any]) -> None:
    for field, value in options.items():
        if (field, value) != ("width", 1):
            raise UserError(
                f"model.{field}: {name} takes its arguments from model.args; "
                f"reset it by --config.model.{field}={1 if field == 'width' else None}"
            )


def count_parameters(params: Params) -> int:
    """How many numbers training optimises."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _check_inputs_fit(name: str, network: Network, input_shape: tuple[int, ...]) -> None:
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
