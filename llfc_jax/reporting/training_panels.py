"""Panels over epochs: loss or error of the trunk and its children."""

from typing import Any

import numpy as np

from llfc_jax.reporting import reading, style
from llfc_jax.reporting.path_panels import LABELS, SCALE
from llfc_jax.reporting.reading import Results

LOG_RANGE = 10
"""The loss axis is logarithmic when its largest value is this many times its smallest."""


def training_panel(ax: Any, runs: Results, quantity: str) -> None:
    """Draws `quantity` (`loss` or `error`) of every run over epochs: solid on test, dotted on train.

    The trunk is grey; its children, in colours, start from its last point, where a line marks the spawn.
    """
    trunk = runs.get("trunk")
    children = [name for name in runs if name != "trunk"]
    colours = style.network_colours(children) | {"trunk": style.GREY}
    positive = []
    for name, run in runs.items():
        for split, linestyle in (("test", "-"), ("train", ":")):
            joined = trunk if trunk and name != "trunk" else None
            epochs, values = _curve(run, joined, f"{split}_{quantity}")
            label = style.plain(reading.network_label(name)) if split == "test" else None
            ax.plot(epochs, SCALE[quantity] * values, linestyle, color=colours[name], label=label)
            positive.append(values[values > 0])
    if trunk:
        ax.axvline(trunk["epoch"][-1], color=style.GREY, lw=0.7, ls=(0, (4, 2)), zorder=1.5)
        above = ax.get_xaxis_transform()
        ax.text(trunk["epoch"][-1], 0.97, " spawn", transform=above, va="top", color=style.GREY)
    values = np.concatenate(positive)
    if quantity == "loss" and values.size and values.max() > LOG_RANGE * values.min():
        ax.set_yscale("log")
        style.log_ticks(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlim(left=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_ylabel(LABELS[quantity])


def training_legend(ax: Any, runs: Results) -> None:
    """One entry for each run, then the line style of each split, above the panel."""
    ax.plot([], [], "-", color=style.INK, label="test")
    ax.plot([], [], ":", color=style.INK, label="train")
    columns = min(len(runs) + 2, 5)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns)


def _curve(run: Results, trunk: Results | None, name: str) -> tuple[Any, Any]:
    """Epochs and values without nulls, so that lines stay whole; a child begins at the trunk's end."""
    epochs, values = reading.numbers(run["epoch"]), reading.numbers(run[name])
    if trunk and trunk["epoch"][-1] < epochs[0]:
        epochs = np.append(reading.numbers(trunk["epoch"][-1:]), epochs)
        values = np.append(reading.numbers(trunk[name][-1:]), values)
    measured = np.isfinite(values)
    return epochs[measured], values[measured]
