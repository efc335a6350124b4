"""Runs side by side."""

import dataclasses

import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.reporting import contrast, drawing, figures, page, tables, verdict
from llfc_jax.results import check

RUNS = {"spawned": synthetic_results.spawned_mlp(), "permuted": synthetic_results.aligned_mlp()}


def test_every_path_keeps_its_numbers_and_verdict_under_its_runs_name():
    results = contrast.combine(RUNS)
    assert list(results["lmc"]) == ["spawned|a-b", "permuted|a-b", "permuted|a-b_aligned"]
    for name, alone in RUNS.items():
        for path in alone["lmc"]:
            assert results["llfc"][f"{name}|{path}"] == alone["llfc"][path]
            ours, theirs = verdict(results, f"{name}|{path}"), verdict(alone, path)
            assert dataclasses.replace(ours, path=path) == theirs
    assert check(results | {"command": "compare"})


def test_one_page_names_all_runs_and_shows_their_paths(unrendered):
    results = contrast.combine(RUNS) | {"command": "llfc_jax compare spawned permuted --out=both"}
    drawings = list(drawing.draw(results))
    html = page.render(results, drawings)
    for label in ("spawned · permuted", "spawned: A–B", "permuted: A–π(B)"):
        assert label in html
    assert {"lmc", "llfc", "causes", "deviation"} <= {one.name for one in drawings}
    assert "permuted: π(B)" in tables.terminal(results)


def test_what_a_run_did_not_measure_leaves_a_gap_not_an_error():
    missing = ("weak_additivity", "principal_angles")
    fewer = {name: entry for name, entry in RUNS["permuted"].items() if name not in missing}
    for runs in ({"fewer": fewer, "all": RUNS["permuted"]}, {"all": RUNS["permuted"], "fewer": fewer}):
        for draw in (figures.draw_causes, figures.draw_spectra):
            figure = draw(contrast.combine(runs))
            texts = [text.get_text() for ax in figure.axes for text in ax.texts]
            assert texts.count("not measured") == 2  # its two paths


def changed(results, section, field, value):
    return results | {section: results[section] | {field: value}}


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [("model", "parameters", 7), ("data", "fingerprint", "another"), ("data", "test_examples", 100)],
)
def test_runs_of_another_size_or_data_are_refused(section, field, value):
    other = changed(RUNS["permuted"], section, field, value)
    with pytest.raises(UserError, match=f"other: expected the {section}'s {field} of mlp, .*; found {value}"):
        contrast.combine({"mlp": RUNS["spawned"], "other": other})


def test_runs_that_are_judged_otherwise_are_refused_by_the_field_that_differs():
    limits = [
        changed(run, "config", "verdict", {"max_llfc": at, "chance": 0.9})
        for at, run in enumerate(RUNS.values())
    ]
    with pytest.raises(UserError, match=r"^two: expected the config's verdict.max_llfc of one, 0; found 1$"):
        contrast.combine(dict(zip(("one", "two"), limits, strict=True)))


def test_runs_that_looked_at_other_alphas_are_refused():
    llfc = {path: entry | {"alphas": [0.5]} for path, entry in RUNS["permuted"]["llfc"].items()}
    with pytest.raises(UserError, match=r"llfc.alphas: expected the same in all runs; found \[\(0.25, .*"):
        contrast.combine({"mlp": RUNS["spawned"], "other": RUNS["permuted"] | {"llfc": llfc}})


def test_runs_of_different_architectures_are_refused():
    with pytest.raises(UserError, match=r"deep: expected the model's stages of mlp, dense1 .* found conv0"):
        contrast.combine({"mlp": synthetic_results.spawned_mlp(), "deep": synthetic_results.deep_resnet()})
