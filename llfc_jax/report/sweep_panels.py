"""Panels over the spawn epoch: how connected and how linear the pairs of a sweep are."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from llfc_jax.report import reading, style
from llfc_jax.report.judgement import MAX_BASELINE_SHARE, MAX_ERROR_BARRIER, baseline_shares
from llfc_jax.report.path_panels import SCALE
from llfc_jax.report.reading import Results


def barrier_panel(ax: Any, lmc: Results, quantity: str) -> None:
    """The test barrier of `quantity` (`loss` or `error`) against the spawn epoch, a line per convention."""
    scale = SCALE[quantity]
    for label, epochs, barriers, look in _lines(lmc, lambda e: e["test"][f"{quantity}_barrier"]):
        ax.plot(epochs, scale * reading.numbers(barriers), label=label, **look)
    if quantity == "error":
        ax.axhline(scale * MAX_ERROR_BARRIER, color=style.GREY, lw=0.7, ls="--", zorder=1.5)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("loss barrier (nats)" if quantity == "loss" else "error barrier (%)")


def linearity_panel(ax: Any, llfc: Results) -> None:
    """Each layer's cosine distance as a part of its baseline (%): median over layers, and the worst."""
    for label, epochs, shares, look in _lines(llfc, baseline_shares):
        middle, worst = (100 * np.array([f(each) for each in shares]) for f in (np.nanmedian, np.nanmax))
        ax.plot(epochs, middle, label=label, **look)
        ax.fill_between(epochs, middle, worst, color=look["color"], alpha=0.15, lw=0)
    ax.axhline(100 * MAX_BASELINE_SHARE, color=style.GREY, lw=0.7, ls="--", zorder=1.5)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylabel("LLFC: part of baseline (%)")


def _lines(
    entries: Results, value: Callable[[Results], Any]
) -> Iterator[tuple[str, list[float], list[Any], dict[str, Any]]]:
    """Label, spawn epochs, values and look of each convention that was measured."""
    conventions = list(dict.fromkeys(map(reading.convention, entries)))
    for index, (convention, colour) in enumerate(
        zip(conventions, style.colours(len(conventions)), strict=True)
    ):
        points = sorted(
            (epoch, path)
            for path in entries
            if (epoch := reading.spawn_epoch(path)) is not None and reading.convention(path) == convention
        )
        epochs, values = [epoch for epoch, _ in points], [value(entries[path]) for _, path in points]
        look = {"color": colour, "marker": style.MARKERS[index % len(style.MARKERS)]}
        yield convention or "as interpolated", epochs, values, look
