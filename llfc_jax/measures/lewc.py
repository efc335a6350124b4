"""Layerwise exponentially weighted connectivity (LEWC): LLFC for networks too far apart to be aligned."""

from typing import Any

from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.layerwise import compare_layers, sized
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature behind the first contraction with a weight."""

    def entry(found: Found) -> dict[str, Any]:
        depths = depths_of(found.program)
        layers = [
            {
                "layer": row["layer"],
                "kind": row["kind"],
                "depth": depths[row["layer"]],
                "distance": row["cosine_distance"]["mean"],
                "coefficient": row["coefficient"]["mean"],
                "dist": row["dist"]["mean"],
            }
            for row in found.folds[TEST]["layers"]
        ]
        return {"alphas": options.alphas, "layers": layers}

    return Measure(
        name="lewc",
        folds=lambda program: {"layers": Planned(lewc(program), options.alphas)},
        entry=entry,
        quantities={"distance": "1 − cos, LEWC", "coefficient": "coefficient, LEWC"},
    )


@by_value
def lewc(program: Program) -> Tally:
    """Compare f^(l)(theta_alpha) with (1 - alpha)^d f^(l)(theta_A) + alpha^d f^(l)(theta_B) at every layer.

    d counts the contractions with weights up to the layer (Ito et al. 2025, arXiv 2510.08023). It holds
    exactly, with coefficient 1, where homogeneous layers are reciprocally orthogonal (W_A H_B = W_B H_A = 0)
    and weakly additive. At alpha = 1/2 its direction is LLFC's; what tells them apart is the coefficient.
    """
    depths = depths_of(program)
    layers = {
        node.name: node.label
        for node in program.features
        if node.sample_axis is not None and depths[node.name] > 0
    }

    def sides(point: Point, layer: str) -> tuple[Array, Array, Array]:
        a, b = point.a.features[layer], point.b.features[layer]
        share_a, share_b = (1 - point.alpha) ** depths[layer], point.alpha ** depths[layer]
        return sized(point.theta.features[layer], share_a.astype(a.dtype) * a + share_b.astype(b.dtype) * b)

    return compare_layers(layers, sides)


def depths_of(program: Program) -> dict[str, int]:
    """Node -> the most contractions with a weight on a way from the inputs to it."""
    depths: dict[str, int] = {}
    for node in program.nodes:
        before = max((depths.get(name, 0) for name in node.inputs), default=0)
        depths[node.name] = before + (node.contraction is not None)
    return depths
