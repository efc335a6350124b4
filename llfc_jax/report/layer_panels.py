"""Panels over layers: LLFC's cosine distance and coefficient at each α, from the first layer to the last."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llfc_jax.report import reading, style
from llfc_jax.report.reading import Results

LOG_RANGE = 30
"""An axis is logarithmic when its largest value is this many times its smallest."""

DECADES = 7
"""A logarithmic axis has room for values this far below its top; smaller ones are drawn as ▽ at its foot."""

CROWDED = 24
"""With more layers than this, error bars become bands and markers shrink."""

POINTS_PER_LABEL = 8.5
"""Points of width that a vertical 7 pt label needs."""

POINTS_PER_LETTER = 4.3
"""Points of width that a letter of a stage's name needs."""

ZERO = 1e-12
"""A distance below this is rounding."""

MARGIN = 0.6
"""Inches of a figure's width that the labels of its vertical axis take."""

Limits = tuple[float, float]
"""The foot and top of an axis, see `limits_of`."""

Series = tuple[str, Any, NDArray[np.float64], NDArray[np.float64]]
"""Label, colour, means and standard deviations, both `(layers,)`."""


def distance_panel(ax: Any, entry: Results, width: float, limits: Limits) -> None:
    """LLFC's cosine distance per layer and α, and its baseline 1 − cos(f⁽ˡ⁾(θ_A), f⁽ˡ⁾(θ_B)).

    Args:
      ax: Where to draw.
      entry: One path of `results["llfc"]`.
      width: The panel's width in inches, from which the layers' labels are thinned.
      limits: The foot and top of the axis, from `distance_limits`.
    """
    set_limits(ax, limits)
    draw_series(ax, _distances(entry), markers="D" + "".join(style.MARKERS), bottom=limits[0])
    label_layers(ax, entry["layers"], width, _unmeasured(entry))
    ax.set_ylabel(r"$1-\cos$")


def distance_limits(entries: Iterable[Results]) -> Limits:
    """Limits for the distances of all `entries`."""
    return limits_of(each for entry in entries for each in _distances(entry))


def set_limits(ax: Any, limits: Limits) -> None:
    """Apply limits from `limits_of`."""
    if limits[0] > 0:
        ax.set_yscale("log", nonpositive="clip")
    ax.set_ylim(*limits)


def limits_of(all_series: Iterable[Series]) -> Limits:
    """Limits for all series together; the lower is positive where the axis is logarithmic."""
    series = list(all_series)
    means = np.concatenate([means for _, _, means, _ in series])
    top = np.nanmax(np.concatenate([means + deviations for _, _, means, deviations in series]), initial=0)
    positive = means[means > 0]
    if not positive.size or positive.max() <= LOG_RANGE * positive.min():
        return 0.0, float(1.08 * top) or 1.0
    return float(positive[positive > positive.max() / 10**DECADES].min() / 3), float(1.5 * top)


def coefficient_panel(ax: Any, entry: Results, width: float) -> None:
    """⟨u, v⟩ / ‖v‖² per layer, where LLFC with c = 1 is the line at one; see `distance_panel`."""
    series = _series(entry, "coefficient")
    ax.axhline(1, color=style.INK, lw=0.7, ls="--", zorder=1.5)
    draw_series(ax, series, markers="".join(style.MARKERS))
    label_layers(ax, entry["layers"], width, _unmeasured(entry))
    ax.set_ylabel(r"coefficient $\langle u, v\rangle\,/\,\Vert v\Vert^2$")


def width_for(layers: int) -> float:
    """The width in inches of a figure over so many layers: a column if their labels fit, else the page."""
    return style.COLUMN if layers * POINTS_PER_LABEL <= 72 * (style.COLUMN - MARGIN) else style.PAGE


def _distances(entry: Results) -> list[Series]:
    means = reading.numbers([layer["baseline"]["mean"] for layer in entry["layers"]])
    deviations = reading.numbers([layer["baseline"]["std"] for layer in entry["layers"]])
    return [("baseline: the two ends", style.INK, means, deviations), *cosine_series(entry)]


def cosine_series(entry: Results) -> list[Series]:
    """The cosine distances of a measure that compares at every layer and α."""
    return _series(entry, "cosine_distance")


def _series(entry: Results, quantity: str) -> list[Series]:
    means = reading.numbers([layer[quantity]["mean"] for layer in entry["layers"]])
    deviations = reading.numbers([layer[quantity]["std"] for layer in entry["layers"]])
    colours = style.colours(len(entry["alphas"]))
    return [
        (rf"$\alpha={alpha:g}$", colour, means[:, index], deviations[:, index])
        for index, (alpha, colour) in enumerate(zip(entry["alphas"], colours, strict=True))
    ]


