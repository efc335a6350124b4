"""Commutativity of linear layers (LLFC, Definition 4): the other cause of LLFC."""

from typing import Any

import numpy as np

from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.layerwise import compare_layers, single, sized
from llfc_jax.measures.measure import ANYWHERE, TEST, Found, Measure, Options
from llfc_jax.measures.nodes import contract, weight_matrices
from llfc_jax.path.masks import samples_first
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Contraction, Program
from llfc_jax.types import Array, Variables


def measure(options: Options) -> Measure:
    """`{layers}`, a row for each contraction of a weight with an input."""
    del options

    def folds(program: Program) -> dict[str, Planned]:
        compared = {"outputs": commutativity(program), "inputs": inputs_apart(program)}
        return {name: Planned(fold, ANYWHERE) for name, fold in compared.items()}

    def entry(found: Found) -> dict[str, Any]:
        own, weights = found.folds[TEST], weights_apart(found.program, found.a, found.b)
        return {"layers": join(own["outputs"], own["inputs"], weights)}

    return Measure("commutativity", folds, entry)


@by_value
def commutativity(program: Program) -> Tally:
    """Compare W_A H_A + W_B H_B with W_A H_B + W_B H_A at every contraction of a weight W with an input H.

    The two differ by (W_A - W_B)(H_A - H_B), which costs one application of the layer where both products
    with the other network's input would cost two, and keeps its digits when it is small. Biases are left out.
    The measure's alpha doesn't matter.
    """

    def sides(point: Point, layer: str) -> tuple[Array, Array, Array]:
        own, a, b = contraction_of(program, layer), point.a.values, point.b.values
        weight, entry = a[own.weight] - b[own.weight], a[own.entry] - b[own.entry]
        defect = contract(point.program.flat, own, weight, entry)
        left = a[own.result] + b[own.result]
        axes = own.result_samples, own.result_positions
        return sized(*(samples_first(side, *axes, point.mask) for side in (left, left - defect)))

    return compare_layers(linear_layers(program), sides)


@by_value
def inputs_apart(program: Program) -> Tally:
    """Compare H_A with H_B, the inputs of every contraction with a weight. Its alpha doesn't matter."""

    def sides(point: Point, layer: str) -> tuple[Array, Array, Array]:
        own = contraction_of(program, layer)
        axes = own.entry_samples, own.entry_positions
        entries = (view.values[own.entry] for view in (point.a, point.b))
        return sized(*(samples_first(entry, *axes, point.mask) for entry in entries))

    return compare_layers(linear_layers(program), sides)


def linear_layers(program: Program) -> dict[str, str]:
    """Name -> label of the nodes that contract a weight with an input, whose samples are told apart."""
    return {
        node.name: node.label
        for node in program.nodes
        if node.contraction is not None
        and node.contraction.result_samples is not None
        and node.contraction.entry_samples is not None
    }


def contraction_of(program: Program, layer: str) -> Contraction:
    """The contraction in a node that has one."""
    found = program[layer].contraction
    assert found is not None
    return found


def weights_apart(program: Program, a: Variables, b: Variables) -> dict[str, float]:
    """Layer -> Dist_W = ||W_A - W_B||^2 / (||W_A|| ||W_B||), biases left out; NaN if one of them is zero."""
    of_a, of_b = (weight_matrices(program, variables) for variables in (a, b))
    return {layer: _dist(of_a[layer], of_b[layer]) for layer in of_a}


def join(
    outputs: list[dict[str, Any]], inputs: list[dict[str, Any]], weights: dict[str, float]
) -> list[dict[str, Any]]:
    """Dist_com, Dist_W and Dist_H of each layer, as `results.json` has them."""
    return [
        {
            "layer": output["layer"],
            "kind": output["kind"],
            "dist_com": single(output, "dist"),
            "dist_w": weights[output["layer"]],
            "dist_h": single(entry, "dist"),
            "dead": output["dead"][0],
        }
        for output, entry in zip(outputs, inputs, strict=True)
    ]


def _dist(x: np.ndarray, y: np.ndarray) -> float:
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.sum(np.abs(x - y) ** 2) / norms) if norms else float("nan")
