"""Many runs as one."""

import copy
import csv
import io
import re

import numpy as np
import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.reporting import drawing, figures, groups, page, tables, tidy
from llfc_jax.results import check
from llfc_jax.storage.files import plain

COMMAND = {"command": "llfc_jax --config=mnist_mlp"}


def run(seed, loss_bump=0.0012, error_bump=0.0005, share=0.04, **fields):
    results = synthetic_results.spawned_mlp()
    results["lmc"]["a-b"] = synthetic_results.lmc_entry(loss_bump, error_bump)
    results["llfc"]["a-b"] = synthetic_results.llfc_entry(synthetic_results.MLP, share, seed)
    results["config"] |= {"seed": seed, **fields}
    return results


SEEDS = {
    "one": run(1, 0.001),
    "far": run(2, 0.9, 0.3, 0.8),
    "none": run(0, 0.002),
}
WIDTHS = {
    f"width={width},seed={seed}": run(seed, bump, bump / 3, model={"width": width})
    for width, bump in ((4.0, 0.1), (0.5, 0.9))
    for seed in (0, 1, 2)
}


def overview(runs, fields=None):
    return plain(groups.overview(runs, fields) | COMMAND)


def test_a_group_has_mean_deviation_and_each_run_by_its_seed():
    found = overview(SEEDS)
    assert check(found) == found
    (group,) = found["groups"]
    assert (group["fields"], group["runs"]) == ({}, {"none": 0, "one": 1, "far": 2})
    each = [SEEDS[name]["lmc"]["a-b"]["test"]["loss_barrier"] for name in ("none", "one", "far")]
    barrier = group["paths"]["a-b"]["quantities"]["test_loss_barrier"]
    assert barrier["each"] == each
    np.testing.assert_allclose([barrier["mean"], barrier["std"]], [np.mean(each), np.std(each, ddof=1)])
    curves = np.array([SEEDS[name]["lmc"]["a-b"]["train"]["error"] for name in ("none", "one", "far")])
    along = group["paths"]["a-b"]["curves"]["train_error"]
    np.testing.assert_allclose(along["mean"], curves.mean(0))
    np.testing.assert_allclose(along["std"], curves.std(0, ddof=1))
    assert group["networks"]["b"]["test_error"] == {"mean": 0.0224, "std": 0, "each": [0.0224] * 3}
    assert len(group["paths"]["a-b"]["layers"]) == len(synthetic_results.MLP)


def test_verdicts_are_counted_and_said():
    found = overview(SEEDS)
    assert found["groups"][0]["paths"]["a-b"]["lmc"] == ["holds", "holds", "does not hold"]
    said = tables.terminal(found)
    assert "A–B: LMC holds in 2 of 3 runs; does not hold in 1. LLFC holds in 2 of 3 runs;" in said
    assert "0.301 ± 0.519" in said  # of 0.001, 0.002 and 0.9
    assert max(map(len, said.splitlines())) <= 100


def test_runs_of_several_configurations_are_groups_by_the_fields_that_differ():
    found = overview(WIDTHS)
    assert [group["fields"] for group in found["groups"]] == [{"model.width": 4.0}, {"model.width": 0.5}]
    assert [*found["groups"][1]["runs"].values()] == [0, 1, 2]
    named = {
        name: results | {"config": results["config"] | {"name": name[:7]}} for name, results in WIDTHS.items()
    }
    assert [groups.label(group) for group in overview(named)["groups"]] == ["width=4", "width=0"]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (SEEDS, True),
        ({"a": SEEDS["one"], "b": WIDTHS["width=4.0,seed=0"]}, False),  # one of each
        ({"a": SEEDS["one"], "b": copy.deepcopy(SEEDS["one"])}, False),  # the same run twice
        ({"a": SEEDS["one"], "b": SEEDS["far"], "c": WIDTHS["width=4.0,seed=0"]}, True),
    ],
)
def test_replicates_differ_in_the_seed_alone(runs, expected):
    assert groups.are_replicates(runs) == expected


def test_replicates_that_saw_other_data_are_refused_by_the_field():
    other = run(3)
    other["data"]["fingerprint"] = "another"
    with pytest.raises(
        UserError, match="other: expected the data's fingerprint of none, 0c5d8e3f; found another"
    ):
        groups.overview(SEEDS | {"other": other})