def draw_series(ax: Any, series: Sequence[Series], markers: str, bottom: float = -np.inf) -> None:
    """Means with their deviations; a mean below `bottom` becomes a ▽ there."""
    layers = len(series[0][2])
    crowded = layers > CROWDED
    for index, (label, colour, means, deviations) in enumerate(series):
        # A small sideways shift keeps the error bars of different α apart.
        step = 0 if crowded else min(0.14, 0.7 / len(series))
        position = np.arange(layers) + step * (index - (len(series) - 1) / 2)
        below = means < bottom
        inside = np.where(below, np.nan, means)
        ax.plot(position, np.maximum(means, bottom), color=colour, lw=0.6, alpha=0.5)
        marks = {"color": colour, "label": label, "ls": "none", "marker": markers[index % len(markers)]}
        if crowded:
            ax.plot(position, inside, ms=1.8 if layers < 100 else 1, **marks)
            ax.fill_between(position, means - deviations, means + deviations, color=colour, alpha=0.1, lw=0)
        else:
            ax.errorbar(position, inside, deviations, elinewidth=0.8, capthick=0.8, **marks)
        if below.any():
            foot = np.full(below.sum(), bottom)
            ax.plot(
                position[below], foot, ls="none", marker="v", ms=4, mfc="white", mec=colour, clip_on=False
            )
    ax.set_xlim(-0.6, layers - 0.4)


def label_layers(ax: Any, layers: Sequence[Results], width: float, unmeasured: Sequence[bool] = ()) -> None:
    """Names the layers, and shades every other stage where the stages' names fit.

    All names are given if they fit; else the last layer's and those after a ReLU, as far as these fit.

    Args:
      ax: Where to draw.
      layers: With `layer` (name) and `kind`, at the positions 0, 1, ...
      width: The panel's width in inches.
      unmeasured: Which of them are marked with a †.
    """
    names = [layer["layer"] for layer in layers]
    pitch = 72 * width / len(names)
    for index, (stage, first, last) in enumerate(stages(names)):
        if not stage or (last - first + 1) * pitch < POINTS_PER_LETTER * (len(stage) + 1):
            continue
        if index % 2:
            ax.axvspan(first - 0.5, last + 0.5, color=style.PALE, lw=0, zorder=0)
        middle, above = (first + last) / 2, ax.get_xaxis_transform()
        ax.text(middle, 1.01, stage, transform=above, ha="center", va="bottom", color=style.GREY)
        names[first : last + 1] = [name.removeprefix(f"{stage}.") for name in names[first : last + 1]]
    marked = unmeasured or [False] * len(layers)
    shown = _labelled([layer["kind"] for layer in layers], gap=POINTS_PER_LABEL / pitch)
    labels = [f"{names[index]} †" if marked[index] else names[index] for index in shown]
    ax.set_xticks(shown, labels, rotation=90)


def _unmeasured(entry: Results) -> list[bool]:
    means = (reading.numbers(layer["cosine_distance"]["mean"]) for layer in entry["layers"])
    return [bool(np.isnan(mean).all()) for mean in means]


def _labelled(kinds: Sequence[str], gap: float) -> list[int]:
    """Layers to name, at least `gap` apart, the last among them.

    >>> _labelled(["conv", "relu", "conv", "relu", "dense"], gap=0.5)
    [0, 1, 2, 3, 4]
    >>> _labelled(["conv", "relu", "conv", "relu", "dense"], gap=1.5)
    [1, 4]
    """
    last = len(kinds) - 1
    if gap <= 1 or "relu" not in kinds:
        candidates = list(range(last))
    else:
        candidates = [index for index, kind in enumerate(kinds) if kind == "relu"]
    chosen = [last]
    for index in reversed(candidates):
        if chosen[-1] - index >= gap:
            chosen.append(index)
    return chosen[::-1]


def stages(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """The runs of layers `stage.layer` that share a stage: name, first, last index; none if names are flat.

    >>> stages(["conv0", "relu0", "block1.conv1", "block1.relu1", "dense"])
    [('', 0, 1), ('block1', 2, 3), ('', 4, 4)]
    """
    if not any("." in name for name in names):
        return []
    runs = groupby(enumerate(names), key=lambda item: item[1].rpartition(".")[0])
    spans = [(stage, [index for index, _ in run]) for stage, run in runs]
    return [(stage, indices[0], indices[-1]) for stage, indices in spans]
