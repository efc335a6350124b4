"""Panels over layers that say why LLFC holds: its causes, the account of deviations, how alike the ends are.

Each draws one path's entry of one measure in `results.json`.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from llfc_jax.reporting import layer_panels, reading, style
from llfc_jax.reporting.reading import Results

PARTS = {
    "propagated": ("propagated from below", "#B0B0B0"),
    "commutativity": ("no commutativity", style.QUANTITIES[0]),
    "weak_additivity": ("no weak additivity", style.QUANTITIES[1]),
    "normalization": ("normalisation", style.QUANTITIES[2]),
    "pooling": ("pooling", style.QUANTITIES[3]),
}
"""Part of a deviation -> its label and colour; others share the last colour."""

LEAST_DEVIATION = 0.05
"""The axis of ‖δ‖ / ‖v‖ reaches as high at least."""

LEAST_ERROR = 5.0
"""The axis of stitched networks' errors (%) does."""


def weak_additivity_panel(ax: Any, entry: Results, width: float, limits: layer_panels.Limits) -> None:
    """1 − cos between σ(h_A) + σ(h_B) and σ(h_A + h_B) at every ReLU: median and quartiles over samples."""
    layer_panels.set_limits(ax, limits)
    series = layer_panels.cosine_series(entry)
    layer_panels.draw_series(ax, series, markers="".join(style.MARKERS), bottom=limits[0])
    layer_panels.label_layers(ax, entry["layers"], width)
    ax.set_ylabel("weak additivity\n" + r"$1-\cos$")


def commutativity_panel(ax: Any, entry: Results, width: float, limits: layer_panels.Limits) -> None:
    """Dist_com, Dist_W and Dist_H at every linear layer; a zero has no place on the logarithmic axis."""
    layers = entry["layers"]
    found = [
        (r"$\mathrm{Dist_{com}}$", [layer["dist_com"]["dataset"] for layer in layers]),
        (r"$\mathrm{Dist}_W$", [layer["dist_w"] for layer in layers]),
        (r"$\mathrm{Dist}_H$", [layer["dist_h"]["dataset"] for layer in layers]),
    ]
    layer_panels.set_limits(ax, limits)
    for (label, values), colour, marker in zip(found, style.QUANTITIES, style.MARKERS, strict=False):
        shown = np.where(reading.numbers(values) > layer_panels.ZERO, reading.numbers(values), np.nan)
        ax.plot(shown, f"{marker}-", color=colour, lw=0.7, label=label)
    ax.set_xlim(-0.6, len(layers) - 0.4)
    layer_panels.label_layers(ax, layers, width)
    ax.set_ylabel("commutativity")


def deviation_panel(ax: Any, entry: Results, width: float) -> None:
    """‖δ‖ / ‖v‖ per layer at α ≈ ½ as bars, split by the shares of their parts."""
    at, layers = reading.nearest_half(entry["alphas"]), entry["layers"]
    heights = reading.numbers([layer["deviation"][at] for layer in layers])
    positions, lower, upper = np.arange(len(layers)), np.zeros(len(layers)), np.zeros(len(layers))
    for part in dict.fromkeys(part for layer in layers for part in layer["shares"]):
        shares = reading.numbers([layer["shares"].get(part, [0.0] * (at + 1))[at] for layer in layers])
        values = np.nan_to_num(shares * heights)
        label, colour = PARTS.get(part, (style.plain(part.replace("_", " ")), style.QUANTITIES[-1]))
        foot = np.where(values >= 0, upper, lower)
        ax.bar(positions, values, 0.85, foot, color=colour, label=label)
        upper, lower = upper + np.maximum(values, 0), lower + np.minimum(values, 0)
    ax.axhline(0, color=style.INK, lw=0.5)
    layer_panels.reach_at_least(ax, LEAST_DEVIATION)
    ax.set_xlim(-0.6, len(layers) - 0.4)
    layer_panels.label_layers(ax, layers, width)
    ax.set_ylabel(r"deviation $\Vert\delta\Vert\,/\,\Vert v\Vert$")


def stitching_panel(ax: Any, entry: Results, width: float, limits: layer_panels.Limits) -> None:
    """Test error (%), or loss, of the networks stitched behind each layer, in both directions."""
    layers = entry["layers"]
    quantity, scale = _stitched(entry)
    directions = {"prefix_a": "A up to ℓ, then B", "prefix_b": "B up to ℓ, then A"}
    for (direction, label), prefix, marker in zip(directions.items(), (0, 1), style.MARKERS, strict=False):
        colour = style.alpha_colour(prefix)
        scores = scale * reading.numbers([layer[direction][quantity] for layer in layers])
        ax.plot(scores, f"{marker}-", color=colour, lw=0.7, ms=2.2, label=label)
    ax.set_xlim(-0.6, len(layers) - 0.4)
    ax.set_ylim(*limits)
    layer_panels.label_layers(ax, layers, width)
    ax.set_ylabel("error (%)" if quantity == "error" else quantity)