def test_what_is_undefined_in_a_run_is_undefined_in_the_mean_and_drawn_as_a_gap():
    found = overview({"well": run(1), "wounded": synthetic_results.wounded_mlp()})
    assert check(found)
    path = found["groups"][0]["paths"]["a-b"]
    dead, alive = path["layers"][3]["part"], path["layers"][2]["part"]
    assert dead["mean"] is None
    assert [value is None for value in dead["each"]] == [True, False]
    assert alive["mean"] == pytest.approx(np.mean(alive["each"]))
    assert path["curves"]["train_loss"]["mean"][12] is None
    html = page.render(found, list(drawing.draw(found)))
    assert "LMC holds in 1 of 2 runs; is undefined in 1" in html
    assert tables.terminal(found)


def axes_of(found, name):
    spec = figures.FIGURES[name]
    figure = spec.draw(found)
    return figure and figure.axes


def measured(seed):
    """A run with a measure of layers, one along alpha, one of both networks, and nothing of LMC and LLFC."""
    results, bump = run(seed), 0.01 * seed
    layers = [{"layer": name, "kind": "dense"} for name in ("dense1", "dense2")]
    results["similarity"] = {
        "a-b": {
            "alphas": [0.0, 0.5, 1.0],
            "layers": [layer | {"cka": [1.0, 0.9 - bump - 0.1 * at, 0.8]} for at, layer in enumerate(layers)],
            "quantities": {"cka": "linear CKA with A"},
        }
    }
    results["temperature"] = {
        "a-b": {
            "alphas": [0.0, 0.5, 1.0],
            "temperature": [1.0, 2.0 + bump, 1.5],
            "loss": [1.0, 1.0, 1.0],
            "recalibrated_loss": [1.0, 1.0, 1.0],
            "barrier": bump,
            "recalibrated_barrier": None if seed == 2 else 0.0,
            "quantities": {"temperature": "temperature"},
        }
    }
    return {name: entry for name, entry in results.items() if name not in ("lmc", "llfc")}


MEASURED = {f"seed={seed}": measured(seed) for seed in (0, 1, 2)}


def test_every_measure_has_mean_deviation_and_each_run():
    found = overview(MEASURED)
    assert check(found) == found
    measures = found["groups"][0]["paths"]["a-b"]["measures"]
    for at, layer in enumerate(measures["similarity"]["layers"]):
        own = layer["values"]["cka"]
        assert own["each"] == [
            each["similarity"]["a-b"]["layers"][at]["cka"][1] for each in MEASURED.values()
        ]
        np.testing.assert_allclose(
            [own["mean"], own["std"]], [np.mean(own["each"]), np.std(own["each"], ddof=1)]
        )
    along = measures["temperature"]["along"]["temperature"]
    np.testing.assert_allclose(along["mean"], [1, 2.01, 1.5])
    np.testing.assert_allclose(along["std"], [0, 0.01, 0], atol=1e-12)
    whole = measures["temperature"]["of_path"]
    assert whole["barrier"]["each"] == [0.0, 0.01, 0.02]
    assert whole["recalibrated_barrier"]["mean"] is None  # undefined in a run


def test_causes_have_numbers_of_their_layers():
    runs = {}
    for seed in (0, 1):
        distance = {"mean": 0.1 + seed, "std": 0.0, "dataset": 0.2}
        layer = {"layer": "dense1", "kind": "dense", "dist_com": distance, "dist_w": 2.0, "dist_h": distance}
        runs[f"seed={seed}"] = run(seed) | {"commutativity": {"a-b": {"layers": [layer | {"dead": 0}]}}}
    found = overview(runs)
    assert check(found)
    (layer,) = found["groups"][0]["paths"]["a-b"]["measures"]["commutativity"]["layers"]
    assert layer["values"]["dist_com.mean"]["each"] == [0.1, 1.1]
    assert layer["values"]["dist_w"]["std"] == 0
    panels = axes_of(found, "causes_of_runs")
    assert [ax.get_title("left") for ax in panels] == ["Dist_com", "Dist_W", "Dist_H"]


def test_runs_without_lmc_and_llfc_are_told_by_their_other_measures(tmp_path):
    found = overview(MEASURED)
    said, html = tables.terminal(found), page.render(found, list(drawing.draw(found)))
    for text in (said, html):
        assert "0.890 ± 0.010 (dense1)" in text
        assert "2.010 ± 0.010 (α = ½)" in text
        assert "Barriers" not in text
        assert "LMC" not in text
    cka, temperature = (axes_of(found, name) for name in ("similarity", "temperature"))
    for ax, mean in ((cka[0], [0.89, 0.79]), (temperature[0], [1, 2.01, 1.5])):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), mean)
        assert len(ax.collections) == 1  # the band

    files = {
        file.name: list(csv.DictReader(io.StringIO(file.read_text())))
        for file in tidy.write_csv(found, tmp_path)
    }
    of_layer, of_alpha, of_path = (
        [row for row in files["measures.csv"] if row["seed"] == "1" and row["quantity"] == quantity]
        for quantity in ("cka", "temperature", "barrier")
    )
    assert [(row["layer"], row["alpha"], float(row["value"])) for row in of_layer] == [
        (name, "0.5", MEASURED["seed=1"]["similarity"]["a-b"]["layers"][at]["cka"][1])
        for at, name in enumerate(("dense1", "dense2"))
    ]
    assert [(row["layer"], row["alpha"], row["value"]) for row in of_alpha] == [
        ("", "0.0", "1.0"),
        ("", "0.5", "2.01"),
        ("", "1.0", "1.5"),
    ]
    assert [(row["layer"], row["alpha"], row["value"]) for row in of_path] == [("", "", "0.01")]


