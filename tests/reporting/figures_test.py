import itertools
import re
from xml.etree import ElementTree

import pytest
import synthetic_results
from matplotlib.colors import to_hex

from llfc_jax.measures import similarity
from llfc_jax.reporting import drawing, figures, layer_panels, style


def test_the_same_results_give_the_same_bytes(tmp_path):
    whole = synthetic_results.aligned_mlp()
    results = {name: whole[name] for name in ("llfc", "data")}
    first = drawing.write(drawing.draw(results), tmp_path / "first")
    second = drawing.write(drawing.draw(results), tmp_path / "second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_figure_of_similarities_says_up_to_how_many_units_they_are_taken():
    assert figures.FIGURES["similarity"].title.endswith(f" of up to {similarity.MAX_UNITS} units")


def test_a_figure_without_its_measure_is_left_out():
    results = synthetic_results.spawned_mlp()
    del results["llfc"], results["training"]
    assert [name for name, _ in drawing.drawn(results)] == ["lmc"]
    assert list(drawing.drawn({})) == []


def test_no_text_is_smaller_than_seven_points():
    for _, figure in drawing.drawn(synthetic_results.wounded_mlp()):
        texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize"))
        assert min(text.get_fontsize() for text in texts) >= 7


@pytest.mark.parametrize("blocks", [3, 18])
def test_layer_labels_of_a_deep_network_do_not_overlap_and_name_the_last(blocks):
    results = synthetic_results.deep_resnet(blocks)
    figure = figures.draw_llfc(results)
    figure.draw_without_rendering()
    ax = figure.axes[-1]
    labels = ax.get_xticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 <= right.x0 + 1 for left, right in itertools.pairwise(boxes))
    assert labels[-1].get_text() == "dense"


def test_every_layer_is_drawn_even_where_labels_are_thinned():
    results = synthetic_results.deep_resnet()
    ax = figures.draw_llfc(results).axes[0]
    assert max(len(line.get_xdata()) for line in ax.lines) == len(results["llfc"]["a-b"]["layers"])


def test_the_barrier_arrow_spans_the_excess_at_its_argmax():
    results = synthetic_results.unconnected_mlp()
    (arrow,) = [text for text in figures.draw_lmc(results).axes[0].texts if text.get_text() == ""]
    test = results["lmc"]["a-b"]["test"]
    assert arrow.xy[0] == 0.5
    assert arrow.xy[1] - arrow.xyann[1] == pytest.approx(test["loss_barrier"])


def test_a_curve_that_never_rises_above_its_chord_has_no_arrow():
    results = synthetic_results.spawned_mlp()
    results["lmc"] = {"a-b": synthetic_results.lmc_entry(-0.002, -0.001)}
    assert not any(text.get_text() == "" for ax in figures.draw_lmc(results).axes for text in ax.texts)


def test_the_naive_path_is_dashed_beside_an_aligned_one():
    ax = figures.draw_lmc(synthetic_results.aligned_mlp()).axes[0]
    styles = {line.get_label().split()[0]: line.get_linestyle() for line in ax.get_legend_handles_labels()[0]}
    assert styles == {"A–B": "--", "A–π(B)": "-"}


def test_a_dead_layer_is_marked_and_leaves_the_rest_in_place():
    ax = figures.draw_llfc(synthetic_results.wounded_mlp()).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()][3] == "relu2 †"


def test_the_distance_axis_is_logarithmic_only_where_the_range_asks_for_it():
    wide = synthetic_results.llfc_entry(synthetic_results.MLP, 0.01)
    narrow = synthetic_results.llfc_entry(synthetic_results.MLP, 1.0)
    narrow["layers"] = narrow["layers"][3:]
    assert layer_panels.distance_limits([wide])[0] > 0
    assert layer_panels.distance_limits([narrow])[0] == 0


def test_children_start_where_the_trunk_ends():
    ax = figures.draw_training(synthetic_results.spawned_mlp()).axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["trunk"].get_xydata()[-1] == pytest.approx(lines["A"].get_xydata()[0])
    assert lines["trunk"].get_xydata()[-1] == pytest.approx(lines["B"].get_xydata()[0])


def test_captions_are_wellformed_html_and_name_no_markup_in_titles():
    results = synthetic_results.aligned_mlp()
    for spec in figures.FIGURES.values():
        ElementTree.fromstring(f"<p>{spec.caption(results)}</p>")
        assert not re.search("[<>&]", spec.title)


def test_a_caption_says_how_many_directions_and_examples():
    results = synthetic_results.aligned_mlp()
    assert "the subspaces of the 2 largest singular values" in figures.FIGURES["spectra"].caption(results)
    assert "quartiles over 10,000 test examples" in figures.FIGURES["llfc"].caption(results)


