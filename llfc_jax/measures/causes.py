"""The measures that say why LLFC holds or fails, planned together and put into the form of `results.json`."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from llfc_jax.measures import commutativity, stitching
from llfc_jax.measures.deviation import deviation
from llfc_jax.measures.effective_rank import feature_rank, join_ranks
from llfc_jax.measures.spectra import principal_angles, singular_values, weight_ranks
from llfc_jax.measures.theory import lemma1, theorem1
from llfc_jax.measures.weak_additivity import weak_additivity
from llfc_jax.models import Stage
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.traversal import Planned
from llfc_jax.types import Variables

ANYWHERE = (0.0,)
"""For measures that compare A with B and don't look at theta_alpha."""


def plan(stages: Sequence[Stage], chosen: Collection[str], alphas: tuple[float, ...]) -> dict[str, Planned]:
    """What to measure in a pass over the test data.

    Args:
        stages: of the network, in forward order.
        chosen: names of measures, as in `config.measures`; those that explain nothing are passed over.
        alphas: where on the path to look at weak additivity and deviations; at ranks also at the ends.
    """
    planned: dict[str, Planned] = {}
    if "weak_additivity" in chosen:
        planned["weak_additivity"] = Planned(weak_additivity(stages), alphas)
    if "commutativity" in chosen:
        planned["commutativity"] = Planned(commutativity.commutativity(stages), ANYWHERE)
        planned["inputs_apart"] = Planned(commutativity.inputs_apart(stages), ANYWHERE)
    if "deviation" in chosen:
        planned["deviation"] = Planned(deviation(stages), alphas)
    if "stitching" in chosen:
        planned["stitching"] = Planned(stitching.stitching(stages), ANYWHERE)
    if "effective_rank" in chosen:
        planned["effective_rank"] = Planned(feature_rank(_features(stages)), _with_ends(alphas))
    return planned


def explain(
    stages: Sequence[Stage],
    chosen: Collection[str],
    alphas: tuple[float, ...],
    a: Variables,
    b: Variables,
    found: Mapping[str, Any],
    top_k: int = 10,
) -> dict[str, Any]:
    """Each measure's entry in `results.json`, with what needs no data, and the paper's theory checked on it.

    A measure that finds no layer to look at, as weak additivity in a network without a ReLU, has no entry.

    Args:
        stages: as given to `plan`.
        chosen: as given to `plan`.
        alphas: as given to `plan`.
        a: variables of A.
        b: variables of B.
        found: what the pass found; also `lmc` if it was measured.
        top_k: dimension of the subspaces between which to take principal angles.
    """

    @cache
    def values(alpha: float) -> dict[str, np.ndarray]:
        return singular_values(stages, lerp(a, b, alpha))

    results: dict[str, Any] = {}
    if "weak_additivity" in chosen:
        results["weak_additivity"] = {"alphas": alphas, "layers": found["weak_additivity"]}
    if "commutativity" in chosen:
        layers = commutativity.join(found["commutativity"], found["inputs_apart"], a, b)
        results["commutativity"] = {"layers": layers}
    if "stitching" in chosen:
        results["stitching"] = {"layers": stitching.join(found["stitching"], stages, a)}
    if "principal_angles" in chosen:
        angles = principal_angles(stages, a, b, top_k)
        results["principal_angles"] = {"top_k": top_k, "layers": angles}
    if "effective_rank" in chosen:
        along = _with_ends(alphas)
        ranks = {"features": found["effective_rank"], "weights": weight_ranks(stages, values, along)}
        results["effective_rank"] = {"alphas": along, "layers": join_ranks(_features(stages), ranks)}
    theory: dict[str, Any] = {}
    if "deviation" in chosen:
        results["deviation"] = {"alphas": alphas, "layers": found["deviation"]}
        theory["theorem1"] = theorem1(stages, a, b, results["deviation"], values)
    if "lmc" in chosen:
        theory["lemma1"] = lemma1(found["lmc"])
    found_somewhere = {name: entry for name, entry in results.items() if entry["layers"]}
    return found_somewhere | ({"theory": theory} if theory else {})


def _with_ends(alphas: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted({0.0, *alphas, 1.0}))


def _features(stages: Sequence[Stage]) -> dict[str, str]:
    return {stage.name: stage.kind for stage in stages if stage.is_feature}