def test_measures_of_swept_runs_are_told_apart():
    swept = {
        f"{width},{name}": results | {"config": results["config"] | {"model": {"width": width}}}
        for width in (1.0, 2.0)
        for name, results in MEASURED.items()
    }
    swept["2.0,seed=0"]["similarity"] = measured(5)["similarity"]
    found = overview(swept)
    (ax,) = axes_of(found, "similarity")
    assert ax.figure.legends[0].texts[0].get_text() == "1: A–B"
    assert [line.get_label() for line in ax.lines] == ["1: A–B", "2: A–B"]
    assert not np.allclose(ax.lines[0].get_ydata(), ax.lines[1].get_ydata())


def test_layers_are_named_where_groups_have_others_and_left_out_where_none_has_a_number():
    runs = {}
    for width in (1.0, 2.0):
        results = measured(0)
        layers = [
            {
                "layer": name,
                "kind": "dense",
                "features": [4.0],
                **({} if weights is None else {"weights": [weights]}),
            }
            for name, weights in (("dense1", width), ("relu1", None), ("dense2", 3.0))
        ][: 3 if width == 2 else 2]
        results["effective_rank"] = {"a-b": {"alphas": [0.5], "layers": layers}}
        runs[str(width)] = results | {"config": results["config"] | {"model": {"width": width}}}
    features, weights = axes_of(overview(runs), "causes_of_runs")
    assert [label.get_text() for label in features.get_xticklabels()] == ["dense1", "relu1", "dense2"]
    assert [label.get_text() for label in weights.get_xticklabels()] == ["dense1", "dense2"]
    assert [line.get_xydata().tolist() for line in weights.lines] == [[[0, 1]], [[0, 2], [1, 3]]]


def test_what_is_neither_connected_nor_apart_is_counted():
    results = {name: copy.deepcopy(own) for name, own in SEEDS.items()}
    for own in results.values():
        own["lmc"]["a-b"]["test"]["error_excess_std"] = [9.0] * 25  # of which nothing is sure
    row, *_ = tables.overview.paths(overview(results))
    assert row.cells[-2] == "0 of 3; 2 open"  # the third does fail


def test_more_paths_than_colours_are_drawn_in_rows():
    many = {}
    for name, results in SEEDS.items():
        ends = ["a-b", "a-c", "b-c", "a-b_aligned", "a-c_aligned", "b_aligned-c_aligned", "a-control"]
        more = {measure: dict.fromkeys(ends, results[measure]["a-b"]) for measure in ("lmc", "llfc")}
        many[name] = results | more
    loss, error, *second = axes_of(overview(many), "runs")
    drawn = [ax.get_legend_handles_labels()[1] for ax in (loss, error)]
    assert [len(labels) for labels in drawn] == [6, 6]
    labels = {label for ax in (loss, *second) for label in ax.get_legend_handles_labels()[1]}
    assert {"A–B", "A–control"} <= labels


def test_figures_have_a_band_for_each_line_and_a_thin_line_for_each_run():
    loss, error, parts = axes_of(overview(SEEDS), "runs")
    for ax in (loss, error):
        assert len(ax.lines) == 3 + 1
        assert len(ax.collections) == 1
    assert len(parts.collections) >= 1
    mean = np.mean([SEEDS[name]["lmc"]["a-b"]["test"]["loss"] for name in SEEDS], axis=0)
    np.testing.assert_allclose(loss.lines[-1].get_ydata(), mean)


