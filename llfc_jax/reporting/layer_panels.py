"""Panels over layers: LLFC's distance and coefficient at each α, from the first layer to the last."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llfc_jax.reporting import reading, style
from llfc_jax.reporting.reading import Results

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

LEAST_PART = 0.01
"""Foot of the axis of LLFC's parts: less is as good as on the line."""

LEAST_SPREAD = 0.2
"""The axis of coefficients reaches as far to both sides of one, at least."""

MARGIN = 0.6
"""Inches of a figure's width that the labels of its vertical axis take."""

QUARTILES = ("median", "q25", "q75")
"""What is drawn of a distance, as fields of `Series`."""

Limits = tuple[float, float]
"""The foot and top of an axis, see `limits_of`."""


class Series(NamedTuple):
    """A number for each layer, with how far it varies over samples; all `(layers,)`."""

    label: str
    colour: Any
    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def distance_panel(ax: Any, entry: Results, width: float, limits: Limits) -> None:
    """LLFC's cosine distance per layer and α, the nearer end's at α ≈ ½, and between the ends.

    Args:
      ax: Where to draw.
      entry: One path of `results["llfc"]`.
      width: The panel's width in inches, from which the layers' labels are thinned.
      limits: The foot and top of the axis, from `distance_limits`.
    """
    set_limits(ax, limits)
    draw_series(ax, _distances(entry), markers="Dd" + "".join(style.MARKERS), bottom=limits[0])
    label_layers(ax, entry["layers"], width, _unmeasured(entry))
    ax.set_ylabel(r"$1-\cos$")


def distance_limits(entries: Iterable[Results]) -> Limits:
    """Limits for the distances of all `entries`."""
    return limits_of(each for entry in entries for each in _distances(entry))


def set_limits(ax: Any, limits: Limits) -> None:
    """Apply limits from `limits_of`."""
    ax.set_ylim(*limits)
    if limits[0] > 0:
        ax.set_yscale("log", nonpositive="clip")
        ax.set_ylim(*limits)
        style.log_ticks(ax.yaxis)


def limits_of(all_series: Iterable[Series]) -> Limits:
    """Limits for all series together; the lower is positive where the axis is logarithmic."""
    series = list(all_series)
    middle = np.concatenate([each.middle for each in series])
    top = np.nanmax(np.concatenate([each.high for each in series]), initial=0)
    positive = middle[middle > ZERO]
    if not positive.size or positive.max() <= LOG_RANGE * positive.min():
        return 0.0, float(1.08 * top) or 1.0
    low = np.concatenate([each.low for each in series])
    shown = low[low > positive.max() / 10**DECADES]
    return float(min(positive[positive > positive.max() / 10**DECADES].min(), shown.min()) / 1.5), 1.5 * top


def part_panel(
    ax: Any, parts: Mapping[str, NDArray[np.float64]], layers: Sequence[Results], width: float, limit: float,
    colours: Mapping[str, Any], label: Callable[[str], str] = reading.path_label,
    spreads: Mapping[str, NDArray[np.float64]] | None = None,
) -> None:  # fmt: skip
    """Each layer's distance at α ≈ ½ in units of the nearer end's, a line for each path.

    Args:
      ax: Where to draw.
      parts: Path -> from `judgement.llfc_shares`.
      layers: With `layer` and `kind`.
      width: The panel's width in inches.
      limit: Where LLFC ends; NaN for none.
      colours: Path -> its colour.
      label: Path -> what the legend calls it.
      spreads: Path -> half the width of a band around its line.
    """
    known = np.concatenate([*parts.values()])
    top = max(2.0, 1.5 * float(np.max(known[np.isfinite(known)], initial=0)))
    beside = {"transform": ax.get_yaxis_transform(), "color": style.GREY}
    for height, name, line in ((1.0, "nearer end", ":"), (limit, "limit", "--")):
        if np.isnan(height):
            continue
        ax.axhline(height, color=style.GREY, lw=0.7, ls=line, zorder=1.5)
        side = "bottom" if height == np.fmax(limit, 1.0) else "top"  # a short panel has no room between
        ax.text(0.01, height, name, va=side, **beside)  # the first layer is on the line in any pair
    set_limits(ax, (LEAST_PART, top))
    for (path, values), size, mark in zip(
        parts.items(), style.widths(len(parts)), itertools.cycle(style.MARKERS), strict=False
    ):
        look = {"color": colours[path], "label": style.plain(label(path))}
        shown = np.clip(values, LEAST_PART, top)
        inside = np.where((values < LEAST_PART) | np.isinf(values), np.nan, shown)
        small = 1.5 if len(layers) > CROWDED else 3
        ax.plot(shown, lw=0.6 * size, alpha=0.5, color=colours[path])
        ax.plot(inside, ls="none", marker=mark, ms=small * (0.7 + 0.3 * size), **look)
        if spreads is not None:
            around = (np.clip(values + way * spreads[path], LEAST_PART, top) for way in (-1, 1))
            ax.fill_between(range(len(values)), *around, color=colours[path], alpha=0.15, lw=0)
        for beyond, at, arrow in ((values < LEAST_PART, LEAST_PART, "v"), (np.isinf(values), top, "^")):
            _mark_beyond(ax, np.flatnonzero(beyond), at, arrow, colours[path], 2 + 2 * size)
    ax.set_xlim(-0.6, len(layers) - 0.4)
    label_layers(ax, layers, width)
    ax.set_ylabel("distance, in units\nof the nearer end's")


