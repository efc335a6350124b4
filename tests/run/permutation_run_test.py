"""Independent networks from configuration to results, permuted into one basin."""

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import test as test_config
from llfc_jax.data.batches import batches
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.path.interpolation import lerp, mean
from llfc_jax.reporting import reading, tables
from llfc_jax.run import experiment
from llfc_jax.run.workbench import Workbench, prepare
from llfc_jax.storage import checkpoint
from llfc_jax.symmetry import apply_permutation, permutation_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unrendered")]

COMMAND = "llfc_jax --config=configs/test.py"


class Run(NamedTuple):
    directory: Any
    bench: Workbench
    results: dict[str, Any]

    def restore(self, name, **options):
        return checkpoint.restore(self.directory / "checkpoints" / name, **options)

    def loss(self, variables):
        return evaluate(self.bench.pipeline.apply, variables, batches(self.bench.dataset.test, 100))[0]


def run(directory, **changes):
    config = test_config.get_config()
    common = {"train.pair": "independent", "measures": ("lmc",), "model.hidden": (16,)}
    common |= {"train.checkpoint_every_epochs": config.train.epochs}
    config.update_from_flattened_dict(common | changes)
    experiment.run(config, directory, COMMAND)
    return Run(directory, prepare(config), json.loads((directory / "results.json").read_text()))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The straight-through estimator, nothing mended, merged at the midpoint."""
    changes = {"align.method": "straight_through", "align.epochs": 2, "merge.alpha": 0.5}
    return run(tmp_path_factory.mktemp("plain"), **changes)


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    changes = {"align.method": "weight_matching", "corrections.repair": True, "merge.alpha": 0.5}
    two = {"measures": ("lmc", "llfc"), "llfc.alphas": (0.5,)}
    return run(tmp_path_factory.mktemp("repaired"), **changes, **two)


@pytest.fixture(scope="module")
def batchnorm(tmp_path_factory):
    changes = {"align.method": "activation_matching", "model.norm": "batch"}
    return run(tmp_path_factory.mktemp("batchnorm"), **changes)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    changes = {"align.method": "weight_matching", "corrections.repair": True, "model.hidden": ()}
    return run(tmp_path_factory.mktemp("linear"), **changes)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Beyond permutations; the two networks can be scaled, and have no constraints."""
    changes = {"align.method": "learned_matching", "align.epochs": 2, "align.classes": ("scaling",)}
    return run(tmp_path_factory.mktemp("learned"), **changes, **{"align.ladder": True})


@pytest.fixture(scope="module")
def universe(tmp_path_factory):
    """Three networks, aligned with each other and merged."""
    changes = {
        "train.networks": 3,
        "align.method": "universe_matching",
        "merge.weights": (1, 1, 2),
        "corrections.repair": True,
    }
    return run(tmp_path_factory.mktemp("universe"), **changes)


@pytest.fixture(
    params=[
        ("repaired", "/repair"),
        pytest.param(("plain", ""), marks=pytest.mark.slow),
        pytest.param(("batchnorm", "/recompute"), marks=pytest.mark.slow),
    ],
    ids=lambda param: param[0],
)
def each_run_and_correction(request):
    """A run, and what is appended to the names of the paths that were corrected in it."""
    name, correction = request.param
    return request.getfixturevalue(name), correction


@pytest.fixture
def each_run(each_run_and_correction):
    return each_run_and_correction[0]


def test_every_path_is_measured_plain_and_with_its_correction(each_run_and_correction):
    found, correction = each_run_and_correction
    results = found.results
    expected = {f"{path}{suffix}" for path in ("a-b", "a-b_aligned") for suffix in ("", correction)}
    assert all(results[measure].keys() == expected for measure in found.bench.config.measures)
    merged = {"merged"} if found.bench.config.merge.alpha is not None else set()
    assert results["endpoints"].keys() == {"a", "b", "b_aligned"} | merged


def test_the_alignment_is_reported_and_leaves_the_network_what_it_was(each_run):
    results = each_run.results
    (alignment,) = results["alignment"].values()
    assert list(results["alignment"]) == ["a-b_aligned"]
    assert alignment["method"] == each_run.bench.config.align.method
    assert len(alignment["objective"]) == alignment["sweeps"] + 1
    assert alignment["equivalence_error"] < 1e-5
    assert alignment["permutations"] == {"P0": 16}
    for split in ("train", "test"):
        b, aligned = (results["endpoints"][name][split] for name in ("b", "b_aligned"))
        assert b["loss"] == pytest.approx(aligned["loss"], rel=1e-5)
        assert b["error"] == aligned["error"]


def test_the_aligned_network_is_saved_with_its_permutation(each_run):
    b, aligned = each_run.restore("b"), each_run.restore("b_aligned")
    images = jnp.asarray(each_run.bench.dataset.test.images[:2])
    spec = permutation_spec(each_run.bench.pipeline.apply, b.variables, images)
    jax.tree.map(
        np.testing.assert_array_equal,
        apply_permutation(spec, aligned.permutation, b.variables),
        aligned.variables,
    )
    assert any((indices != np.arange(16)).any() for indices in aligned.permutation.values())