def colours_of(ax):
    return {line.get_label(): to_hex(line.get_color()) for line in ax.get_legend_handles_labels()[0]}


def test_a_path_has_one_colour_in_every_figure():
    results = synthetic_results.aligned_mlp()
    summary, lmc = figures.draw_summary(results), figures.draw_lmc(results)
    curves, parts, alone = (colours_of(ax) for ax in (summary.axes[0], summary.axes[2], lmc.axes[1]))
    assert list(curves.values()) == list(parts.values()) == list(alone.values())
    assert len({*parts.values()}) == 2


def test_an_alpha_has_one_colour_in_every_figure():
    results = synthetic_results.aligned_mlp()
    distances = {
        container.get_label(): to_hex(container[0].get_color())
        for container in figures.draw_llfc(results).axes[0].containers
    }
    ranks = colours_of(figures.draw_spectra(results).axes[-1])
    assert r"$\alpha=0.5$" in ranks
    assert distances[r"$\alpha=0.5$"] == ranks[r"$\alpha=0.5$"]


def test_effective_ranks_that_coincide_all_stay_visible():
    ax = figures.draw_spectra(synthetic_results.aligned_mlp()).axes[-1]
    sizes = [line.get_markersize() for line in ax.get_legend_handles_labels()[0]]
    assert sizes == sorted(sizes, reverse=True)
    assert len({*sizes}) == len(sizes) == 3


def test_an_example_more_or_less_does_not_fill_an_axis():
    results = synthetic_results.spawned_mlp()
    for ends in results["endpoints"].values():
        ends["test"] = ends["train"] = {"loss": 1e-6, "error": 1e-4}
    entry = synthetic_results.lmc_entry(0.0, 0.0)
    for split in ("test", "train"):
        entry[split]["loss"] = [1e-6] * 25
        entry[split]["error"] = [1e-4] * 25
    loss, error = figures.draw_lmc(results | {"lmc": {"a-b": entry}}).axes
    assert loss.get_ylim()[1] >= 0.05
    assert error.get_ylim()[1] >= 2


@pytest.mark.parametrize("draw", [figures.draw_coefficient, figures.draw_deviation])
def test_panels_that_share_an_axis_show_all_of_each(draw):
    results = synthetic_results.aligned_mlp()
    for first, second in (("a-b", "a-b_aligned"), ("a-b_aligned", "a-b")):
        for path, value in ((first, 0.1), (second, 1.0)):
            for layer in results["llfc"][path]["layers"]:
                layer["coefficient"] = {"mean": [value] * 3, "std": [0.0] * 3}
            for layer in results["deviation"][path]["layers"]:
                layer["deviation"] = [value] * 3
        for ax in draw(results).axes:
            low, high = ax.get_ylim()
            assert low <= 0.1
            assert high >= 1


def test_dollars_in_names_are_no_mathematics():
    results = synthetic_results.aligned_mlp()
    for entry in results["llfc"].values():
        entry["layers"][1]["layer"] = "$x_$"
        entry["layers"][2]["layer"] = r"$\frac$"
    figure = figures.draw_llfc(results)
    figure.draw_without_rendering()  # Matplotlib would refuse this mathematics
    assert figure.axes[-1].get_xticklabels()[1].get_text() == r"\$x_\$"


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((15, 60), ["20", "30", "40", "50"]),
        ((2, 90), ["2", "5", "10", "20", "50"]),
        ((0.01, 8), ["0.01", "0.1", "1"]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(limits, labels):
    figure = style.figure(3, 3)
    ax = figure.subplots()
    ax.set_yscale("log")
    ax.set_ylim(*limits)
    style.log_ticks(ax.yaxis)
    figure.draw_without_rendering()
    shown = [t.label1.get_text() for t in ax.yaxis.get_major_ticks() if limits[0] <= t.get_loc() <= limits[1]]
    assert shown == labels


def test_an_estimate_of_one_run_has_a_band_of_its_standard_error():
    quantities = {"top": "largest Hessian eigenvalue", "trace": "Hessian trace"}
    entry = {"alphas": [0.0, 1.0], "top": [2.0, 1.0], "trace": [9.0, 5.0], "trace_std_error": [3.0, 1.0]}
    results = {"sharpness": {"a-b": entry | {"quantities": quantities}}}
    top, trace = figures.FIGURES["sharpness"].draw(results).axes
    assert len(top.collections) == 0
    (band,) = trace.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (4, 12)
    assert "standard error" in figures.FIGURES["sharpness"].caption(results)
