"""Runs side by side."""

import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.report import contrast, figures, page, tables, verdict


def combined():
    runs = {"spawned": synthetic_results.spawned_mlp(), "permuted": synthetic_results.aligned_mlp()}
    return contrast.combine(runs)


def test_every_path_keeps_its_numbers_and_verdict_under_its_runs_name():
    results = combined()
    assert list(results["lmc"]) == ["spawned|a-b", "permuted|a-b", "permuted|a-b_aligned"]
    for name, run in (("spawned", "spawned_mlp"), ("permuted", "aligned_mlp")):
        alone = synthetic_results.CASES[{"spawned_mlp": "spawned", "aligned_mlp": "aligned"}[run]]()
        for path in alone["lmc"]:
            assert results["llfc"][f"{name}|{path}"] == alone["llfc"][path]
            ours, theirs = verdict(results, f"{name}|{path}"), verdict(alone, path)
            assert (ours.connected, ours.linear, ours.at_chance) == (
                theirs.connected,
                theirs.linear,
                theirs.at_chance,
            )


def test_one_page_names_all_runs_and_shows_their_paths():
    results = combined() | {"command": "python -m llfc_jax.compare spawned permuted --out=both"}
    html = page.render(results)
    for label in ("spawned · permuted", "spawned: A–B", "permuted: A–π(B)"):
        assert label in html
    assert {"lmc", "llfc", "causes", "deviation"} <= {name for name, _ in figures.drawn(results)}
    assert "permuted: π(B)" in tables.terminal(results)


def test_runs_of_different_architectures_are_refused():
    with pytest.raises(UserError, match=r"deep: expected the model's stages of mlp, dense1 .* found conv0"):
        contrast.combine({"mlp": synthetic_results.spawned_mlp(), "deep": synthetic_results.deep_resnet()})