def test_what_all_groups_have_alike_is_said_and_drawn_once():
    methods = {}
    for at, method in enumerate(("weight_matching", "learned_matching")):
        for seed in (0, 1):
            methods[f"{method},{seed}"] = results = run(seed, 0.5, align={"method": method})
            results["lmc"]["a-b_aligned"] = synthetic_results.lmc_entry(0.1 / (1 + at), 0.1)
            results["llfc"]["a-b_aligned"] = synthetic_results.llfc_entry(synthetic_results.MLP, 0.2)
    found = overview(methods)
    aligned = ["weight_matching: A–π(B)", "learned_matching: A–π(B)"]
    assert [row.name for row in tables.overview.paths(found)] == ["A–B", *aligned]
    assert [row.name for row in tables.overview.networks(found)] == ["A", "B"]
    loss, *_ = axes_of(found, "runs")
    assert loss.get_legend_handles_labels()[1] == ["A–B", *aligned]
    assert axes_of(found, "fields")[0].get_legend_handles_labels()[1] == ["A–π(B)"]  # the other has no say


def test_barriers_and_llfc_are_drawn_against_the_field():
    found = overview(WIDTHS)
    loss, error, linear = axes_of(found, "fields")
    assert [label.get_text() for label in loss.get_xticklabels()] == ["4", "0.5"]
    for ax, scale, quantity in ((loss, 1, "test_loss_barrier"), (error, 100, "test_error_barrier")):
        means = [group["paths"]["a-b"]["quantities"][quantity]["mean"] for group in found["groups"]]
        np.testing.assert_allclose(ax.lines[0].get_ydata(), scale * np.array(means))
    assert loss.get_xlabel() == "model.width"
    assert linear.get_ylabel().startswith("LLFC")
    assert axes_of(overview(SEEDS), "fields") is None


def test_between_names_nothing_is_drawn():
    norms = {
        f"norm={norm},seed={seed}": run(seed, 0.1 + 0.1 * seed + more, model={"norm": norm})
        for norm, more in (("none", 0), ("layer", 0.05))
        for seed in (0, 1)
    }
    loss, *_ = axes_of(overview(norms), "fields")
    ((_, caps, (bars,)),) = loss.containers
    assert all(line.get_linestyle() == "None" for line in (loss.containers[0][0], *caps))
    means = [group["paths"]["a-b"]["quantities"]["test_loss_barrier"] for group in overview(norms)["groups"]]
    for segment, found in zip(bars.get_segments(), means, strict=True):
        np.testing.assert_allclose(segment[:, 1], found["mean"] + np.array([-1, 1]) * found["std"])


def test_pairs_of_one_trunk_are_drawn_against_the_epoch_at_which_they_parted():
    swept = {}
    for seed in (0, 1):
        swept[f"seed={seed}"] = results = run(seed)
        paths = [f"a@{epoch}-b@{epoch}" for epoch in (0, 2)]
        results["lmc"] = {path: synthetic_results.lmc_entry(0.1 + seed, 0.1) for path in paths}
        results["llfc"] = {path: synthetic_results.llfc_entry(synthetic_results.MLP, 0.2) for path in paths}
    loss, *_ = axes_of(overview(swept), "fields")
    assert loss.get_xlabel() == "spawn epoch $k$"
    assert [label.get_text() for label in loss.get_xticklabels()] == ["0", "2"]
    assert loss.lines[0].get_label() == "A–B"


def test_limits_are_drawn_where_all_groups_have_them():
    fewer = {
        name: results | {"data": results["data"] | {"num_classes": 2}}
        for name, results in WIDTHS.items()
        if "4.0" in name
    }
    for runs, drawn in ((WIDTHS, True), (WIDTHS | fewer, False)):
        loss, *_ = axes_of(overview(runs), "fields")
        assert np.isfinite(loss.lines[-1].get_ydata()).all() == drawn


def test_the_page_says_how_many_runs_and_lists_them():
    for runs, lead in (
        (SEEDS, "3 runs of one configuration, by the seeds 0, 1, 2"),
        (WIDTHS, "6 runs in 2 groups"),
    ):
        found = overview(runs)
        html = page.render(found, list(drawing.draw(found)))
        assert lead in html
        assert all(name in html for name in runs)
        assert not re.search(
            "None|nan|{{", re.sub('base64,[^"]*|<style>.*?</style>', "", html, flags=re.DOTALL)
        )


def test_the_long_table_has_every_number_of_every_run(tmp_path):
    found = overview(WIDTHS)
    (file,) = tidy.write_csv(found, tmp_path)
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert list(rows[0]) == ["run", "model.width", "seed", "of", "quantity", "value"]
    assert len(rows) == 6 * (6 + 2 * 4)  # of a path and two networks
    for name, results in WIDTHS.items():
        (own,) = (
            row
            for row in rows
            if (row["run"], row["of"], row["quantity"]) == (name, "a-b", "test_loss_barrier")
        )
        assert float(own["value"]) == results["lmc"]["a-b"]["test"]["loss_barrier"]
        assert float(own["model.width"]) == results["config"]["model"]["width"]
