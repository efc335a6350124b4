"""Runs side by side."""

import dataclasses

import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.report import contrast, figures, page, tables, verdict

RUNS = {"spawned": synthetic_results.spawned_mlp(), "permuted": synthetic_results.aligned_mlp()}


def test_every_path_keeps_its_numbers_and_verdict_under_its_runs_name():
    results = contrast.combine(RUNS)
    assert list(results["lmc"]) == ["spawned|a-b", "permuted|a-b", "permuted|a-b_aligned"]
    for name, alone in RUNS.items():
        for path in alone["lmc"]:
            assert results["llfc"][f"{name}|{path}"] == alone["llfc"][path]
            ours, theirs = verdict(results, f"{name}|{path}"), verdict(alone, path)
            assert dataclasses.replace(ours, path=path) == theirs


def test_one_page_names_all_runs_and_shows_their_paths():
    results = contrast.combine(RUNS) | {"command": "python -m llfc_jax.compare spawned permuted --out=both"}
    html = page.render(results)
    for label in ("spawned · permuted", "spawned: A–B", "permuted: A–π(B)"):
        assert label in html
    assert {"lmc", "llfc", "causes", "deviation"} <= {name for name, _ in figures.drawn(results)}
    assert "permuted: π(B)" in tables.terminal(results)


def test_runs_of_different_architectures_are_refused():
    with pytest.raises(UserError, match=r"deep: expected the model's stages of mlp, dense1 .* found conv0"):
        contrast.combine({"mlp": synthetic_results.spawned_mlp(), "deep": synthetic_results.deep_resnet()})
