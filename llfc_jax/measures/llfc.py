"""Layerwise linear feature connectivity (LLFC, Definition 2)."""

from collections.abc import Mapping
from typing import Any

from llfc_jax.measures.fold import Fold, Point
from llfc_jax.measures.layerwise import compare_layers, single
from llfc_jax.measures.measure import ANYWHERE, TEST, Found, Measure, Options
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature."""

    def folds(program: Program) -> dict[str, Planned]:
        layers = {node.name: node.label for node in program.features if node.sample_axis is not None}
        return {
            "path": Planned(llfc(layers), options.alphas),
            "baseline": Planned(baseline(layers), ANYWHERE),
        }

    def entry(found: Found) -> dict[str, Any]:
        own = found.folds[TEST]
        return {"alphas": options.alphas, "layers": join(own["path"], own["baseline"])}

    return Measure("llfc", folds, entry, along_corrected=True)


def llfc(layers: Mapping[str, str]) -> Fold:
    """Compare the features of theta_alpha with the interpolated features of A and B, at every layer.

    With u = f^(l)(theta_alpha) and v = (1 - alpha) f^(l)(theta_A) + alpha f^(l)(theta_B), LLFC says u = v / c
    for some c > 0. It holds when 1 - cos(u, v) is far below the baseline 1 - cos(f_A, f_B).

    Args:
        layers: name -> kind of the layers to compare, in forward order.
    """
    return compare_layers(layers, _on_the_path)


def baseline(layers: Mapping[str, str]) -> Fold:
    """Compare f^(l)(theta_A) with f^(l)(theta_B): what LLFC is measured against. Its alpha doesn't matter."""
    return compare_layers(layers, lambda point, layer: (point.a.features[layer], point.b.features[layer]))


def join(path: list[dict[str, Any]], ends: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each layer's LLFC with its baseline (a single point), as `results.json` has them."""
    return [
        layer | {"baseline": single(end, "cosine_distance")} for layer, end in zip(path, ends, strict=True)
    ]


def _on_the_path(point: Point, layer: str) -> tuple[Array, Array]:
    ends = point.a.features[layer], point.b.features[layer]
    return point.theta.features[layer], lerp(*ends, point.alpha)
