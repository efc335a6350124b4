"""Panels over α: loss or error of θ_α along paths, with chords, barriers and how uncertain they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llfc_jax.path.chord import excess
from llfc_jax.reporting import reading, style
from llfc_jax.reporting.judgement import Criteria, band
from llfc_jax.reporting.reading import Results
from llfc_jax.results import PathKey

SCALE = {"loss": 1.0, "error": 100.0}
LABELS = {"loss": "loss (nats)", "error": "error (%)"}

VISIBLE_BARRIER = 0.08
"""A barrier of at least this part of the axis's height is spanned by an arrow; a smaller is pointed at."""

MAX_BANDS = 3
"""With more curves in a panel their intervals would hide each other, and are left to the table."""

HEADROOM = 1.15
"""Height of an axis over its highest curve."""

LEAST_TOP = {"loss": 0.1, "error": 5.0}
"""An axis reaches as high at least, so that a change of one example in hundreds looks like one."""


def curve_panel(
    ax: Any, lmc: Results, quantity: str, splits: Sequence[str], colours: Mapping[str, Any], by: Criteria
) -> None:
    """Draws `quantity` (`loss` or `error`) over α for every path in `lmc` and each of `splits`.

    Coloured by path; of two splits in a panel the second is dashed, and else a path with an aligned sibling
    is. Bands are the intervals of the excess over the chord. Labels give each curve's barrier; an arrow marks
    the largest.
    """
    shown = curves(lmc, splits)
    aligned_to = {_first_as_it_was(path) for path in lmc if reading.is_aligned(path)}
    lines, top = [], 0.0
    for (path, split), width in zip(shown, style.widths(len(shown)), strict=True):
        naive = _first_as_it_was(path) in aligned_to and not reading.is_aligned(path)
        dashed, colour = naive or split != splits[0], colours[path]
        alphas = reading.numbers(lmc[path]["alphas"])
        values = SCALE[quantity] * reading.numbers(lmc[path][split][quantity])
        half = SCALE[quantity] * band(lmc[path], split, quantity, by.confidence) * (len(shown) <= MAX_BANDS)
        ends = alphas[[0, -1]], values[[0, -1]]
        label = f"{curve_name(lmc, path, split)}  {barrier(lmc, path, split, quantity)}"
        ax.fill_between(alphas, np.maximum(values - half, 0), values + half, color=colour, alpha=0.15, lw=0)
        ax.plot(alphas, values, "--" if dashed else "-", color=colour, lw=width, clip_on=False, label=label)
        ax.plot(*ends, ":", color=colour, lw=0.9, zorder=1.5)
        ax.plot(*ends, "o", color=colour, ms=4, mec="white", mew=0.5, clip_on=False, zorder=3)
        lines.append((alphas, values, colour))
        top = max(top, float(np.nanmax(values + half / HEADROOM, initial=0)))
    # From zero, so that a path that is flat looks flat; the headroom is for the arrow of a small barrier.
    ax.set_ylim(0, max(HEADROOM * top, LEAST_TOP[quantity]))
    if lines:
        _mark_barrier(ax, *max(lines, key=lambda line: np.nanmax(excess(*line[:2]), initial=0)))
    label_alpha(ax)
    ax.set_ylabel(LABELS[quantity] if "error" in reading.quantities(lmc) else quantity)


def _first_as_it_was(path: str) -> str:
    """The network at alpha = 0, before it was aligned, if it was."""
    return str(PathKey.parse(path).a._replace(aligned=False))


def curves(lmc: Results, splits: Sequence[str]) -> list[tuple[str, str]]:
    """The (path, split) pairs that were measured, in drawing order."""
    return [(path, split) for path in lmc for split in splits if split in lmc[path]]


def curve_name(lmc: Results, path: str, split: str) -> str:
    """What tells a curve from the others: its split along the only path, else its path."""
    return split if len(lmc) == 1 else style.plain(reading.path_label(path))


def barrier(lmc: Results, path: str, split: str, quantity: str) -> str:
    """A curve's barrier with its unit."""
    value = lmc[path][split][f"{quantity}_barrier"]
    return reading.loss(value, lmc) if quantity == "loss" else reading.percent(value)


def legend_above(ax: Any, title: str, columns: int) -> None:
    """The legend, left-aligned above the panel, where it hides no data."""
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, title=title, alignment="left")


def _mark_barrier(ax: Any, alphas: Any, values: Any, colour: str) -> None:
    over = excess(alphas, values)
    if not np.nanmax(over, initial=0) > 0:  # the curve never rises above its chord
        return
    at, height = int(np.nanargmax(over)), ax.get_ylim()[1]
    peak = (alphas[at], values[at])
    if over[at] >= VISIBLE_BARRIER * height:
        tail, arrow = (alphas[at], values[at] - over[at]), "<->"
    else:
        tail, arrow = (alphas[at], values[at] + 0.1 * height), "->"
    shape = {"arrowstyle": arrow, "lw": 0.8, "shrinkA": 0, "shrinkB": 1, "mutation_scale": 6}
    ax.annotate("", xy=peak, xytext=tail, arrowprops={"color": colour, **shape})


def label_alpha(ax: Any) -> None:
    """The axis of α, with the networks at its ends."""
    ax.set_xlim(0, 1)
    ax.set_xticks([0, 0.5, 1], ["0\n" + r"$\theta_A$", "0.5", "1\n" + r"$\theta_B$"])
    ax.set_xticks([0.25, 0.75], minor=True)
