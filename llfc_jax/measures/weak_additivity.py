"""Weak additivity of ReLU (LLFC, Definition 3): one of the two causes of LLFC."""

from collections.abc import Sequence

import jax

from llfc_jax.measures.fold import Measure, Point
from llfc_jax.measures.layerwise import compare_layers
from llfc_jax.models import Stage
from llfc_jax.path.interpolation import lerp
from llfc_jax.types import Array


def weak_additivity(stages: Sequence[Stage]) -> Measure:
    """Compare (1 - alpha) relu(h_A) + alpha relu(h_B) with relu((1 - alpha) h_A + alpha h_B) at every ReLU.

    Since ReLU is positively homogeneous, alpha = 1/2 compares relu(h_A) + relu(h_B) with relu(h_A + h_B).
    Weak additivity holds when they agree; it does exactly where h_A and h_B have the same signs.

    Args:
        stages: of the network; those that aren't ReLUs are passed over.
    """
    relus = {stage.name: stage for stage in stages if stage.kind == "relu"}

    def sides(point: Point, layer: str) -> tuple[Array, Array]:
        (entry,) = relus[layer].inputs
        after = lerp(point.a.features[layer], point.b.features[layer], point.alpha)
        before = lerp(point.a.features[entry], point.b.features[entry], point.alpha)
        return after, jax.nn.relu(before)

    return compare_layers({name: stage.kind for name, stage in relus.items()}, sides)
