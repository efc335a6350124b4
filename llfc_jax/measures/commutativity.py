"""Commutativity of linear layers (LLFC, Definition 4): the other cause of LLFC."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Measure, Point, View
from llfc_jax.measures.layerwise import compare_layers, single
from llfc_jax.models import Network, Stage
from llfc_jax.types import Array, PyTree, Variables

LINEAR = ("dense", "conv")
"""Kinds of stages with weights W: W H + b."""


def linear_stages(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Name -> stage of every linear or convolutional layer, in forward order."""
    return {stage.name: stage for stage in stages if stage.kind in LINEAR}


def commutativity(stages: Sequence[Stage]) -> Measure:
    """Compare W_A H_A + W_B H_B with W_A H_B + W_B H_A at every linear layer with input H.

    The two differ by (W_A - W_B)(H_A - H_B), which costs one application of the layer where both products
    with the other network's input would cost two, and keeps its digits when it is small. Convolutions are
    applied as such; biases are left out. The measure's alpha doesn't matter.

    Args:
        stages: of the network; those without weights are passed over.
    """
    linear = linear_stages(stages)

    def sides(point: Point, layer: str) -> tuple[Array, Array]:
        stage, a, b = linear[layer], point.a, point.b
        (entry,) = stage.inputs
        weights = _without_bias(jax.tree.map(jnp.subtract, *(_params(x.variables, layer) for x in (a, b))))
        inputs = {entry: a.features[entry] - b.features[entry]}
        defect = Network.run({"params": {layer: weights}}, inputs, [stage])[layer]
        left = _product(a, layer) + _product(b, layer)
        return left, left - defect

    return compare_layers({name: stage.kind for name, stage in linear.items()}, sides)


def inputs_apart(stages: Sequence[Stage]) -> Measure:
    """Compare H_A with H_B, the inputs of every linear layer. Its alpha doesn't matter."""
    linear = linear_stages(stages)

    def sides(point: Point, layer: str) -> tuple[Array, Array]:
        (entry,) = linear[layer].inputs
        return point.a.features[entry], point.b.features[entry]

    return compare_layers({name: stage.kind for name, stage in linear.items()}, sides)


def weights_apart(a: Variables, b: Variables, layer: str) -> float:
    """Dist_W = ||W_A - W_B||^2 / (||W_A|| ||W_B||), biases left out; NaN if one of them is zero."""
    x, y = (np.asarray(_params(variables, layer)["kernel"], np.float64) for variables in (a, b))
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.sum((x - y) ** 2) / norms) if norms else float("nan")


def join(
    outputs: list[dict[str, Any]], inputs: list[dict[str, Any]], a: Variables, b: Variables
) -> list[dict[str, Any]]:
    """Dist_com, Dist_W and Dist_H of each layer, as `results.json` has them."""
    return [
        {
            "layer": output["layer"],
            "kind": output["kind"],
            "dist_com": single(output, "dist"),
            "dist_w": weights_apart(a, b, output["layer"]),
            "dist_h": single(entry, "dist"),
            "dead": output["dead"][0],
        }
        for output, entry in zip(outputs, inputs, strict=True)
    ]


def _params(variables: Variables, layer: str) -> Mapping[str, Array]:
    return variables["params"][layer]


def _product(view: View, layer: str) -> Array:
    """W H."""
    output, bias = view.features[layer], _params(view.variables, layer).get("bias")
    return output if bias is None else output - jnp.broadcast_to(bias, output.shape)


def _without_bias(params: Mapping[str, PyTree]) -> dict[str, PyTree]:
    return {name: jnp.zeros_like(leaf) if name == "bias" else leaf for name, leaf in params.items()}
