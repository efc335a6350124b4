"""Panels over the spawn epoch: how connected and how linear the pairs of a sweep are."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from llfc_jax.reporting import judgement, reading, style
from llfc_jax.reporting.path_panels import SCALE
from llfc_jax.reporting.reading import Results

HEADROOM = 2.5
"""An axis of barriers reaches this many times their limit at least: what is far below it looks so."""


def barrier_panel(ax: Any, results: Results, quantity: str) -> None:
    """The test barrier of `quantity` (`loss` or `error`) against the spawn epoch, a line per convention."""
    scale, lmc = SCALE[quantity], results["lmc"]
    limit = np.nan
    found = {path: _of_test(judgement.barriers(results, path), quantity) for path in lmc}
    for label, places, barriers, look in _lines(lmc, found):
        values, low, high, limits = (
            scale * np.array([getattr(barrier, field) for barrier in barriers])
            for field in ("value", "low", "high", "limit")
        )
        limit = limits[0]
        ax.plot(places, values, label=label, **look)
        ax.fill_between(places, low, high, color=look["color"], alpha=0.15, lw=0)
    ax.axhline(limit, color=style.GREY, lw=0.7, ls="--", zorder=1.5)
    ax.set_ylim(0, max(ax.get_ylim()[1], HEADROOM * limit))
    _label_epochs(ax, lmc)
    ax.set_ylabel("loss barrier (nats)" if quantity == "loss" else "error barrier (%)")


def linearity_panel(ax: Any, results: Results) -> None:
    """Each layer's distance in units of the nearer end's: median over layers, and the worst."""
    llfc, examples = results["llfc"], results["data"]["test_examples"]
    found = {path: judgement.llfc_shares(entry, examples) for path, entry in llfc.items()}
    for label, places, shares, look in _lines(llfc, found):
        known = [each[np.isfinite(each)] for each in shares]
        middle, worst = (
            np.array([f(each) if each.size else np.nan for each in known]) for f in (np.median, np.max)
        )
        ax.plot(places, middle, label=label, **look)
        ax.fill_between(places, middle, worst, color=look["color"], alpha=0.15, lw=0)
    ax.axhline(judgement.criteria(results).max_llfc, color=style.GREY, lw=0.7, ls="--", zorder=1.5)
    ax.set_ylim(0, max(1.05, ax.get_ylim()[1]))
    _label_epochs(ax, llfc)
    ax.set_ylabel("LLFC: distance, in units\nof the nearer end's")


def _of_test(barriers: tuple[judgement.Barrier, ...], quantity: str) -> judgement.Barrier:
    return next(one for one in barriers if (one.split, one.quantity) == ("test", quantity))


def _epochs(entries: Results) -> list[float]:
    return sorted({epoch for path in entries if (epoch := reading.spawn_epoch(path)) is not None})


def _label_epochs(ax: Any, entries: Results) -> None:
    """One place for each epoch: they are often 0 and the powers of two."""
    epochs = _epochs(entries)
    ax.set_xticks(range(len(epochs)), [f"{epoch:g}" for epoch in epochs])


def _lines(
    entries: Results, values: Mapping[str, Any]
) -> Iterator[tuple[str, list[int], list[Any], dict[str, Any]]]:
    """Label, places on the axis, values and look of each convention that was measured."""
    epochs, conventions = _epochs(entries), list(dict.fromkeys(map(reading.convention, entries)))
    colours = style.path_colours(conventions)
    for index, convention in enumerate(conventions):
        points = sorted(
            (epochs.index(epoch), path)
            for path in entries
            if (epoch := reading.spawn_epoch(path)) is not None and reading.convention(path) == convention
        )
        look = {"color": colours[convention], "marker": style.MARKERS[index % len(style.MARKERS)]}
        places = [place for place, _ in points]
        yield convention or "as interpolated", places, [values[path] for _, path in points], look
