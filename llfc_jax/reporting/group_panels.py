"""Figures of many runs: curves and layers with bands over seeds, barriers and LLFC against a field."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llfc_jax.reporting import groups, layer_panels, path_panels, reading, style
from llfc_jax.reporting.reading import Results
from llfc_jax.reporting.sweep_panels import HEADROOM
from llfc_jax.results import PathKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 0.14  # inches that one more entry adds to a legend
ABOVE: dict[str, Any] = {"loc": "outside upper left", "alignment": "left"}
SPAWN_EPOCH = "spawn epoch $k$"
SHORT = 22
"""Letters of a label of which two fit beside each other."""

MOST_LINES = 8 * len(style.PALETTE)
"""More curves than these would be a figure of several pages: the page says that they are not drawn."""

LETTERS = 114
"""Of the labels beside each other over the page's width."""

CROWDED = 24
"""Letters of the labels under an axis beyond which they are slanted."""

BAND = {"alpha": 0.18, "lw": 0}


class Place(NamedTuple):
    """A path of a group, as a point over a field."""

    line: str
    """What it belongs to."""
    value: Any
    """Of the field."""
    path: Results


def draw_runs(results: Results) -> "Figure | None":
    """Loss, error and LLFC of all paths: means over runs with bands, and each run as a thin line.

    A row for as many paths as there are colours that are told apart; none where these are too many rows.
    """
    lines = curves(results)
    if not lines or len(lines) > MOST_LINES:
        return None
    items, most = [*lines.items()], len(style.PALETTE)
    rows = [dict(items[start : start + most]) for start in range(0, len(items), most)]
    layered = [path for path in lines.values() if "layers" in path]
    alike = len({tuple(layer["layer"] for layer in path["layers"]) for path in layered}) == 1
    columns = 1 if max(map(len, lines)) > SHORT else 2
    heights = [2.4 + LINE * -(-len(row) // columns) for row in rows]
    figure = style.figure(style.PAGE if alike else style.COLUMN * 1.4, sum(heights))
    parts = figure.subfigures(
        len(rows),
        1 + alike,
        width_ratios=(1.15, 1)[: 1 + alike],
        height_ratios=heights,
        squeeze=False,
    )
    for row, (left, *right) in zip(rows, parts, strict=True):
        _draw_row(left, right, row, columns, results)
    return figure


def curves(results: Results) -> dict[str, Results]:
    """What a legend calls a path -> the path, of those with losses and errors over alpha."""
    return {label: path for label, path in groups.lines(results).items() if "curves" in path}


def _draw_row(
    left: Any, right: Sequence[Any], lines: Mapping[str, Results], columns: int, results: Results
) -> None:
    colours = style.path_colours(list(lines))
    quantities = [
        name for name in ("loss", "error") if all(f"test_{name}" in p["curves"] for p in lines.values())
    ]
    panels = left.subplots(1, len(quantities), squeeze=False)[0]
    for ax, quantity in zip(panels, quantities, strict=True):
        _curve_panel(ax, lines, quantity, colours)
    by = groups.field_names(results)
    title = f"mean over runs, by {style.plain(by)}" if by else "mean over runs"
    left.legend(*panels[0].get_legend_handles_labels(), ncols=columns, title=title, **ABOVE)
    layered = {label: path for label, path in lines.items() if "layers" in path}
    for part in right if layered else ():
        ax = part.subplots()
        _part_panel(ax, layered, _limits(results)["llfc"], colours)
        at = reading.alpha_label(next(iter(layered.values()))["llfc_alpha"])
        part.legend(*ax.get_legend_handles_labels(), ncols=columns, title=f"LLFC at α = {at}", **ABOVE)


def draw_fields(results: Results) -> "Figure | None":
    """Barriers and LLFC against a field in which groups differ, or the epoch at which pairs parted."""
    axis, places = _places(results)
    if axis is None:
        return None
    known = {name for place in places for name in place.path["quantities"]}
    panels = [
        (name, label)
        for name, label in (
            ("test_loss_barrier", "loss barrier (nats)"),
            ("test_error_barrier", "error barrier (%)"),
            ("llfc_median", "LLFC: distance, in units\nof the nearer end's"),
        )
        if name in known
    ]
    if not panels:
        return None
    lines = list(dict.fromkeys(place.line for place in places))
    columns = max(1, min(3, LETTERS // max(map(len, lines))))
    figure = style.figure(style.PAGE, 2.4 + LINE * (-(-len(lines) // columns) - 1))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (name, label) in zip(axes, panels, strict=True):
        _field_panel(ax, places, lines, name, _limits(results))
        ax.set_xlabel(style.plain(axis) if axis != SPAWN_EPOCH else axis)
        ax.set_ylabel(label)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=columns, **ABOVE)
    return figure


def runs_caption(results: Results) -> str:
    """Of `draw_runs`."""
    return (
        "Loss and error of θ<sub>α</sub> on the test set, and how far each layer's features are from the "
        "line between the ends', in units of what the nearer end has (dashed: the limit): means over runs. "
        f"Bands are one standard deviation of {_count(results)}, thin lines the runs."
    )


def fields_caption(results: Results) -> str:
    """Of `draw_fields`."""
    return (
        "Barriers on the test set, and LLFC: the median layer's distance from the line in units of what the "
        "nearer end has (dotted, or a dash: the worst layer's). Means, with one standard deviation to both "
        f"sides, of {_count(results)}; dashed: where LMC and LLFC end."
    )


def _count(results: Results) -> str:
    sizes = sorted({len(group["runs"]) for group in results.get("groups", ())})
    return " or ".join(reading.count(size, "run") for size in sizes)


def _limits(results: Results) -> dict[str, float]:
    """Those by which all groups are judged; NaN, which isn't drawn, where they differ."""
    each = [group["limits"] for group in results["groups"]]
    return {
        name: float(reading.numbers(limit)) if all(one[name] == limit for one in each) else np.nan
        for name, limit in each[0].items()
    }


def _places(results: Results) -> tuple[str | None, list[Place]]:
    """The field to draw against, the first that has several values, and the paths that depend on it."""
    every = results.get("groups", ())
    found = [
        (name, group["fields"] | _spawned(name), path)
        for group, name, path in (groups.told(results, "paths") if every else ())
        if path["quantities"] and (group["fields"] or len(every) == 1)
    ]
    fields = dict.fromkeys(field for _, values, _ in found for field in values)
    several = [field for field in fields if len({str(values.get(field)) for _, values, _ in found}) > 1]
    if not several:
        return None, []
    axis, *others = several
    return axis, [
        Place(", ".join([*_others(values, others), _convention(name)]), values.get(axis), path)
        for name, values, path in found
    ]


def _spawned(path: str) -> dict[str, Any]:
    epoch = reading.spawn_epoch(path)
    return {} if epoch is None else {SPAWN_EPOCH: epoch}


def _others(values: Mapping[str, Any], fields: list[str]) -> Iterator[str]:
    for field in fields:
        name = "k" if field == SPAWN_EPOCH else field
        yield f"{name}={groups.value_label(values.get(field))}"


def _convention(path: str) -> str:
    """The path, without the epoch at which its ends parted."""
    key = PathKey.parse(path)
    return reading.path_label(
        str(key._replace(a=key.a._replace(spawn_epoch=None), b=key.b._replace(spawn_epoch=None)))
    )


def _curve_panel(ax: Any, lines: Mapping[str, Results], quantity: str, colours: Mapping[str, Any]) -> None:
    scale, top = path_panels.SCALE[quantity], path_panels.LEAST_TOP[quantity]
    for label, path in lines.items():
        alphas, found, colour = path["alphas"], path["curves"][f"test_{quantity}"], colours[label]
        mean, std = (scale * reading.numbers(found[name]) for name in ("mean", "std"))
        for each in found["each"]:
            ax.plot(alphas, scale * reading.numbers(each), color=colour, lw=0.4, alpha=0.5)
        ax.fill_between(alphas, np.maximum(mean - std, 0), mean + std, color=colour, **BAND)
        ax.plot(alphas, mean, color=colour, clip_on=False, label=style.plain(label))
        top = max(top, path_panels.HEADROOM * float(np.nanmax(mean + np.nan_to_num(std), initial=0)))
    ax.set_ylim(0, top)
    path_panels.label_alpha(ax)
    ax.set_ylabel(path_panels.LABELS[quantity])
    ax.set_xlabel(r"$\alpha$")


def _part_panel(ax: Any, lines: Mapping[str, Results], limit: float, colours: Mapping[str, Any]) -> None:
    layers = next(iter(lines.values()))["layers"]
    means, spreads = (
        {
            label: reading.numbers([layer["part"][which] for layer in path["layers"]])
            for label, path in lines.items()
        }
        for which in ("mean", "std")
    )
    width = style.PAGE / 2.15
    layer_panels.part_panel(ax, means, layers, width, limit, colours, label=str, spreads=spreads)
    ax.set_xlabel(r"layer $\ell$")


def _field_panel(
    ax: Any, places: list[Place], lines: list[str], quantity: str, limits: Mapping[str, float]
) -> None:
    """One line for each of `lines`, at one place for each value: they are often 0 and powers of two."""
    values = list(dict.fromkeys(groups.value_label(place.value) for place in places))
    kind = quantity.split("_")[1] if quantity != "llfc_median" else "llfc"
    scale, colours = path_panels.SCALE.get(kind, 1.0), style.path_colours(lines)
    for index, line in enumerate(lines):
        own = [place for place in places if place.line == line and quantity in place.path["quantities"]]
        at = [values.index(groups.value_label(place.value)) for place in own]
        mean, std = (
            scale * reading.numbers([place.path["quantities"][quantity][which] for place in own])
            for which in ("mean", "std")
        )
        look = {"color": colours[line], "marker": style.MARKERS[index % len(style.MARKERS)]}
        if _are_numbers(places):
            ax.plot(at, mean, label=style.plain(line), **look)
            ax.fill_between(at, np.maximum(mean - std, 0), mean + std, color=look["color"], **BAND)
        else:  # nothing lies between names
            ax.errorbar(at, mean, np.nan_to_num(std), ls="none", label=style.plain(line), **look)
        if kind == "llfc":
            worst = reading.numbers([place.path["quantities"]["llfc_worst"]["mean"] for place in own])
            ax.plot(at, worst, ":" if _are_numbers(places) else "_", lw=0.9, color=look["color"])
    limit = scale * limits[kind]
    ax.axhline(limit, color=style.GREY, lw=0.7, ls="--", zorder=1.5)
    ax.set_ylim(0, np.fmax(ax.get_ylim()[1], HEADROOM * limit))
    slanted = {"rotation": 30, "ha": "right"} if sum(map(len, values)) > CROWDED else {}
    ax.set_xticks(range(len(values)), [style.plain(value) for value in values], **slanted)
    ax.margins(x=0.1)


def _are_numbers(places: list[Place]) -> bool:
    return all(isinstance(place.value, int | float) and not isinstance(place.value, bool) for place in places)
