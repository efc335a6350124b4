"""The paper's theory, checked on measured pairs: Theorem 1 as a bound, and Lemma 1."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llfc_jax.measures.deviation import arising_in
from llfc_jax.measures.spectra import SingularValues
from llfc_jax.models import Stage
from llfc_jax.models.layers import MaxPool, MeanPool
from llfc_jax.models.network import INPUT
from llfc_jax.path.interpolation import lerp
from llfc_jax.types import Variables

SLACK = 1e-3
"""A bound counts as kept up to this relative error: that of float32 sums over a dataset."""
VACUOUS = 1.0
"""A bound on ||delta|| / ||v|| from here on says nothing: features that vanish keep it."""


def theorem1(
    stages: Sequence[Stage],
    a: Variables,
    b: Variables,
    deviation: Mapping[str, Any],
    values: SingularValues,
) -> dict[str, Any]:
    """How far the features may deviate from linearity, given what arises in each layer.

    Theorem 1 of LLFC: if every ReLU is weakly additive and every linear layer commutes, then LLFC holds with
    c = 1. Quantitatively, the deviation delta_l (see `measures.deviation`) obeys

        ||delta_l||  <=  gain_l ||delta_(l-1)|| + ||own_l||,

    where own_l is what the failure of either (or of a norm or a pooling) adds in layer l, and gain_l bounds
    how much the layer can stretch a difference of inputs: 1 for ReLU, additions, means and maxima over
    windows apart, more where windows overlap, sqrt(h w) times the largest singular value for an h x w
    convolution of theta_alpha, the largest scale / sqrt(var + eps) for BatchNorm. From zeros at the input,
    this bounds every layer; it is zero where the theorem's premises hold exactly. Layers without such a gain
    (LayerNorm, attention, adaptive means) or with an unknown input have no bound, nor do those above them.

    Args:
        stages: of the network, in forward order.
        a: variables of A.
        b: variables of B.
        deviation: that measure's entry in `results.json`: `{alphas, layers}`.
        values: alpha -> singular values of the weights of theta_alpha, by layer.

    Returns:
        `{alphas, holds, layers}`: for each layer `{layer, bound, deviation, holds}`, the first two relative
        to ||v||, as lists parallel to the alphas; NaN and None without a bound. The whole `holds` is False if
        a layer's is, else None if one is None.
    """
    alphas, measured = deviation["alphas"], {layer["layer"]: layer for layer in deviation["layers"]}
    along = [(lerp(a, b, alpha), values(alpha)) for alpha in alphas]
    bounds, unknown = {INPUT: np.zeros(len(alphas))}, np.full(len(alphas), np.nan)
    layers = []
    for stage in stages:
        gains = np.array([_gain(stage, *theta) for theta in along])
        inherited = sum(bounds.get(name, unknown) for name in stage.inputs)
        bounds[stage.name] = np.where(inherited == 0, 0.0, gains * inherited)
        if (found := measured.get(stage.name)) is None:
            continue
        scale = np.asarray(found["scale"])
        if (name := arising_in(stage)) is not None:
            bounds[stage.name] = bounds[stage.name] + scale * np.asarray(found["norms"][name])
        bound = bounds[stage.name] / np.where(scale > 0, scale, 1)
        holds = np.asarray(found["deviation"]) <= (1 + SLACK) * bound + np.finfo(np.float32).eps
        layers.append(
            {
                "layer": stage.name,
                "bound": bound.tolist(),
                "deviation": found["deviation"],
                "holds": bool(holds.all()) if np.isfinite(bound).all() else None,
            }
        )
    verdicts: list[bool | None] = [layer["holds"] for layer in layers]
    whole = None if None in verdicts and False not in verdicts else all(verdicts)
    return {"alphas": alphas, "holds": whole, "layers": layers}


def lemma1(lmc: Mapping[str, Any]) -> dict[str, Any]:
    """Lemma 1 of LLFC: where LLFC holds at the output, Err(theta_alpha) <= 2 max(Err(theta_A), Err(theta_B)).

    A sample that both ends classify correctly is then classified correctly on the whole path, so that even
    the sum of their errors is a bound. A path that breaks it has no LLFC at the output.

    Args:
        lmc: one split of that measure's entry in `results.json`.

    Returns:
        `{bound, sum, measured, holds}`, fractions: twice the larger of the ends' errors, their sum, and the
        largest error on the path.

    Example:
        >>> lemma1({"error": [0.02, 0.025, 0.03]})
        {'bound': 0.06, 'sum': 0.05, 'measured': 0.03, 'holds': True}
    """
    error = lmc["error"]
    bound, measured = 2 * max(error[0], error[-1]), max(error)
    holds = measured <= (1 + SLACK) * bound
    return {"bound": bound, "sum": error[0] + error[-1], "measured": measured, "holds": holds}


def _gain(stage: Stage, variables: Variables, values: Mapping[str, np.ndarray]) -> float:
    """A Lipschitz constant of a stage in evaluation mode; NaN where none is known."""
    params = variables["params"].get(stage.name, {})
    if stage.kind in ("dense", "conv"):
        positions = math.prod(params["kernel"].shape[:-2])
        return math.sqrt(positions) * float(values[stage.name][0])
    statistics = variables.get("batch_stats", {}).get(stage.name)
    if statistics is not None:
        scale = np.asarray(params.get("scale", 1.0), np.float64)
        deviation = np.sqrt(np.asarray(statistics["var"], np.float64) + stage.layer.epsilon)
        return float(np.max(np.abs(scale) / deviation))
    if isinstance(stage.layer, MaxPool):  # a position lies in so many windows, squared
        return float(math.ceil(stage.layer.window / (stage.layer.stride or stage.layer.window)))
    if isinstance(stage.layer, MeanPool) or stage.kind in ("relu", "flatten", "add", "shortcut", "dropout"):
        return 1.0
    return math.nan