def coefficient_panel(ax: Any, entry: Results, width: float) -> None:
    """⟨u, v⟩ / ‖v‖² per layer, where LLFC with c = 1 is the line at one; see `distance_panel`."""
    series = [
        Series(label, colour, middle, middle - std, middle + std)
        for label, colour, middle, std in _along(entry, "coefficient", ("mean", "std"))
    ]
    ax.axhline(1, color=style.INK, lw=0.7, ls="--", zorder=1.5)
    draw_series(ax, series, markers="".join(style.MARKERS))
    reach_at_least(ax, 1 - LEAST_SPREAD, 1 + LEAST_SPREAD)
    label_layers(ax, entry["layers"], width, _unmeasured(entry))
    ax.set_ylabel(r"coefficient $\langle u, v\rangle\,/\,\Vert v\Vert^2$")


def reach_at_least(ax: Any, *heights: float) -> None:
    """Have the vertical axis, which other panels may share, show these values as well as the data."""
    ax.update_datalim([(0, height) for height in heights])
    ax.autoscale_view(scalex=False)


def width_for(layers: int) -> float:
    """The width in inches of a figure over so many layers: a column if their labels fit, else the page."""
    return style.COLUMN if layers * POINTS_PER_LABEL <= 72 * (style.COLUMN - MARGIN) else style.PAGE


def _distances(entry: Results) -> list[Series]:
    layers, at = entry["layers"], reading.nearest_half(entry["alphas"])
    apart = (reading.numbers([layer["baseline"][name] for layer in layers]) for name in QUARTILES)
    end = reading.numbers([layer["end"]["mean"][at] for layer in layers])
    half = reading.alpha_label(entry["alphas"][at])
    return [
        Series("A against B", style.INK, *apart),
        Series(f"nearer end, α = {half}", style.GREY, end, end, end),
        *cosine_series(entry),
    ]


def cosine_series(entry: Results) -> list[Series]:
    """The cosine distances of a measure that compares at every layer and α: medians and quartiles."""
    return [Series(*each) for each in _along(entry, "cosine_distance", QUARTILES)]


def _along(entry: Results, quantity: str, statistics: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Label, colour and statistics of each α."""
    found = [reading.numbers([layer[quantity][name] for layer in entry["layers"]]) for name in statistics]
    for index, alpha in enumerate(entry["alphas"]):
        yield rf"$\alpha={alpha:g}$", style.alpha_colour(alpha), *(values[:, index] for values in found)


def draw_series(ax: Any, series: Sequence[Series], markers: str, bottom: float = -np.inf) -> None:
    """Middles with what lies around them; a middle below `bottom` becomes a ▽ there."""
    layers = len(series[0].middle)
    crowded = layers > CROWDED
    for index, (label, colour, middle, low, high) in enumerate(series):
        # A small sideways shift keeps the error bars of different α apart.
        step = 0 if crowded else min(0.14, 0.7 / len(series))
        position = np.arange(layers) + step * (index - (len(series) - 1) / 2)
        below = middle < bottom
        inside = np.where(below, np.nan, middle)
        ax.plot(position, np.maximum(middle, bottom), color=colour, lw=0.6, alpha=0.5)
        marks = {"color": colour, "label": label, "ls": "none", "marker": markers[index % len(markers)]}
        if crowded:
            ax.plot(position, inside, ms=1.8 if layers < 100 else 1, **marks)
            ax.fill_between(position, low, high, color=colour, alpha=0.1, lw=0)
        else:
            around = np.maximum([inside - low, high - inside], 0)
            ax.errorbar(position, inside, around, elinewidth=0.8, capthick=0.8, **marks)
        _mark_beyond(ax, position[below], bottom, "v", colour)
    ax.set_xlim(-0.6, layers - 0.4)


def _mark_beyond(ax: Any, places: Any, edge: float, arrow: str, colour: Any, size: float = 4) -> None:
    """Open triangles at the edge of the axis, for what lies beyond it."""
    if len(places):  # an empty line that isn't clipped has a box that breaks the layout
        look = {"ls": "none", "marker": arrow, "ms": size, "mfc": "white", "mec": colour, "clip_on": False}
        ax.plot(places, np.full(len(places), edge), **look)


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
        ax.text(middle, 1.01, style.plain(stage), transform=above, ha="center", va="bottom", color=style.GREY)
        names[first : last + 1] = [name.removeprefix(f"{stage}.") for name in names[first : last + 1]]
    marked = unmeasured or [False] * len(layers)
    shown = _labelled([layer["kind"] for layer in layers], gap=POINTS_PER_LABEL / pitch)
    labels = [style.plain(names[index]) + " †" * marked[index] for index in shown]
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

    What has no stage of its own between two layers of one, such as the products of its attention, is its.

    >>> stages(["conv0", "relu0", "block1.conv1", "block1.relu1", "dense"])
    [('', 0, 1), ('block1', 2, 3), ('', 4, 4)]
    >>> stages(["block1.query", "product1", "block1.out", "product2", "block2.out"])
    [('block1', 0, 2), ('', 3, 3), ('block2', 4, 4)]
    """
    own = [name.rpartition(".")[0] for name in names]
    if not any(own):
        return []
    before, after = _carried_on(own), _carried_on(own[::-1])[::-1]
    inside = [one if one == other else "" for one, other in zip(before, after, strict=True)]
    runs = itertools.groupby(range(len(names)), key=lambda index: own[index] or inside[index])
    spans = [(stage, [*run]) for stage, run in runs]
    return [(stage, indices[0], indices[-1]) for stage, indices in spans]


def _carried_on(names: Sequence[str]) -> list[str]:
    """The last name before it, where one is empty."""
    found: list[str] = []
    for name in names:
        found.append(name or (found[-1] if found else ""))
    return found
