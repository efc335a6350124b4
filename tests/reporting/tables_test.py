import csv
import re

import pytest
import synthetic_results

from llfc_jax.reporting import tables, tidy


@pytest.mark.parametrize("case", sorted(synthetic_results.CASES))
@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_table_fits_and_is_short(case, width):
    lines = tables.terminal(synthetic_results.CASES[case](), width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 50
    assert "nan" not in "\n".join(lines).lower()


def test_without_colour_the_text_is_plain_and_with_it_is_not():
    results = synthetic_results.unconnected_mlp()
    assert "\x1b" not in tables.terminal(results)
    assert "\x1b" in tables.terminal(results, colour=True)


def test_barriers_before_and_after_alignment_stand_in_one_table():
    text = tables.terminal(synthetic_results.aligned_mlp())
    assert re.search(r"^A–B +1\.310 +43\.0 % +1\.179 +40\.8 % +no +no$", text, re.MULTILINE)
    assert re.search(r"^A–π\(B\) +0\.0140 +0\.40 % +0\.0126 +0\.38 % +yes +yes$", text, re.MULTILINE)


def test_a_deep_network_is_cut_to_its_first_last_and_worst_layers():
    results = synthetic_results.deep_resnet(18)
    for path in ("a-b", "a-b/recompute"):
        results["llfc"][path]["layers"][200]["cosine_distance"]["mean"][1] = 1.5
    text = tables.terminal(results)
    layers = [layer["layer"] for layer in results["llfc"]["a-b"]["layers"]]
    rows = [line.split()[0] for line in text.splitlines() if line.split() and line.split()[0] in layers]
    assert len(rows) == tables.MAX_ROWS
    assert rows[0] == layers[0]
    assert rows[-1] == layers[-1]
    assert layers[200] in rows
    assert f"of {len(layers)} layers" in text


def read(path):
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return tuple(reader.fieldnames), list(reader)


def test_csv_holds_every_number_once(tmp_path):
    results = synthetic_results.aligned_mlp()
    layers, curves = tidy.write_csv(results, tmp_path)
    header, rows = read(layers)
    assert header == tidy.LAYER_COLUMNS
    of_llfc = 2 * 7 * (1 + 3 * 3)
    weak_additivity, commutativity, deviations = 2 * 3 * 3, 2 * 4 * 3, 2 * 7 * 3 * 3
    assert len(rows) == of_llfc + weak_additivity + commutativity + deviations
    (row,) = [
        row
        for row in rows
        if (row["path"], row["layer"], row["alpha"], row["quantity"])
        == ("a-b_aligned", "relu2", "0.75", "coefficient")
    ]
    layer = results["llfc"]["a-b_aligned"]["layers"][3]
    assert float(row["mean"]) == layer["coefficient"]["mean"][2]
    assert float(row["dataset"]) == layer["dataset"]["coefficient"][2]
    assert (row["index"], row["kind"], row["dead"]) == ("3", "relu", "0")

    header, rows = read(curves)
    assert header == tidy.CURVE_COLUMNS
    assert len(rows) == 2 * 2 * 25
    first = [float(row["loss"]) for row in rows if (row["path"], row["split"]) == ("a-b", "train")]
    assert first == results["lmc"]["a-b"]["train"]["loss"]


def test_null_is_an_empty_cell(tmp_path):
    layers, curves = tidy.write_csv(synthetic_results.wounded_mlp(), tmp_path)
    assert [row["mean"] for row in read(layers)[1] if row["layer"] == "relu2"][:7] == [""] * 7
    assert [row["loss"] for row in read(curves)[1]].count("") == 1


def test_measures_on_request_have_a_long_table_of_layers_and_alphas(tmp_path):
    layers = [
        {"layer": name, "kind": "dense", "cka": [1.0, value]} for name, value in (("x", 0.5), ("y", None))
    ]
    results = synthetic_results.spawned_mlp() | {
        "similarity": {"a-b": {"alphas": [0.0, 0.5], "layers": layers, "quantities": {"cka": "CKA"}}},
        "own": {"a-b": {"alphas": [0.0, 1.0], "size": [2.0, 3.0], "quantities": {"size": "size"}}},
        "layerwise_lmc": {
            "a-b": {"alpha": 0.5, "layers": [{"layer": "x", "kind": "dense", "alone": 4.0}]}
            | {"quantities": {"alone": "loss, layer alone interpolated (nats)"}}
        },
    }
    *_, measures = tidy.write_csv(results, tmp_path)
    header, rows = read(measures)
    assert header == tidy.MEASURE_COLUMNS
    assert [tuple(row.values()) for row in rows] == [
        ("a-b", "similarity", "cka", "x", "0.0", "1.0"),
        ("a-b", "similarity", "cka", "x", "0.5", "0.5"),
        ("a-b", "similarity", "cka", "y", "0.0", "1.0"),
        ("a-b", "similarity", "cka", "y", "0.5", ""),
        ("a-b", "own", "size", "", "0.0", "2.0"),
        ("a-b", "own", "size", "", "1.0", "3.0"),
        ("a-b", "layerwise_lmc", "alone", "x", "0.5", "4.0"),
    ]