def angles_panel(ax: Any, entry: Results, width: float) -> None:
    """Principal angles between A's and B's leading singular subspaces: smallest, median and largest."""
    layers = entry["layers"]
    for index, (side, label) in enumerate((("left", "left (outputs)"), ("right", "right (inputs)"))):
        angles = [reading.numbers(layer[side]) for layer in layers]
        middle = np.array([np.median(each) for each in angles])
        spread = [middle - [each.min() for each in angles], [each.max() for each in angles] - middle]
        position = np.arange(len(layers)) + 0.16 * (2 * index - 1)
        ax.errorbar(
            position, middle, spread, ls="none", marker=style.MARKERS[index], color=style.QUANTITIES[index],
            elinewidth=0.8, label=label,
        )  # fmt: skip
    ax.set_xlim(-0.6, len(layers) - 0.4)
    ax.set_ylim(0, 92)
    ax.set_yticks([0, 30, 60, 90])
    layer_panels.label_layers(ax, layers, width)
    ax.set_ylabel("principal angle (°)")


def rank_panel(ax: Any, entry: Results, width: float, limits: layer_panels.Limits) -> None:
    """Effective rank of the features (discs) and of the weights (squares) of θ_α, the first α outermost."""
    layers, alphas = entry["layers"], entry["alphas"]
    for index, (alpha, width_of) in enumerate(zip(alphas, style.widths(len(alphas)), strict=True)):
        for what, mark, line in (("features", "o", "-"), ("weights", "s", "none")):
            values = reading.numbers([layer[what][index] if what in layer else np.nan for layer in layers])
            look = {"color": style.alpha_colour(alpha), "ms": 1.2 + 1.4 * width_of, "lw": width_of}
            label = rf"$\alpha={alpha:g}$" if what == "features" else None
            ax.plot(values, marker=mark, ls=line, label=label, **look)
    layer_panels.set_limits(ax, limits)
    ax.set_xlim(-0.6, len(layers) - 0.4)
    layer_panels.label_layers(ax, layers, width)
    ax.set_ylabel("effective rank")


def rank_limits(entries: Iterable[Results]) -> layer_panels.Limits:
    """Limits that suit all paths, a decade apart at least."""
    layers = [layer for entry in entries for layer in entry["layers"]]
    ranks = [rank for layer in layers for what in ("features", "weights") for rank in layer.get(what, [])]
    high = max(10.0, float(np.nanmax(reading.numbers(ranks), initial=1)))
    found = reading.numbers(ranks)
    return 0.8 * min(high / 10, float(np.min(found[found >= 1], initial=high))), 1.25 * high


def weak_additivity_limits(entries: Iterable[Results]) -> layer_panels.Limits:
    """Limits that suit all paths."""
    return layer_panels.limits_of(each for entry in entries for each in layer_panels.cosine_series(entry))


def stitching_limits(entries: Iterable[Results]) -> layer_panels.Limits:
    """Limits that suit all paths, from zero."""
    shown = [(entry, *_stitched(entry)) for entry in entries]
    scores = [
        scale * reading.numbers([layer[side][quantity] for layer in entry["layers"]])
        for entry, quantity, scale in shown
        for side in ("prefix_a", "prefix_b")
    ]
    highest = 1.08 * float(np.nanmax(np.concatenate(scores), initial=0))
    return 0.0, max(LEAST_ERROR, highest) if "error" in {quantity for _, quantity, _ in shown} else highest


def _stitched(entry: Results) -> tuple[str, float]:
    """What is drawn of stitched networks, and in which unit."""
    has_errors = all("error" in layer[side] for layer in entry["layers"] for side in ("prefix_a", "prefix_b"))
    return ("error", 100.0) if has_errors else ("loss", 1.0)


def commutativity_limits(entries: Iterable[Results]) -> layer_panels.Limits:
    """Limits that suit all paths, on a logarithmic axis."""
    values = [
        layer[name] if name == "dist_w" else layer[name]["dataset"]
        for entry in entries
        for layer in entry["layers"]
        for name in ("dist_com", "dist_w", "dist_h")
    ]
    found = reading.numbers(values)
    positive = found[found > layer_panels.ZERO]
    return (positive.min() / 2, 2 * positive.max()) if positive.size else (1e-3, 1.0)
