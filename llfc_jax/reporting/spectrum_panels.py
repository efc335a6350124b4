"""Spectra of weights and features: the singular values of A, B and a network between them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llfc_jax.reporting import reading, style
from llfc_jax.reporting.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LAYERS = 4
"""Of all that have one, evenly spread over depth."""

FLOOR = 1e-4
"""Of the largest; what is smaller lies below the axis."""


def draw(results: Results) -> "Figure | None":
    """Singular values over their rank, a row for weights and one for features; several layers each."""
    paths = results.get("singular_values")
    if not paths:
        return None
    layers = next(iter(paths.values()))["layers"]
    rows = [(what, _chosen(layers, what)) for what in ("weights", "features")]
    rows = [(what, names) for what, names in rows if names]
    figure = style.figure(style.PAGE, 0.7 + 1.6 * len(rows) + 0.14 * len(paths))
    axes = figure.subplots(len(rows), MOST_LAYERS, sharey=True, squeeze=False)
    for row, (what, names) in zip(axes, rows, strict=True):
        for ax, name in zip(row, names, strict=False):
            _panel(ax, paths, name, what)
        for ax in row[len(names) :]:
            ax.set_axis_off()
        row[0].set_ylabel(f"of {what}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside upper left")
    figure.supxlabel("rank of the singular value, of all", fontsize="medium")
    return figure


def caption(results: Results) -> str:
    """What the figure shows."""
    del results
    return (
        "Singular values of weights, as (outputs × inputs) matrices, and of features, as (samples and "
        f"positions × units), over the largest: of the ends, and of a network halfway on each path. "
        f"{MOST_LAYERS} layers at most, evenly spread over depth; all are in results.json."
    )


def _chosen(layers: list[Results], what: str) -> list[str]:
    names = [layer["layer"] for layer in layers if what in layer]
    places = np.unique(np.linspace(0, len(names) - 1, MOST_LAYERS).round().astype(int)) if names else ()
    return [names[place] for place in places]


def _panel(ax: Any, paths: Results, name: str, what: str) -> None:
    colours = style.path_colours([*paths])
    for path, entry in paths.items():
        start, middle, end = next(own for own in entry["layers"] if own["layer"] == name)[what]
        label_a, label_b = map(reading.network_label, reading.ends(path))
        if path == next(iter(paths)):
            _spectrum(ax, start, "-", color=style.INK, label=style.plain(label_a))
            _spectrum(ax, end, "--", color=style.GREY, label=style.plain(label_b))
        at = style.plain(f"{reading.path_label(path)} at {reading.alpha_label(entry['alphas'][1])}")
        _spectrum(ax, middle, "-", color=colours[path], label=at)
    ax.set_yscale("log")
    ax.set_ylim(FLOOR, 1.5)
    ax.set_xlim(0, 1)
    ax.set_title(style.plain(name), loc="left")


def _spectrum(ax: Any, values: list[float], line: str, **look: Any) -> None:
    heights = reading.numbers(values)
    largest = heights[:1].max(initial=0) or 1.0
    places = (np.arange(len(heights)) + 1) / max(len(heights), 1)
    shown = np.where(heights > 0, heights / largest, np.nan)
    ax.plot(places, shown, line, marker="." if len(heights) <= 12 else None, **look)