def test_what_each_step_beyond_permutations_gained_is_in_the_results_the_report_and_the_terminal(learned):
    found = learned.results["alignment"]["a-b_aligned"]
    assert found["classes"] == ["permutation", "scaling"]
    steps = [rung["step"] for rung in found["ladder"]]
    assert steps == ["as it was", "permutations", "permutations, scaling", "learned"]
    losses = [rung["loss"] for rung in found["ladder"]]
    assert losses[-1] == min(losses)
    b, aligned = (learned.results["endpoints"][name]["test"]["loss"] for name in ("b", "b_aligned"))
    assert b == pytest.approx(aligned, rel=1e-4)
    page, terminal = (learned.directory / "report.html").read_text(), tables.terminal(learned.results)
    for text in (page, terminal):
        assert "permutations, scaling" in text
        assert f"{losses[-1]:.3f}" in text
    assert learned.restore("b_aligned").permutation is None


def test_the_ladder_of_constraints_is_in_the_results_the_report_and_the_terminal(learned):
    (rung,) = learned.results["alignment"]["a-b_aligned"]["constraints"]
    assert rung["added"] == "none of the constraints"
    assert rung["cost"] == rung["barrier"]
    seen = [*learned.bench.alignment_data()()]
    a, b = (learned.restore(name).variables for name in ("a", "b_aligned"))
    first, middle, last = (
        np.mean([learned.bench.pipeline.loss(point, batch) for batch in seen])
        for point in (a, lerp(a, b, 0.5), b)
    )
    assert rung["barrier"] == pytest.approx(middle - (first + last) / 2, abs=1e-5)
    for text in ((learned.directory / "report.html").read_text(), tables.terminal(learned.results)):
        assert reading.UNCONSTRAINED in " ".join(text.split())
    kept = learned.directory / "checkpoints" / "b_aligned.constraints" / "rungs.json"
    assert json.loads(kept.read_text()) == [[*rung.values()]]


def test_several_networks_are_aligned_with_each_other_and_merged(universe):
    aligned = [path for path in universe.results["lmc"] if "aligned" in path and "/" not in path]
    assert aligned == ["a-b_aligned", "a-c_aligned", "b_aligned-c_aligned"]
    assert universe.results["alignment"].keys() == {"a-b_aligned", "a-c_aligned"}
    (method,) = {one["method"] for one in universe.results["alignment"].values()}
    assert method == "universe_matching"
    for before, after in (("a-b", aligned[0]), ("a-c", aligned[1]), ("b-c", aligned[2])):
        apart = [universe.results["weights"][path]["relative"] for path in (before, after)]
        assert apart[1] < apart[0]
    merged = universe.restore("merged")
    assert merged.metadata["merged"] == {"weights": {"a": 1, "b_aligned": 1, "c_aligned": 2}}
    found = universe.results["endpoints"]["merged"]["test"]["loss"]
    assert universe.loss(merged.variables) == pytest.approx(found, rel=1e-5)
    naive = mean([universe.restore(name).variables for name in "abc"], (1, 1, 2))
    assert found < universe.loss(naive)


@pytest.mark.slow
def test_the_merged_network_is_the_midpoint_and_restores_like_any_other(plain):
    merged, a, b = (plain.restore(name) for name in ("merged", "a", "b_aligned"))
    jax.tree.map(np.testing.assert_array_equal, merged.variables, lerp(a.variables, b.variables, 0.5))
    assert merged.metadata["merged"] == {"alpha": 0.5}
    found = plain.results["endpoints"]["merged"]["test"]["loss"]
    assert plain.loss(merged.variables) == pytest.approx(found, rel=1e-5)
    curve = plain.results["lmc"]["a-b_aligned"]
    at_middle = curve["test"]["loss"][curve["alphas"].index(0.5)]
    assert plain.loss(merged.variables) == pytest.approx(at_middle, rel=1e-5)


def test_the_merged_network_is_mended_where_corrections_are_on(repaired):
    curve = repaired.results["lmc"]["a-b_aligned/repair"]
    at_middle = curve["test"]["loss"][curve["alphas"].index(0.5)]
    assert repaired.loss(repaired.restore("merged").variables) == pytest.approx(at_middle, rel=1e-4)
    assert at_middle != repaired.results["lmc"]["a-b_aligned"]["test"]["loss"][curve["alphas"].index(0.5)]


def test_aligned_and_corrected_networks_are_better_connected(each_run_and_correction):
    found, correction = each_run_and_correction
    barrier = {key: path["test"]["loss_barrier"] for key, path in found.results["lmc"].items()}
    assert barrier["a-b_aligned"] < barrier["a-b"]
    assert not correction or barrier[f"a-b{correction}"] < barrier["a-b"]


def test_running_again_takes_the_networks_that_are_there(repaired):
    checkpoints = repaired.directory / "checkpoints"
    before = _times(checkpoints)
    for stage in (experiment.train, experiment.align_to_first, experiment.merge):
        stage(repaired.bench, checkpoints)
    assert _times(checkpoints) == before


def _times(directory):
    return {path: path.stat().st_mtime_ns for path in sorted(directory.rglob("*")) if path.is_file()}


def test_a_model_without_symmetry_is_left_as_it_is_and_says_so(linear):
    alignment = linear.results["alignment"]["a-b_aligned"]
    assert alignment["description"].startswith("no permutation symmetry")
    assert alignment["permutations"] == {}
    jax.tree.map(
        np.testing.assert_array_equal,
        linear.restore("b").variables,
        linear.restore("b_aligned").variables,
    )
    assert linear.results["lmc"]["a-b"] == linear.results["lmc"]["a-b_aligned"]
    assert "no permutation symmetry" in (linear.directory / "report.html").read_text()
