"""The figures, each a function of the results alone; `FIGURES` is their registry.

To add one, write `draw(results) -> Figure | None` (None where the results lack its measure) and name it in
`FIGURES` with a caption: it is then written to `figures/` and shown in the report.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llfc_jax.report import (
    cause_panels,
    layer_panels,
    path_panels,
    reading,
    style,
    sweep_panels,
    training_panels,
)
from llfc_jax.report.reading import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA_AXIS = r"$\alpha$  in  $\theta_\alpha=(1-\alpha)\,\theta_A+\alpha\,\theta_B$"
LAYER_AXIS = r"layer $\ell$"
LINE = 0.14  # inches that one more entry adds to a legend
ABOVE: dict[str, Any] = {"loc": "outside upper left", "alignment": "left"}


class FigureSpec(NamedTuple):
    """How to draw a figure, and its title and caption in HTML."""

    draw: Callable[[Results], "Figure | None"]
    title: str
    caption: str


def draw_summary(results: Results) -> "Figure | None":
    """Loss and error along the path, and LLFC against its baseline: the whole finding in one row."""
    lmc, llfc = results.get("lmc"), results.get("llfc")
    if not lmc or not llfc or reading.several_runs(lmc):
        return None
    figure = style.figure(style.PAGE, 2.5 + LINE * max(0, len(lmc) - 2))
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1), squeeze=False)[0]
    splits = ("test", "train") if len(lmc) == 1 else ("test",)
    panels = left.subplots(1, 2)
    for ax, quantity in zip(panels, ("loss", "error"), strict=True):
        path_panels.curve_panel(ax, lmc, quantity, splits)
        ax.set_xlabel(r"$\alpha$")
    labels = [
        f"{path_panels.curve_name(lmc, path, split)}  {path_panels.barrier(lmc, path, split, 'loss')}, "
        f"{path_panels.barrier(lmc, path, split, 'error')}"
        for path, split in path_panels.curves(lmc, splits)
    ]
    title = "barrier" if len(lmc) == 1 else "barrier on the test set"
    left.legend(panels[0].get_legend_handles_labels()[0], labels, title=title, **ABOVE)

    path = reading.primary_path(list(llfc))
    ax = right.subplots()
    limits = layer_panels.distance_limits([llfc[path]])
    layer_panels.distance_panel(ax, llfc[path], style.PAGE / 2.15 - layer_panels.MARGIN, limits)
    ax.set_xlabel(LAYER_AXIS)
    title = f"LLFC along {reading.path_label(path)}"
    right.legend(*ax.get_legend_handles_labels(), ncols=2, title=title, **ABOVE)
    return figure


def draw_spawn_sweep(results: Results) -> "Figure | None":
    """Barriers and LLFC against the epoch at which the pairs of a sweep parted."""
    lmc, llfc = results.get("lmc", {}), results.get("llfc", {})
    epochs = {reading.spawn_epoch(path) for path in [*lmc, *llfc]} - {None}
    if len(epochs) < 2 or not lmc or not llfc or reading.several_runs(lmc):
        return None
    figure = style.figure(style.PAGE, 2.4)
    loss, error, linear = figure.subplots(1, 3)
    sweep_panels.barrier_panel(loss, lmc, "loss")
    sweep_panels.barrier_panel(error, lmc, "error")
    sweep_panels.linearity_panel(linear, llfc)
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
    figure = style.figure(width, 4.0 + 2 * LINE * max(0, len(lmc) - 2))
    axes = figure.subplots(2, len(columns), sharex=True, squeeze=False)
    for row, quantity in enumerate(("loss", "error")):
        for column, splits in enumerate(columns):
            path_panels.curve_panel(axes[row, column], lmc, quantity, splits)
            title = f"{quantity} barrier" if len(lmc) == 1 else f"{splits[0]} {quantity} barrier"
            path_panels.legend_above(axes[row, column], title, columns=3 - len(columns))
    for ax in axes[-1]:
        ax.set_xlabel(ALPHA_AXIS)
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
    columns += [(ranks, cause_panels.rank_panel)] if ranks else []
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


FIGURES: dict[str, FigureSpec] = {
    "summary": FigureSpec(
        draw_summary,
        "At a glance",
        "Loss and error along the path, and layerwise linear feature connectivity against its baseline.",
    ),
    "spawn_sweep": FigureSpec(
        draw_spawn_sweep,
        "When networks become connected",
        "Barrier on the test set, and LLFC, of pairs that shared their training up to epoch k. LLFC: "
        "1 − cos at α ≈ ½ as a part of its baseline, median over layers; the band reaches to the worst. "
        "Dashed: where LMC and LLFC are said to hold.",
    ),
    "lmc": FigureSpec(
        draw_lmc,
        "Linear mode connectivity",
        "Loss and error of θ<sub>α</sub> = (1−α) θ<sub>A</sub> + α θ<sub>B</sub>. Discs mark the endpoints, "
        "dotted lines the chord between them. The barrier is the largest excess over the chord; an arrow "
        "marks the largest in a panel. Where a permuted path is shown, the naive one is dashed.",
    ),
    "llfc": FigureSpec(
        draw_llfc,
        "Layerwise linear feature connectivity",
        "1 − cos between f<sup>(ℓ)</sup>(θ<sub>α</sub>) and (1−α) f<sup>(ℓ)</sup>(θ<sub>A</sub>) + "
        "α f<sup>(ℓ)</sup>(θ<sub>B</sub>): mean ± standard deviation over samples, for each layer ℓ. "
        "Black: the same distance between f<sup>(ℓ)</sup>(θ<sub>A</sub>) and f<sup>(ℓ)</sup>(θ<sub>B</sub>). "
        "LLFC holds where the colours lie far below the black. ▽: below the axis. †: every feature was zero.",
    ),
    "coefficient": FigureSpec(
        draw_coefficient,
        "Coefficient",
        "⟨u, v⟩ / ‖v‖² for u = f<sup>(ℓ)</sup>(θ<sub>α</sub>) and v = (1−α) f<sup>(ℓ)</sup>(θ<sub>A</sub>) + "
        "α f<sup>(ℓ)</sup>(θ<sub>B</sub>): mean ± standard deviation over samples. "
        "One (dashed) means that the features interpolate without shrinking.",
    ),
    "causes": FigureSpec(
        draw_causes,
        "Why LLFC holds",
        "Left, weak additivity: 1 − cos between (1−α) σ(h<sub>A</sub>) + α σ(h<sub>B</sub>) and "
        "σ((1−α) h<sub>A</sub> + α h<sub>B</sub>) at the input h of every ReLU σ, mean ± standard deviation "
        "over samples. Right, commutativity: Dist<sub>com</sub> between W<sub>A</sub>H<sub>A</sub> + "
        "W<sub>B</sub>H<sub>B</sub> and W<sub>A</sub>H<sub>B</sub> + W<sub>B</sub>H<sub>A</sub> for every "
        "linear layer with weights W and inputs H, with the distances of the weights and of the inputs "
        "themselves; dist(x, y) = ‖x − y‖² / (‖x‖ ‖y‖). Both hold where the values are small, and "
        "Dist<sub>com</sub> far below the other two. Zeros are not drawn.",
    ),
    "deviation": FigureSpec(
        draw_deviation,
        "Where deviations come from",
        "δ = f<sup>(ℓ)</sup>(θ<sub>α</sub>) − v with v = (1−α) f<sup>(ℓ)</sup>(θ<sub>A</sub>) + "
        "α f<sup>(ℓ)</sup>(θ<sub>B</sub>), at α ≈ ½ and relative to v; a bar is as high as ‖δ‖ / ‖v‖ and "
        "divided by the shares ⟨part, δ⟩ / ‖δ‖², which sum to one: what the layer inherits from the layers "
        "below, and what arises in it. A part below zero works against the deviation.",
    ),
    "stitching": FigureSpec(
        draw_stitching,
        "Stitching",
        "Test error of the network whose layers up to ℓ are one network's and the others the other's.",
    ),
    "spectra": FigureSpec(
        draw_spectra,
        "Subspaces and ranks",
        "Left: principal angles between the subspaces of the largest singular values of A's and B's weights: "
        "median, smallest and largest; none where the subspaces fill the whole space. "
        "Right: effective rank, the exponential of the entropy of the "
        "normalised singular values, of the features (lines) and of the weights (crosses) of θ<sub>α</sub>.",
    ),
    "training": FigureSpec(
        draw_training,
        "Training",
        "Loss and error over training: solid on the test set, dotted on the training set. "
        "A vertical line marks the epoch at which spawned children part.",
    ),
}


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
                ax.set_title(reading.path_label(path), loc="left", pad=13 if _staged(entry) else 4)
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
            ax.set_title(reading.path_label(path), loc="left", pad=13 if _staged(entry) else 4)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(handles), 5) if width > style.COLUMN else 2 if len(handles) <= 4 else 3
    figure.legend(handles, labels, ncols=columns, **ABOVE)
    axes[-1].set_xlabel(LAYER_AXIS)
    return figure
