"""From FILE.py:NAME to a network: which framework it is of, and that it can be run."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError, kind_of
from llfc_jax.models.own.arguments import arguments, asked_for
from llfc_jax.models.own.file import FIELD, at_fault, load, origin
from llfc_jax.models.own.functions import FunctionsDefinition
from llfc_jax.models.own.linen import LinenDefinition
from llfc_jax.models.own.network import Definition, OwnNetwork
from llfc_jax.program.flat import flatten

_KINDS = "a class of PyTorch, Linen or NNX modules, or a function that returns such a module or (init, apply)"


_KEYS = "rngs"
"""What NNX's modules call the keys that they are drawn from."""


def build(
    written: str,
    given: Mapping[str, Any],
    input_shape: tuple[int, ...],
    num_classes: int,
    output: str | None = None,
) -> OwnNetwork:
    """The network that a file defines.

    Args:
        written: FILE.py:NAME.
        given: `config.model.args`.
        input_shape: of one image, (height, width, channels), or of one text, (tokens,).
        num_classes: of the data.
        output: which of several arrays that it returns is the logits; `None`: the only one, or `logits`.

    Raises:
        UserError: the file, what it calls so, or an argument is at fault, or it computes no logits.
    """
    found = origin(written)
    named = load(found)
    dtype = jnp.int32 if len(input_shape) == 1 else jnp.float32
    inputs = jax.ShapeDtypeStruct((1, *input_shape), dtype)
    known = {"num_classes": num_classes, "input_shape": input_shape}
    with at_fault(written, found.path):
        make = _maker(named, written, given, known)
        definition = _definition(make, inputs, num_classes, output)
    return _traced(OwnNetwork(found, definition, num_classes, output), inputs)


def _maker(
    named: Any, written: str, given: Mapping[str, Any], known: Mapping[str, Any]
) -> Callable[..., Any]:
    """What makes the network, or takes `rngs` and makes it."""
    if isinstance(named, nn.Module):
        if given:
            raise UserError(f"config.model.args: {written} is made already; expected none")
        return lambda: named
    if not callable(named) or _is_module(named):
        raise UserError(f"{FIELD}={written}: expected {_KINDS}; found {kind_of(named)}")
    name = written.rpartition(":")[2]
    if _takes_keys(named):
        found = arguments(named, name, given, {**known, _KEYS: None})
        return partial(named, **{argument: value for argument, value in found.items() if argument != _KEYS})
    return partial(named, **arguments(named, name, given, known))


def _takes_keys(make: Callable[..., Any]) -> bool:
    return any(parameter.name == _KEYS for parameter in asked_for(make))


def _definition(
    make: Callable[..., Any], inputs: jax.ShapeDtypeStruct, num_classes: int, output: str | None
) -> Definition:
    if isinstance(make, partial) and _takes_keys(make.func):
        from llfc_jax.models.own.nnx import NnxDefinition  # NNX takes long to import

        return NnxDefinition(lambda rngs: make(**{_KEYS: rngs}))
    made = make()
    if isinstance(made, nn.Module):
        return LinenDefinition(made, inputs)
    if _is_of("torch.nn", made):
        from llfc_jax.models.own.torch import TorchDefinition

        return TorchDefinition(make, inputs.shape[1:], num_classes, output)
    if _is_of("flax.nnx", made):
        raise UserError("an NNX module is drawn from keys: expected an argument called rngs; found none")
    if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        return FunctionsDefinition(*made, inputs)
    raise UserError(f"expected {_KINDS}; found one that returns {kind_of(made)}")


def _is_module(value: Any) -> bool:
    return _is_of("torch.nn", value) or _is_of("flax.nnx", value)


def _is_of(framework: str, value: Any) -> bool:
    """Whether a value is a module of a framework, which need not be there."""
    return framework in sys.modules and isinstance(value, sys.modules[framework].Module)


def _traced(network: OwnNetwork, inputs: jax.ShapeDtypeStruct) -> OwnNetwork:
    """With what is seen in its traces in both modes, for two images, which are checked with this."""
    two = jax.ShapeDtypeStruct((2, *inputs.shape[1:]), inputs.dtype)
    evaluation = flatten(network.apply_with_features, network.shapes(), two)
    key = jax.eval_shape(lambda: jax.random.key(0))
    _, changes = jax.eval_shape(network.apply_train, network.shapes(), two, key)
    convolutional = any(one.primitive == "conv_general_dilated" for one in evaluation.instructions)
    return dataclasses.replace(network, convolutional=convolutional, moved=frozenset(changes))
