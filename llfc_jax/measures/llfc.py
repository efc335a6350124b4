"""Layerwise linear feature connectivity (LLFC, Definition 2)."""

from collections.abc import Callable, Mapping
from typing import Any

from llfc_jax.measures.comparison import Comparison, compare, no_comparison, summarise
from llfc_jax.measures.fold import Measure, Point
from llfc_jax.types import Array, PyTree


def llfc(layers: Mapping[str, str]) -> Measure:
    """Compare the features of theta_alpha with the interpolated features of A and B, at every layer.

    With u = f^(l)(theta_alpha) and v = (1 - alpha) f^(l)(theta_A) + alpha f^(l)(theta_B), LLFC says u = v / c
    for some c > 0. It holds when 1 - cos(u, v) is far below the baseline 1 - cos(f_A, f_B).

    Args:
        layers: name -> kind of the layers to compare, in forward order.
    """
    return _comparison(layers, _on_the_path)


def baseline(layers: Mapping[str, str]) -> Measure:
    """Compare f^(l)(theta_A) with f^(l)(theta_B): what LLFC is measured against. Its alpha doesn't matter."""
    return _comparison(layers, lambda point, layer: (point.features_a[layer], point.features_b[layer]))


def join(path: list[dict[str, Any]], ends: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each layer's LLFC with its baseline (a single point), as `results.json` has them."""
    return [
        layer
        | {
            "baseline": {
                "mean": end["cosine_distance"]["mean"][0],
                "std": end["cosine_distance"]["std"][0],
                "dataset": end["dataset"]["cosine_distance"][0],
            }
        }
        for layer, end in zip(path, ends, strict=True)
    ]


def _on_the_path(point: Point, layer: str) -> tuple[Array, Array]:
    alpha = point.alpha
    return point.features[layer], (1 - alpha) * point.features_a[layer] + alpha * point.features_b[layer]


def _comparison(layers: Mapping[str, str], sides: Callable[[Point, str], tuple[Array, Array]]) -> Measure:
    def init(point: Point) -> dict[str, Comparison]:
        del point
        return {layer: no_comparison() for layer in layers}

    def update(state: dict[str, Comparison], point: Point) -> dict[str, Comparison]:
        return {layer: compare(state[layer], *sides(point, layer), point.mask) for layer in layers}

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        return [
            {"layer": layer, "kind": kind} | _to_lists(summarise(state[layer]))
            for layer, kind in layers.items()
        ]

    return Measure(init, update, finalize)


def _to_lists(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _to_lists(value) if isinstance(value, dict) else value.tolist() for name, value in tree.items()
    }
