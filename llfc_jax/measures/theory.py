"""The paper's theory, checked on measured pairs: Theorem 1 as a bound, and Lemma 1."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from llfc_jax.measures.deviation import ARISING
from llfc_jax.measures.gains import keeps_positions, stretched
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.nodes import weight_values
from llfc_jax.measures.singular_values import singular_values_along

SLACK = 1e-3
"""A bound counts as kept up to this relative error: that of float32 sums over a dataset."""


def measure(options: Options) -> Measure:
    """`{theorem1, lemma1}`, each where what it needs was measured before it."""
    del options

    def entry(found: Found) -> dict[str, Any] | None:
        said: dict[str, Any] = {}
        if "deviation" in found.entries:
            said["theorem1"] = theorem1(found, found.entries["deviation"])
        if "error" in found.entries.get("lmc", {}).get(TEST, {}):
            said["lemma1"] = lemma1(found.entries["lmc"][TEST])
        return said or None

    return Measure("theory", lambda program: {}, entry)


def theorem1(
    found: Found,
    deviation: Mapping[str, Any],
) -> dict[str, Any]:
    """How far the features may deviate from linearity, given what arises in each layer.

    Theorem 1 of LLFC: if every ReLU is weakly additive and every linear layer commutes, then LLFC holds with
    c = 1. Quantitatively, the deviation delta_l (see `measures.deviation`) obeys

        ||delta_l||  <=  gain_l ||delta_(l-1)|| + ||own_l||,

    where own_l is what the failure of either (or of a norm or a pooling) adds in layer l, and gain_l bounds
    how much the layer can stretch a difference of inputs: 1 for ReLU, additions and maxima over windows
    apart, more where windows overlap, sqrt(h w) times the largest singular value for an h x w convolution of
    theta_alpha, the largest scale / sqrt(var + eps) for BatchNorm (see `measures.gains`). From zeros at the
    input, this bounds every layer; it is zero where the theorem's premises hold exactly. Layers without such
    a gain (LayerNorm, attention) or with an unknown input have no bound, nor do those above them; under a
    mask of positions, nor do those that mix positions, as what it hides then has a say.

    Args:
        found: the network, A and B.
        deviation: that measure's entry in `results.json`: `{alphas, layers}`.

    Returns:
        `{alphas, holds, layers}`: for each layer `{layer, bound, deviation, holds}`, the first two relative
        to ||v||, as lists parallel to the alphas; NaN and None without a bound. The whole `holds` is False if
        a layer's is, else None if one is None.
    """
    program, alphas = found.program, deviation["alphas"]
    measured = {layer["layer"]: layer for layer in deviation["layers"]}
    of_weights = [weight_values(program, found.curve.at(alpha)) for alpha in alphas]
    norms = {
        name: [float(one[0]) for one in along] for name, along in singular_values_along(found, alphas).items()
    }
    bounds: list[dict[int, float]] = [{} for _ in alphas]
    layers = []
    for node in program.nodes:
        inherited = [
            stretched(program.flat, node, *along)
            for along in zip(bounds, of_weights, norms.get(node.name, [None] * len(alphas)), strict=True)
        ]
        if len(program.counted) > 1 and any(inherited) and not keeps_positions(program, node):
            inherited = [math.nan] * len(alphas)
        seen, part = measured.get(node.name), ARISING.get(node.kind)
        scale = np.asarray(seen["scale"]) if seen is not None else np.ones(len(alphas))
        unmeasured = np.full(len(alphas), np.nan if part else 0.0)
        arising = scale * (seen["norms"][part] if seen is not None and part else unmeasured)
        total = np.asarray(inherited) + arising
        for own, bound in zip(bounds, total.tolist(), strict=True):
            own[node.value] = bound
        if seen is None:
            continue
        bound = total / np.where(scale > 0, scale, 1)
        holds = np.asarray(seen["deviation"]) <= (1 + SLACK) * bound + np.finfo(np.float32).eps
        layers.append(
            {
                "layer": node.name,
                "bound": bound.tolist(),
                "deviation": seen["deviation"],
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
