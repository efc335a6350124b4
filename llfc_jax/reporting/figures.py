"""The figures, each a function of the results alone; `FIGURES` is their registry.

To add one, write `draw(results) -> Figure | None` (None where the results lack its measure) and name it in
`FIGURES` with a caption: it is then written to `figures/` and shown in the report.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llfc_jax.reporting import (
    captions,
    cause_panels,
    constraint_panels,
    group_panels,
    judgement,
    landscape_panels,
    layer_panels,
    path_panels,
    quantity_panels,
    reading,
    spectrum_panels,
    style,
    sweep_panels,
    training_panels,
)
from llfc_jax.reporting.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA_AXIS = r"$\alpha$  in  $\theta_\alpha=(1-\alpha)\,\theta_A+\alpha\,\theta_B$"
LAYER_AXIS = r"layer $\ell$"
PANELS_OF_THEIR_OWN = (
    *("weak_additivity", "commutativity", "deviation", "stitching", "effective_rank", "random_direction"),
)
"""Measures that have them where a single run is shown; of many runs they share a figure."""

LINE = 0.14  # inches that one more entry adds to a legend
ABOVE: dict[str, Any] = {"loc": "outside upper left", "alignment": "left"}


class FigureSpec(NamedTuple):
    """How to draw a figure, and its title and caption in HTML."""

    draw: Callable[[Results], "Figure | None"]
    title: str
    caption: Callable[[Results], str]


def draw_summary(results: Results) -> "Figure | None":
    """Loss, error and LLFC of several paths of one run side by side: the whole finding in one row."""
    lmc, llfc = results.get("lmc"), results.get("llfc")
    if not lmc or not llfc or len(lmc) < 2 or reading.several_runs(lmc) or _is_sweep(lmc):
        return None
    figure = style.figure(style.PAGE, 2.5 + LINE * max(0, len(lmc) - 2))
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1), squeeze=False)[0]
    quantities, colours = reading.quantities(lmc), _colours(results)
    panels = left.subplots(1, len(quantities), squeeze=False)[0]
    for ax, quantity in zip(panels, quantities, strict=True):
        path_panels.curve_panel(ax, lmc, quantity, ("test",), colours, judgement.criteria(results))
        ax.set_xlabel(r"$\alpha$")
    labels = [
        f"{path_panels.curve_name(lmc, path, split)}  "
        + ", ".join(path_panels.barrier(lmc, path, split, quantity) for quantity in quantities)
        for path, split in path_panels.curves(lmc, ("test",))
    ]
    left.legend(panels[0].get_legend_handles_labels()[0], labels, title="barrier on the test set", **ABOVE)

    ax = right.subplots()
    _draw_parts(ax, results, style.PAGE / 2.15)
    handles, labels = ax.get_legend_handles_labels()
    columns = 2 if len(labels) > 3 else 1
    right.legend(handles, labels, ncols=columns, title=_title(llfc), **ABOVE)
    return figure


def draw_parts(results: Results) -> "Figure | None":
    """How far each layer is from the line, for every path, unless the summary shows it."""
    llfc = results.get("llfc")
    if not llfc or draw_summary(results) is not None:
        return None
    layers = next(iter(llfc.values()))["layers"]
    width = layer_panels.width_for(len(layers))
    figure = style.figure(width, 2.6 + LINE * (len(llfc) // 2))
    ax = figure.subplots()
    _draw_parts(ax, results, width)
    columns = 1 if width == style.COLUMN and reading.several_runs(llfc) else 2
    figure.legend(*ax.get_legend_handles_labels(), ncols=columns, title=_title(llfc), **ABOVE)
    return figure


def draw_spawn_sweep(results: Results) -> "Figure | None":
    """Barriers and LLFC against the epoch at which the pairs of a sweep parted."""
    lmc, llfc = results.get("lmc", {}), results.get("llfc", {})
    if not lmc or not llfc or reading.several_runs(lmc) or not _is_sweep(lmc):
        return None
    if "error" not in reading.quantities(lmc):
        return None
    figure = style.figure(style.PAGE, 2.4)
    loss, error, linear = figure.subplots(1, 3)
    sweep_panels.barrier_panel(loss, results, "loss")
    sweep_panels.barrier_panel(error, results, "error")
    sweep_panels.linearity_panel(linear, results)
    for ax in (loss, error, linear):
        ax.set_xlabel("spawn epoch $k$")
    figure.legend(*linear.get_legend_handles_labels(), ncols=4, **ABOVE)
    return figure


def draw_lmc(results: Results) -> "Figure | None":
    """Loss and error of θ_α over α: one path in a column, several with a column for each split."""
    lmc = results.get("lmc")
    if not lmc:
        return None
    columns = (("test", "train"),) if len(lmc) == 1 else (("test",), ("train",))
    width = style.COLUMN if len(columns) == 1 else style.PAGE
    quantities = reading.quantities(lmc)
    figure = style.figure(width, (2.0 + LINE * max(0, len(lmc) - 2)) * len(quantities))
    axes = figure.subplots(len(quantities), len(columns), sharex=True, squeeze=False)
    colours, by = _colours(results), judgement.criteria(results)
    for row, quantity in enumerate(quantities):
        for column, splits in enumerate(columns):
            path_panels.curve_panel(axes[row, column], lmc, quantity, splits, colours, by)
            title = f"{quantity} barrier" if len(lmc) == 1 else f"{splits[0]} {quantity} barrier"
            path_panels.legend_above(axes[row, column], title, columns=3 - len(columns))
    for ax in axes[-1]:
        ax.set_xlabel(r"$\alpha$" if any(map(reading.is_bent, lmc)) else ALPHA_AXIS)
    return figure


def draw_llfc(results: Results) -> "Figure | None":
    """The cosine distance per layer and α, a panel for each path."""
    llfc = results.get("llfc")
    if not llfc:
        return None
    limits = layer_panels.distance_limits(llfc.values())
    return _per_layer(llfc, functools.partial(layer_panels.distance_panel, limits=limits))


def draw_coefficient(results: Results) -> "Figure | None":
    """The coefficient per layer and α, a panel for each path."""
    llfc = results.get("llfc")
    return _per_layer(llfc, layer_panels.coefficient_panel) if llfc else None


def draw_causes(results: Results) -> "Figure | None":
    """Weak additivity beside commutativity, a row for each path."""
    additive, commuting = results.get("weak_additivity", {}), results.get("commutativity", {})
    if not (additive and commuting):
        return None
    additive_limits = cause_panels.weak_additivity_limits(additive.values())
    commuting_limits = cause_panels.commutativity_limits(commuting.values())
    return _rows(
        [
            (additive, functools.partial(cause_panels.weak_additivity_panel, limits=additive_limits)),
            (commuting, functools.partial(cause_panels.commutativity_panel, limits=commuting_limits)),
        ],
    )


def draw_deviation(results: Results) -> "Figure | None":
    """Each layer's deviation from linearity, split into its parts; a row for each path."""
    found = results.get("deviation")
    return _rows([(found, cause_panels.deviation_panel)]) if found else None


