"""Reciprocal orthogonality: whether each network's weights are blind to the other's features."""

from functools import partial
from typing import Any

import numpy as np

from llfc_jax.measures.commutativity import contraction_of, linear_layers
from llfc_jax.measures.comparison import mean_and_std
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.layerwise import Split, decompositions, rows, sized, split_layers
from llfc_jax.measures.measure import ANYWHERE, TEST, Found, Measure, Options
from llfc_jax.measures.nodes import contract
from llfc_jax.path.masks import samples_first
from llfc_jax.path.moments import Moments, add_moments
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{layers}`, a row for each contraction of a weight with an input."""
    del options

    def entry(found: Found) -> dict[str, Any]:
        of_a, of_b = (found.folds[TEST][name] for name in ("a", "b"))
        layers = [
            {"layer": a["layer"], "kind": a["kind"], "a": a["mean"][0], "b": b["mean"][0]}
            for a, b in zip(of_a, of_b, strict=True)
        ]
        return {"layers": layers}

    return Measure(
        name="reciprocal_orthogonality",
        folds=lambda program: {name: Planned(response(program, name), ANYWHERE) for name in ("a", "b")},
        entry=entry,
        quantities={"a": "‖W_A H_B‖ / ‖W_B H_B‖", "b": "‖W_B H_A‖ / ‖W_A H_A‖"},
    )


@by_value
def response(program: Program, network: str) -> Tally:
    """How a network's weights respond to the other's features: ||W_A H_B|| / ||W_B H_B||, or with A for B.

    Per sample, at every contraction of a weight with an input, biases left out. Where both are 0 the two
    networks are reciprocally orthogonal (Ito et al. 2025, arXiv 2510.08023), the cause of LEWC; between equal
    networks both are 1. The measure's alpha doesn't matter.

    Args:
        program: the network.
        network: "a" or "b", whose weights they are.

    Returns:
        The measure; its result is a list of `{layer, kind, mean, std}` over samples whose
        own response isn't 0.
    """
    layers = linear_layers(program)

    def sides(point: Point, layer: str) -> tuple[Array, Array, Array]:
        own = contraction_of(program, layer)
        weights, features = (point.a, point.b) if network == "a" else (point.b, point.a)
        foreign = contract(point.program.flat, own, weights.values[own.weight], features.values[own.entry])
        home = features.values[own.result]
        axes = own.result_samples, own.result_positions
        return sized(*(samples_first(side, *axes, point.mask) for side in (foreign, home)))

    def add(state: Moments, seen: Split | None) -> Moments:
        if seen is None:
            return state
        parts = decompositions(seen)
        alive = parts.v_square != 0
        ratio = np.sqrt(parts.u_square / np.where(alive, parts.v_square, 1))
        return add_moments(state, ratio, np.where(alive, seen.samples[:, None], 0))

    def finalize(state: Moments, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        return rows(layers, state, mean_and_std)

    return Tally(partial(split_layers, layers, sides), add, finalize, Moments())
