"""What a network needs from a file: a slot for each layer with arrays, and what fits into it."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from llfc_jax.interchange.names import OTHER_NORM, Module
from llfc_jax.interchange.torch_layouts import LAYERS, Layout, Shape, same, with_shape
from llfc_jax.models import Network

MISSING = {"bias": 0.0, "scale": 1.0}
"""What an array is taken to be that a file may lack: a layer without a bias is one whose bias is zero."""


class Slot(NamedTuple):
    """A layer of ours and its arrays; layers that are alike differ in their names alone."""

    stage: str
    tail: tuple[str, ...]
    """Path of the arrays in a layer that has layers in it."""
    layer: type[nn.Module]
    arrays: tuple[tuple[str, str, Shape], ...]
    """(collection, array, shape)."""
    flattened: Shape | None
    """(height, width, channels) of the feature map that the input was flattened from."""

    @property
    def name(self) -> str:
        """As it is printed."""
        return "/".join((self.stage, *self.tail))

    @property
    def is_norm(self) -> bool:
        """Whether all its arrays are vectors."""
        return all(len(shape) < 2 for _, _, shape in self.arrays)

    def full_name(self, array: str) -> str:
        """Of an array, in the variables."""
        collection = next(collection for collection, name, _ in self.arrays if name == array)
        return "/".join((collection, self.stage, *self.tail, array))


class Target(NamedTuple):
    """What a network needs."""

    network: Network
    input_shape: Shape
    shapes: dict[str, Shape]
    """Our name -> shape, in the order of the stages, kernels first."""
    flattened: dict[str, Shape]
    """Linear layer -> (height, width, channels) of the feature map that its input was flattened from."""

    @property
    def slots(self) -> list[Slot]:
        """In the order of the stages."""
        layers = {stage.name: type(stage.layer) for stage in self.network.stages}
        arrays: dict[tuple[str, tuple[str, ...]], list[tuple[str, str, Shape]]] = {}
        for name, shape in self.shapes.items():
            collection, stage, *tail, array = name.split("/")
            arrays.setdefault((stage, tuple(tail)), []).append((collection, array, shape))
        return [
            Slot(stage, tail, layers[stage], tuple(own), self.flattened.get(stage))
            for (stage, tail), own in arrays.items()
        ]


def target(network: Network, input_shape: Shape) -> Target:
    """What `network` needs for images of `input_shape`."""
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(variables)
    }
    order = {stage.name: index for index, stage in enumerate(network.stages)}
    ranked = sorted(leaves.items(), key=lambda item: (order[item[0].split("/")[1]], -len(item[1])))

    features = jax.eval_shape(network.apply_with_features, variables, image)[1]
    maps: dict[str, Shape] = {}  # of the stages whose output is a flattened map
    flattened: dict[str, Shape] = {}
    for stage in network.stages:
        source = stage.inputs[0]
        if stage.kind == "flatten" and features[source].ndim == 4:
            maps[stage.name] = features[source].shape[1:]
        elif source in maps and stage.kind not in ("dense", "conv", "norm"):
            maps[stage.name] = maps[source]
        elif source in maps and stage.kind == "dense":
            flattened[stage.name] = maps[source]
    return Target(network, input_shape, dict(ranked), flattened)


Fit = dict[str, tuple[str, Layout]]
"""Our array -> the role of theirs, and its layout."""


def fit(slot: Slot, module: Mapping[str, Shape]) -> Fit | None:
    """How the arrays of a module of a file make those of a layer of ours, if they do.

    The name of an array tells its layout: a `weight` is PyTorch's, a `kernel` is Flax's. Biases, and scales
    of normalisations, may be missing.

    Args:
        slot: the layer.
        module: role -> shape of the module's arrays.
    """
    return _fit(slot._replace(stage="", tail=()), tuple(sorted(module.items())))


def may_be(slot: Slot, module: Module) -> bool:
    """What a name alone says of a module and a slot: which part of a layer it is, or which other norm."""
    if slot.tail and module[-len(slot.tail) :] != slot.tail:
        return False
    return not (slot.is_norm and module and OTHER_NORM.match(module[-1]))


@cache
def _fit(slot: Slot, module: tuple[tuple[str, Shape], ...]) -> Fit | None:
    found: Fit = {}
    readings = _readings(slot)
    for role, shape in module:
        if role not in readings:
            return None
        array, layout = readings[role]
        if (there := with_shape(layout, shape)) is None or array in found:
            return None
        found[array] = (role, there)
    wanted = {array for _, array, _ in slot.arrays}
    missing = wanted - found.keys()
    needed = {array for array in missing if array not in MISSING or (array == "scale" and not slot.is_norm)}
    return found if found and not needed else None


def _readings(slot: Slot) -> dict[str, tuple[str, Layout]]:
    """Role -> our array that it can be, and how it is laid out then."""
    readings = {array: (array, same(shape)) for _, array, shape in slot.arrays}
    table = LAYERS.get(slot.layer, {})
    for _, array, shape in slot.arrays:
        if array in table:
            theirs, layout = table[array]
            readings[theirs] = (array, layout(shape, slot.flattened))
    return readings
