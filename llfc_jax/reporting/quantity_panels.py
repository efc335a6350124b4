"""Quantities of measures that the report doesn't know by themselves: one panel each, over the layers.

Of many runs those that it knows, too: means, with bands.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llfc_jax.reporting import groups, layer_panels, reading, style
from llfc_jax.reporting.quantities import of_layer
from llfc_jax.reporting.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = {"alpha": 0.18, "lw": 0}
LINE = 0.14  # inches that one more row adds to a legend
LETTERS = 15
"""Of labels beside each other, over an inch."""


class Line(NamedTuple):
    """A number of every layer, or of every alpha, along one path."""

    at: list[Any]
    """Layers, with `layer` and `kind`; or alphas."""
    values: list[float | None]
    deviations: list[float | None]
    """Over runs; of one run the standard errors, of estimates that have them, else empty."""


class Quantity(NamedTuple):
    """A number along several paths."""

    measure: str
    label: str
    lines: Mapping[str, Line]
    """What the legend calls the path -> its numbers."""
    by_layer: bool
    """Whether it is one of layers, not of alphas."""

    @property
    def layers(self) -> list[Results]:
        """The layers that have it along some path, other architectures' last; none of the network's."""
        lines = self.lines.values() if self.by_layer else ()
        found = {
            layer["layer"]: layer
            for line in lines
            for layer, value in zip(line.at, line.values, strict=True)
            if value is not None
        }
        return list(found.values())


def quantities(results: Results) -> Iterator[Quantity]:
    """What the entries of the results say of themselves to be shown."""
    if "groups" in results:
        yield from _of_groups(results)
        return
    for measure, paths in results.items():
        entries = paths if isinstance(paths, Mapping) else {}
        shown = {path: entry for path, entry in entries.items() if _is_shown(entry)}
        for name, label in next((one["quantities"] for one in shown.values()), {}).items():
            lines = {reading.path_label(path): _line(entry, name) for path, entry in shown.items()}
            yield Quantity(measure, label, lines, any("layers" in entry for entry in shown.values()))


def draw_quantities(results: Results, measures: Collection[str]) -> "Figure | None":
    """Each quantity per layer, at the alpha nearest to a half, or over alpha; a line for each path.

    Args:
        results: of one run, or of many.
        measures: whose quantities.
    """
    shown = _shown(results, measures)
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    width = layer_panels.width_for(max(len(one.layers) for one in shown)) if columns == 1 else style.PAGE
    names = [name for one in shown for name in one.lines]
    beside = max(1, min(2 * columns, round(LETTERS * width) // max(map(len, names))))
    figure = style.figure(width, 0.4 + LINE * (-(-len({*names}) // beside) - 1) + 2.0 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, one in zip(axes, shown, strict=False):
        _draw(ax, one, width / columns - layer_panels.MARGIN)
    for ax in axes[len(shown) :]:
        ax.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=beside, loc="outside upper left")
    return figure


def caption(results: Results, measures: Collection[str]) -> str:
    """What the figure shows."""
    shown = _shown(results, measures)
    where = ["per layer, at the α nearest to ½"] * any(one.layers for one in shown)
    where += ["over α"] * any(not one.layers for one in shown)
    labels = list(dict.fromkeys(one.label for one in shown))
    said = f"{', '.join(labels)}; {' or '.join(where)}."
    bands = ""
    if "groups" in results:
        bands = " Means over runs; bands are one standard deviation."
    elif any(line.deviations for one in shown for line in one.lines.values()):
        bands = " Bands are one standard error of what is estimated."
    return f"{said[:1].upper()}{said[1:]}{bands}"


def measures_of(results: Results) -> list[str]:
    """Those that have quantities."""
    return list(dict.fromkeys(one.measure for one in quantities(results)))


def _shown(results: Results, measures: Collection[str]) -> list[Quantity]:
    return [one for one in quantities(results) if one.measure in measures]


def _of_groups(results: Results) -> Iterator[Quantity]:
    paths = groups.lines(results)
    entries: dict[str, dict[str, Results]] = {}
    for path, found in paths.items():
        for measure, entry in found.get("measures", {}).items():
            entries.setdefault(measure, {})[path] = entry
    for measure, of_paths in entries.items():
        first = next(iter(of_paths.values()))
        for name, label in first["quantities"].items():
            if "layers" in first or name in first["along"]:
                lines = {path: _line_over_runs(entry, name) for path, entry in of_paths.items()}
                yield Quantity(measure, label, lines, "layers" in first)


def _draw(ax: Any, one: Quantity, width: float) -> None:
    colours, layers = style.path_colours([*one.lines]), one.layers
    places = {layer["layer"]: at for at, layer in enumerate(layers)}
    for name, line in one.lines.items():
        kept = [at for at, place in enumerate(line.at) if not one.by_layer or place["layer"] in places]
        x = [places[line.at[at]["layer"]] for at in kept] if one.by_layer else line.at
        values = reading.numbers(line.values)[kept]
        if line.deviations:
            spread = np.nan_to_num(reading.numbers(line.deviations)[kept])
            ax.fill_between(x, values - spread, values + spread, color=colours[name], **BAND)
        ax.plot(x, values, "o-", color=colours[name], label=style.plain(name))
    if layers:
        layer_panels.label_layers(ax, layers, width)
    else:
        ax.set_xlabel(r"$\alpha$")
    ax.set_title(style.plain(one.label), loc="left")


def _is_shown(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get("quantities"))


def _line(entry: Results, name: str) -> Line:
    if "layers" not in entry:
        return Line(entry["alphas"], entry[name], entry.get(f"{name}_std_error", []))
    return Line(entry["layers"], [of_layer(entry, layer, name) for layer in entry["layers"]], [])


def _line_over_runs(entry: Results, name: str) -> Line:
    if "layers" not in entry:
        return Line(entry["alphas"], entry["along"][name]["mean"], entry["along"][name]["std"])
    own = [layer["values"][name] for layer in entry["layers"]]
    return Line(entry["layers"], [one["mean"] for one in own], [one["std"] for one in own])