def draw_stitching(results: Results) -> "Figure | None":
    """Test error of stitched networks, a row for each path."""
    found = results.get("stitching")
    if not found:
        return None
    limits = cause_panels.stitching_limits(found.values())
    return _rows([(found, functools.partial(cause_panels.stitching_panel, limits=limits))])


def draw_spectra(results: Results) -> "Figure | None":
    """Principal angles and effective ranks, a row for each path."""
    angles, ranks = results.get("principal_angles", {}), results.get("effective_rank", {})
    columns: list[tuple[Results, Callable[..., None]]] = []
    columns += [(angles, cause_panels.angles_panel)] if angles else []
    limits = cause_panels.rank_limits(ranks.values())
    columns += [(ranks, functools.partial(cause_panels.rank_panel, limits=limits))] if ranks else []
    return _rows(columns) if columns else None


def draw_training(results: Results) -> "Figure | None":
    """Loss and error over epochs: the trunk up to the spawn point, then every child."""
    runs = {name: run for name, run in results.get("training", {}).items() if run["epoch"]}
    if not runs or any("@" in name for name in runs):
        return None
    figure = style.figure(style.COLUMN, 4.0)
    loss, error = figure.subplots(2, sharex=True)
    training_panels.training_panel(loss, runs, "loss")
    training_panels.training_panel(error, runs, "error")
    training_panels.training_legend(loss, runs)
    error.set_xlabel("epoch")
    return figure


def _quantities_of(title: str, *measures: str) -> FigureSpec:
    return FigureSpec(
        functools.partial(quantity_panels.draw_quantities, measures=measures),
        title,
        functools.partial(quantity_panels.caption, measures=measures),
    )


