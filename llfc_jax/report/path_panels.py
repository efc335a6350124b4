"""Panels over α: loss or error of θ_α along one or more paths, with chords and barriers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from llfc_jax.report import reading, style
from llfc_jax.report.reading import Results

SCALE = {"loss": 1.0, "error": 100.0}
LABELS = {"loss": "loss (nats)", "error": "error (%)"}

VISIBLE_BARRIER = 0.08
"""A barrier of at least this part of the axis's height is spanned by an arrow; a smaller is pointed at."""


def curve_panel(ax: Any, lmc: Results, quantity: str, splits: Sequence[str]) -> None:
    """Draws `quantity` (`loss` or `error`) over α for every path in `lmc` and each of `splits`.

    One path is coloured by split; several are coloured by path, and those with an aligned sibling are dashed.
    Labels give each curve's barrier; an arrow marks the largest.
    """
    shown = curves(lmc, splits)
    aligned_to = {reading.ends(path)[0] for path in lmc if reading.is_aligned(path)}
    lines = []
    for (path, split), colour in zip(shown, style.colours(len(shown)), strict=True):
        dashed = reading.ends(path)[0] in aligned_to and not reading.is_aligned(path)
        alphas = reading.numbers(lmc[path]["alphas"])
        values = SCALE[quantity] * reading.numbers(lmc[path][split][quantity])
        ends = alphas[[0, -1]], values[[0, -1]]
        label = f"{curve_name(lmc, path, split)}  {barrier(lmc, path, split, quantity)}"
        ax.plot(alphas, values, "--" if dashed else "-", color=colour, clip_on=False, label=label)
        if not dashed:
            ax.plot(alphas, values, ".", color=colour, ms=2.2, clip_on=False)
        ax.plot(*ends, ":", color=colour, lw=0.9, zorder=1.5)
        ax.plot(*ends, "o", color=colour, ms=4, mec="white", mew=0.5, clip_on=False, zorder=3)
        lines.append((alphas, values, colour))
    # From zero, so that a path that is flat looks flat; the headroom is for the arrow of a small barrier.
    top = max((np.nanmax(values, initial=0) for _, values, _ in lines), default=0) or 1
    ax.set_ylim(0, 1.15 * top)
    if lines:
        _mark_barrier(ax, *max(lines, key=lambda line: np.nanmax(_excess(*line[:2]), initial=0)))
    _label_alpha(ax)
    ax.set_ylabel(LABELS[quantity])


def curves(lmc: Results, splits: Sequence[str]) -> list[tuple[str, str]]:
    """The (path, split) pairs that were measured, in drawing order."""
    return [(path, split) for path in lmc for split in splits if split in lmc[path]]


def curve_name(lmc: Results, path: str, split: str) -> str:
    """What tells a curve from the others: its split along the only path, else its path."""
    return split if len(lmc) == 1 else reading.path_label(path)


def barrier(lmc: Results, path: str, split: str, quantity: str) -> str:
    """A curve's barrier with its unit."""
    value = lmc[path][split][f"{quantity}_barrier"]
    return f"{reading.nats(value)} nats" if quantity == "loss" else reading.percent(value)


def legend_above(ax: Any, title: str, columns: int) -> None:
    """The legend, left-aligned above the panel, where it hides no data."""
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, title=title, alignment="left")


def _excess(alphas: Any, values: Any) -> Any:
    return values - ((1 - alphas) * values[0] + alphas * values[-1])


def _mark_barrier(ax: Any, alphas: Any, values: Any, colour: str) -> None:
    excess = _excess(alphas, values)
    if not np.nanmax(excess, initial=0) > 0:  # the curve never rises above its chord
        return
    at, height = int(np.nanargmax(excess)), ax.get_ylim()[1]
    peak = (alphas[at], values[at])
    if excess[at] >= VISIBLE_BARRIER * height:
        tail, arrow = (alphas[at], values[at] - excess[at]), "<->"
    else:
        tail, arrow = (alphas[at], values[at] + 0.1 * height), "->"
    shape = {"arrowstyle": arrow, "lw": 0.8, "shrinkA": 0, "shrinkB": 1, "mutation_scale": 6}
    ax.annotate("", xy=peak, xytext=tail, arrowprops={"color": colour, **shape})


def _label_alpha(ax: Any) -> None:
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0\n" + r"$\theta_A$", "0.5", "1\n" + r"$\theta_B$"])
    ax.set_xticks([0.25, 0.75], minor=True)
