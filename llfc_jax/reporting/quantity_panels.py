"""Quantities of measures that the report doesn't know by themselves: one panel each, over the layers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from llfc_jax.reporting import layer_panels, reading, style
from llfc_jax.reporting.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Quantity(NamedTuple):
    """A number of every layer, or of every alpha, along several paths."""

    measure: str
    name: str
    label: str
    paths: Mapping[str, Results]
    """Path -> entry."""

    @property
    def layers(self) -> int:
        """How many layers have it; 0 where it is the network's."""
        return max(len(entry.get("layers", ())) for entry in self.paths.values())


def quantities(results: Results) -> Iterator[Quantity]:
    """What the entries of the results say of themselves to be shown."""
    for measure, paths in results.items():
        entries = paths if isinstance(paths, Mapping) else {}
        shown = {path: entry for path, entry in entries.items() if _is_shown(entry)}
        for name, label in next((one["quantities"] for one in shown.values()), {}).items():
            yield Quantity(measure, name, label, shown)


def draw_quantities(results: Results) -> "Figure | None":
    """Each quantity per layer, at the alpha nearest to a half, or over alpha; a line for each path."""
    shown = [*quantities(results)]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    width = layer_panels.width_for(max(one.layers for one in shown)) if columns == 1 else style.PAGE
    figure = style.figure(width, 0.4 + 2.0 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, one in zip(axes, shown, strict=False):
        _draw(ax, one, width / columns - layer_panels.MARGIN)
    for ax in axes[len(shown) :]:
        ax.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=2 if columns == 1 else 4, loc="outside upper left")
    return figure


def draw_measure(results: Results, measure: str) -> "Figure | None":
    """The quantities of one measure."""
    return draw_quantities({name: entry for name, entry in results.items() if name == measure})


def caption(results: Results, measure: str | None = None) -> str:
    """What the figure shows: all quantities, or those of one measure."""
    shown = [one for one in quantities(results) if measure in (None, one.measure)]
    where = ["per layer, at the α nearest to ½"] * any(one.layers for one in shown)
    where += ["over α"] * any(not one.layers for one in shown)
    labels = list(dict.fromkeys(one.label for one in shown))
    return f"{', '.join(labels)}; {' or '.join(where)}.".capitalize()


def _draw(ax: Any, one: Quantity, width: float) -> None:
    colours = style.path_colours([*one.paths])
    for path, entry in one.paths.items():
        x, heights = _line(entry, one)
        ax.plot(x, heights, "o-", color=colours[path], label=style.plain(reading.path_label(path)))
    if one.layers:
        layer_panels.label_layers(ax, next(iter(one.paths.values()))["layers"], width)
    else:
        ax.set_xlabel(r"$\alpha$")
    ax.set_title(style.plain(one.label), loc="left")


def _is_shown(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get("quantities"))


def _line(entry: Results, one: Quantity) -> tuple[Any, Any]:
    if "layers" not in entry:
        return entry["alphas"], reading.numbers(entry[one.name])
    heights = [_at_half(entry, layer[one.name]) for layer in entry["layers"]]
    return range(len(heights)), reading.numbers(heights)


def _at_half(entry: Results, value: Any) -> float | None:
    return value[reading.nearest_half(entry["alphas"])] if isinstance(value, list | tuple) else value
