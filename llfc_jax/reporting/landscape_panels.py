"""Loss and error beside the path: over the plane through three networks, and in random directions."""

from typing import TYPE_CHECKING, Any

import numpy as np

from llfc_jax.reporting import reading, style
from llfc_jax.reporting.path_panels import LABELS, SCALE
from llfc_jax.reporting.reading import Results
from llfc_jax.results.keys import CURVES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = 11


def draw_plane(results: Results) -> "Figure | None":
    """Test loss, by its logarithm, beside test error; with the three networks, and the curve that bends."""
    plane = results.get("plane")
    if not plane:
        return None
    figure = style.figure(style.PAGE, 2.9)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, quantity in zip(axes, ("loss", "error"), strict=True):
        _plane_panel(ax, figure, plane, quantity)
    axes[0].set_ylabel("distance across it")
    return figure


def plane_caption(results: Results) -> str:
    """What the figure shows."""
    networks = results.get("plane", {}).get("networks", ["a", "b", "c"])
    curve = "dashed: the curve that it bends; " if networks[2] in CURVES else ""
    return (
        f"Loss and error on the test set over the plane through {', '.join(map(_name, networks))}, by "
        "distances in weights; loss in steps of equal ratio. White: the line between the first two; "
        f"{curve}running statistics, if there are any, are interpolated."
    )


def draw_random_direction(results: Results) -> "Figure | None":
    """Test loss and error along every plain path, and as far from its A in random directions."""
    controls, lmc = results.get("random_direction"), results.get("lmc", {})
    if not controls:
        return None
    first = next(iter(controls.values()))
    shown = [quantity for quantity in ("loss", "error") if f"random_{quantity}" in first]
    figure = style.figure(style.PAGE, 2.4 + 0.14 * max(0, len(controls) - 1))
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    colours = style.path_colours([*controls])
    for ax, quantity in zip(axes, shown, strict=True):
        for path, control in controls.items():
            label, look = style.plain(reading.path_label(path)), {"color": colours[path]}
            if path in lmc:
                heights = _heights(lmc[path]["test"], quantity, quantity)
                ax.plot(lmc[path]["alphas"], heights, "-", label=label, **look)
            if reading.is_bent(path):  # its ends are those of the line
                continue
            for kind, line, name in (("random", ":", "random"), ("filters", "--", "random filters")):
                heights = _heights(control, f"{kind}_{quantity}", quantity)
                ax.plot(control["alphas"], heights, line, label=f"{label}, {name}", **look)
        ax.set_xlabel(r"$\alpha$")
        ax.set_title(LABELS[quantity], loc="left")
        ax.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper left")
    return figure


def random_caption(results: Results) -> str:
    """What the figure shows."""
    del results
    return (
        "Test loss and error along each path, and at A + α d for a random d as long as B − A: Gaussian "
        "(dotted), and with every filter of the size of A's (dashed; Li et al. 2018)."
    )


def _heights(entry: Results, name: str, quantity: str) -> Any:
    return SCALE[quantity] * reading.numbers(entry[name])


def _plane_panel(ax: Any, figure: "Figure", plane: Results, quantity: str) -> None:
    import matplotlib.colors

    x, y = plane["x"], plane["y"]
    heights = SCALE[quantity] * reading.numbers(plane[quantity])
    finite = heights[np.isfinite(heights)]
    least, most = max(float(finite.min(initial=np.inf)), 1e-6), max(float(finite.max(initial=0)), 2e-6)
    if quantity == "loss":
        levels = np.geomspace(least, max(most, 1.01 * least), LEVELS)
        norm: Any = matplotlib.colors.LogNorm(levels[0], levels[-1])
    else:
        levels = np.linspace(float(finite.min(initial=0)), max(most, 1e-3), LEVELS)
        norm = matplotlib.colors.Normalize(levels[0], levels[-1])
    shown = ax.contourf(x, y, heights, levels=levels, norm=norm, cmap="viridis", extend="both")
    bar = figure.colorbar(shown, ax=ax, ticks=levels[:: LEVELS // 3])
    bar.ax.set_yticklabels([f"{level:.2g}" for level in levels[:: LEVELS // 3]])
    bar.ax.minorticks_off()
    _mark(ax, plane)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_title(LABELS[quantity], loc="left")
    ax.set_xlabel("distance along B − A")


def _mark(ax: Any, plane: Results) -> None:
    places = np.asarray(plane["places"], float)
    ax.plot(*places[:2].T, "-", color="white")
    kind = plane["networks"][2]
    if kind in CURVES:
        from llfc_jax.path.curves import BENT  # with JAX

        a, b, bend = places
        along = np.array([BENT[kind](a, bend, b, alpha) for alpha in np.linspace(0, 1, 49)])
        ax.plot(*along.T, "--", color="white")
    for name, place in zip(plane["networks"], places, strict=True):
        ax.plot(*place, "o", color="white", markeredgecolor=style.INK, markersize=5)
        ax.annotate(_name(name), place, (4, 4), textcoords="offset points", color="white", weight="bold")


def _name(network: str) -> str:
    return "bend" if network in CURVES else reading.network_label(network)