FIGURES: dict[str, FigureSpec] = {
    "runs": FigureSpec(group_panels.draw_runs, "All runs together", group_panels.runs_caption),
    "fields": FigureSpec(group_panels.draw_fields, "What it depends on", group_panels.fields_caption),
    "summary": FigureSpec(draw_summary, "At a glance", captions.summary),
    "spawn_sweep": FigureSpec(draw_spawn_sweep, "When networks become connected", captions.spawn_sweep),
    "lmc": FigureSpec(draw_lmc, "Linear mode connectivity", captions.lmc),
    "plane": FigureSpec(
        landscape_panels.draw_plane, "The plane through three networks", landscape_panels.plane_caption
    ),
    "constraints": FigureSpec(constraint_panels.draw, "Where alignment fails", constraint_panels.caption),
    "parts": FigureSpec(draw_parts, "How far from the line", captions.parts),
    "llfc": FigureSpec(draw_llfc, "Layerwise linear feature connectivity", captions.llfc),
    "coefficient": FigureSpec(draw_coefficient, "Coefficient", captions.coefficient),
    "causes": FigureSpec(draw_causes, "Why LLFC holds", captions.causes),
    "deviation": FigureSpec(draw_deviation, "Where deviations come from", captions.deviation),
    "stitching": FigureSpec(draw_stitching, "Stitching", captions.stitching),
    "spectra": FigureSpec(draw_spectra, "Subspaces and ranks", captions.spectra),
    "layerwise_lmc": _quantities_of("Layer by layer", "layerwise_lmc"),
    "similarity": _quantities_of("Similarity of representations, of up to 512 units", "similarity"),
    "variance": _quantities_of("Variance collapse", "variance"),
    "lewc": _quantities_of("Exponentially weighted connectivity", "lewc"),
    "reciprocal_orthogonality": _quantities_of("Reciprocal orthogonality", "reciprocal_orthogonality"),
    "predictions": _quantities_of("Predictions", "predictions"),
    "temperature": _quantities_of("Temperature", "temperature"),
    "random_direction": FigureSpec(
        landscape_panels.draw_random_direction, "Against random directions", landscape_panels.random_caption
    ),
    "singular_values": FigureSpec(
        spectrum_panels.draw, "Spectra of weights and features", spectrum_panels.caption
    ),
    "sharpness": _quantities_of("Sharpness", "sharpness"),
    "causes_of_runs": _quantities_of("Causes and controls", *PANELS_OF_THEIR_OWN),
    "quantities": FigureSpec(
        lambda results: quantity_panels.draw_quantities(results, _without_figures(results)),
        "Measures of your own",
        lambda results: quantity_panels.caption(results, _without_figures(results)),
    ),
    "training": FigureSpec(draw_training, "Training", captions.training),
}


def _is_sweep(paths: Results) -> bool:
    return len({reading.spawn_epoch(path) for path in paths} - {None}) > 1


def _without_figures(results: Results) -> list[str]:
    """The measures that no figure is named after."""
    named = (*FIGURES, *PANELS_OF_THEIR_OWN)
    return [name for name in quantity_panels.measures_of(results) if name not in named]


def _title(llfc: Results) -> str:
    return f"LLFC at {reading.half_label(next(iter(llfc.values()))['alphas'])}"


def _colours(results: Results) -> dict[str, Any]:
    """Path -> its colour in every figure."""
    return style.path_colours(list(dict.fromkeys([*results.get("lmc", {}), *results.get("llfc", {})])))


def _draw_parts(ax: Any, results: Results, width: float) -> None:
    llfc, examples = results["llfc"], results["data"]["test_examples"]
    parts = {path: judgement.llfc_shares(entry, examples) for path, entry in llfc.items()}
    layers, limit = next(iter(llfc.values()))["layers"], judgement.criteria(results).max_llfc
    layer_panels.part_panel(ax, parts, layers, width - layer_panels.MARGIN, limit, _colours(results))
    ax.set_xlabel(LAYER_AXIS)


def _rows(columns: list[tuple[Results, Callable[..., None]]]) -> "Figure":
    """A row for each path, a column for each measure with its panel, a legend above each column."""
    paths = list(dict.fromkeys(path for entries, _ in columns for path in entries))
    most = max(len(entry["layers"]) for entries, _ in columns for entry in entries.values())
    single = len(columns) == 1
    width = layer_panels.width_for(most) if single else style.PAGE
    figure = style.figure(width, 0.9 + 1.55 * len(paths))
    for part, (entries, panel) in zip(
        figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        axes = part.subplots(len(paths), sharex=True, sharey=True, squeeze=False)[:, 0]
        for ax, path in zip(axes, paths, strict=True):
            entry = entries.get(path, {"layers": []})
            if entry["layers"]:
                panel(ax, entry, width / len(columns) - layer_panels.MARGIN)
            else:
                ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color=style.GREY)
            if len(paths) > 1:
                ax.set_title(
                    style.plain(reading.path_label(path)), loc="left", pad=13 if _staged(entry) else 4
                )
        drawn_in = axes[next(index for index, path in enumerate(paths) if path in entries)]
        handles, labels = drawn_in.get_legend_handles_labels()
        part.legend(handles, labels, ncols=2 if width == style.COLUMN else 3, **ABOVE)
        axes[-1].set_xlabel(LAYER_AXIS)
    return figure


def _staged(entry: Results) -> bool:
    """Whether names of stages stand above the panel."""
    return bool(layer_panels.stages([layer["layer"] for layer in entry["layers"]]))


def _per_layer(llfc: Results, panel: Callable[..., None]) -> "Figure":
    most = max(llfc.values(), key=lambda entry: len(entry["layers"]))["layers"]
    width = layer_panels.width_for(len(most))
    figure = style.figure(width, 1.0 + (1.9 if len(llfc) == 1 else 1.6) * len(llfc))
    axes = figure.subplots(len(llfc), sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, (path, entry) in zip(axes, llfc.items(), strict=True):
        panel(ax, entry, width - layer_panels.MARGIN)
        if len(llfc) > 1:
            ax.set_title(style.plain(reading.path_label(path)), loc="left", pad=13 if _staged(entry) else 4)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(handles), 5) if width > style.COLUMN else 2 if len(handles) <= 4 else 3
    figure.legend(handles, labels, ncols=columns, **ABOVE)
    axes[-1].set_xlabel(LAYER_AXIS)
    return figure
