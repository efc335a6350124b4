"""A sweep of spawn epochs and a permuted pair, with everything measured, from configuration to one report."""

import json
from pathlib import Path

import pytest

from configs import test as test_config
from llfc_jax.errors import UserError
from llfc_jax.measures import STANDARD
from llfc_jax.run import experiment
from llfc_jax.run.compare import compare
from llfc_jax.storage import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unrendered")]

COMMAND = "llfc_jax compare spawned permuted --out=both"


def run(directory, **changes):
    config = test_config.get_config()
    common = {"llfc.alphas": (0.5,), "lmc.num_alphas": 3, "model.hidden": (16,), "train.epochs": 2}
    common |= {"principal_angles.top_k": 3, "train.checkpoint_every_epochs": 2}
    config.update_from_flattened_dict(common | changes)
    experiment.run(config, directory, COMMAND)
    return directory


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    parent = tmp_path_factory.mktemp("compare")
    sweep = {"train.spawn_sweep": (0.0, 0.5, 1.0), "measures": ("lmc", "llfc")}
    permuted = {
        "train.pair": "independent",
        "train.epochs": 1,
        "measures": STANDARD,
        "align.method": "weight_matching",
        "align.restarts": 1,
    }
    return run(parent / "swept", **sweep), run(parent / "permuted", **permuted)


def results_of(directory: Path):
    return json.loads((directory / "results.json").read_text())


def test_a_sweep_measures_each_pair_and_draws_them_over_the_spawn_epoch(runs):
    swept, _ = runs
    assert list(results_of(swept)["lmc"]) == ["a@0-b@0", "a@0.5-b@0.5", "a@1-b@1"]
    assert (swept / "figures" / "spawn_sweep.png").is_file()
    steps = {
        name: checkpoint.steps(swept / "checkpoints" / name)[-1]
        for name in ("trunk@0", "trunk@0.5", "trunk@1", "a@0.5")
    }
    assert steps == {"trunk@0": 0, "trunk@0.5": 4, "trunk@1": 8, "a@0.5": 16}


def test_every_measure_is_in_the_results_and_in_the_report_for_both_paths(runs):
    _, permuted = runs
    results = results_of(permuted)
    for measure in STANDARD:
        assert list(results[measure]) == ["a-b", "a-b_aligned"], measure
    for figure in ("causes", "deviation", "stitching", "spectra"):
        assert (permuted / "figures" / f"{figure}.svg").is_file()
    page = (permuted / "report.html").read_text()
    assert "Why LLFC holds" in page
    assert "Lemma 1" in page


def test_permuting_b_leaves_its_own_quantities_alone(runs):
    """Ranks and the loss of the whole network don't depend on the order of its units."""
    results = results_of(runs[1])
    naive, aligned = (results["effective_rank"][path]["layers"] for path in ("a-b", "a-b_aligned"))
    for one, other in zip(naive, aligned, strict=True):
        assert one["features"][-1] == pytest.approx(other["features"][-1], rel=1e-3)
    naive, aligned = (results["stitching"][path]["layers"][-1] for path in ("a-b", "a-b_aligned"))
    assert naive["prefix_b"]["loss"] == pytest.approx(aligned["prefix_b"]["loss"], rel=1e-5)


def test_runs_side_by_side_make_one_report(runs, tmp_path):
    page = compare(runs, tmp_path / "both", COMMAND)
    assert "permuted: A–π(B)" in page.read_text()
    combined, permuted = results_of(tmp_path / "both"), results_of(runs[1])
    assert combined["llfc"]["permuted|a-b_aligned"] == permuted["llfc"]["a-b_aligned"]
    assert "swept|a@1-b@1" in combined["lmc"]
    assert compare(runs, tmp_path / "both", COMMAND) == page


def test_a_run_is_not_overwritten_by_a_comparison(runs):
    before = (runs[0] / "results.json").read_bytes()
    with pytest.raises(UserError, match="belongs to another run"):
        compare(runs, runs[0], COMMAND)
    assert (runs[0] / "results.json").read_bytes() == before


def test_a_run_named_twice_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match=r"expected different runs; found .*, "):
        compare([runs[0], runs[0]], tmp_path, COMMAND)


def test_a_directory_without_results_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match=r"results\.json"):
        compare([runs[0], tmp_path], tmp_path / "both", COMMAND)
