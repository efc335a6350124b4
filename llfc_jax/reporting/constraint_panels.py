"""Where alignment fails: the barrier under ever more of a network's constraints."""

import textwrap
from typing import TYPE_CHECKING

from llfc_jax.reporting import reading, style
from llfc_jax.reporting.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _ladders(results: Results) -> Results:
    aligned = results.get("alignment", {})
    return {p: found["constraints"] for p, found in aligned.items() if len(found.get("constraints", ())) > 1}


def draw(results: Results) -> "Figure | None":
    """Barriers over the constraints that are added one after the other; a line for each path that has any."""
    ladders = _ladders(results)
    if not ladders:
        return None
    figure = style.figure(style.COLUMN, 2.2 + 0.14 * len(ladders))
    ax, colours = figure.subplots(), style.path_colours([*ladders])
    for path, rungs in ladders.items():
        barriers = reading.numbers([rung["barrier"] for rung in rungs])
        ax.plot(range(len(rungs)), barriers, marker="o", color=colours[path], label=reading.path_label(path))
    added = [rung["added"] for rung in next(iter(ladders.values()))]
    ax.set_xticks(range(len(added)), [textwrap.fill(name, 16) for name in added])
    ax.set_xlim(-0.4, len(added) - 0.6)
    ax.axhline(0, color=style.INK, lw=0.5)
    ax.set_ylabel("barrier at $\\alpha$ = ½ [nats]")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left")
    return figure


def caption(results: Results) -> str:
    """What the figure shows, and which constraint costs most."""
    dearest = {path: reading.dearest(rungs) for path, rungs in _ladders(results).items()}
    told = "; ".join(
        f"{reading.path_label(path)}: {rung['added']} ({reading.nats(rung['cost'])} nats)"
        for path, rung in dearest.items()
    )
    return (
        "The barrier on training data after alignment: first of a larger network in which maps between "
        "bases are free, and copies of arrays that are read twice; then one constraint after the other holds "
        f"again, down to the network itself. Dearest: {told}."
    )
