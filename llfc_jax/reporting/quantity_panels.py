"""Quantities of measures that the report doesn't know by themselves: one panel each, over the layers."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from llfc_jax.reporting import layer_panels, reading, style
from llfc_jax.reporting.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Quantity(NamedTuple):
    """A number of every layer, along several paths."""

    measure: str
    name: str
    label: str
    paths: Mapping[str, Results]


def quantities(results: Results) -> Iterator[Quantity]:
    """What the entries of the results say of themselves to be shown."""
    for measure, paths in results.items():
        entries = paths.values() if isinstance(paths, Mapping) else ()
        shown: dict[str, str] = next((one["quantities"] for one in entries if _is_shown(one)), {})
        for name, label in shown.items():
            yield Quantity(measure, name, label, paths)


def draw_quantities(results: Results) -> "Figure | None":
    """Each quantity per layer, at the alpha nearest to a half, a line for each path."""
    shown = [*quantities(results)]
    if not shown:
        return None
    layers = max(len(entry["layers"]) for one in shown for entry in one.paths.values())
    width = layer_panels.width_for(layers)
    figure = style.figure(width, 2.4 * len(shown))
    for ax, one in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        colours = style.path_colours([*one.paths])
        for path, entry in one.paths.items():
            heights = reading.numbers([_at_half(entry, layer[one.name]) for layer in entry["layers"]])
            ax.plot(range(len(heights)), heights, "o-", color=colours[path], label=reading.path_label(path))
        layer_panels.label_layers(ax, next(iter(one.paths.values()))["layers"], width)
        ax.set_ylabel(style.plain(one.label))
        ax.legend()
    return figure


def caption(results: Results) -> str:
    """What the figure shows."""
    measures = dict.fromkeys(one.measure for one in quantities(results))
    return f"Measures of your own, per layer at the α nearest to ½: {', '.join(measures)}."


def _is_shown(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry.get("quantities")) and bool(entry.get("layers"))


def _at_half(entry: Results, value: Any) -> float | None:
    return value[reading.nearest_half(entry["alphas"])] if isinstance(value, list | tuple) else value
