"""The whole run in one process: what it leaves, what it finds, and what it does not depend on."""

import copy
import json
import math

import jax
import numpy as np
import pytest

from configs import test as test_config
from llfc_jax.run import experiment, measurement, workbench

NORMALISED = {
    "model__norm": "batch",
    "train__spawn_epochs": 0.0,
    "train__checkpoint_every_epochs": 3,
    "corrections__examples": 20,  # less than a batch
    "measures": ("lmc",),
}
COMMAND = "llfc_jax --config=configs/test.py"


def make_config(**changes):
    """`configs/test.py` with changes, in which `__` stands for a dot."""
    config = test_config.get_config()
    config.llfc.alphas = (0.25, 0.5)
    config.lmc.num_alphas = 3
    for field, value in changes.items():
        *sections, name = field.split("__")
        section = config
        for key in sections:
            section = section[key]
        section[name] = value
    return config.lock()


def measured(checkpoints, **changes):
    """What is measured on networks that were trained before."""
    return measurement.measure(workbench.prepare(make_config(**changes)), checkpoints)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a whole run, and its results."""
    workdir = tmp_path_factory.mktemp("experiment") / "run"
    page = experiment.run(make_config(), workdir, COMMAND)
    assert page == workdir / "report.html"
    return workdir, json.loads((workdir / "results.json").read_text(), parse_constant=pytest.fail)


@pytest.fixture(scope="module")
def normalised(tmp_path_factory):
    """Checkpoints and results of a pair with BatchNorm that has shared its initialisation alone."""
    checkpoints = tmp_path_factory.mktemp("normalised")
    config = make_config(**NORMALISED)
    return checkpoints, experiment.find_results(workbench.prepare(config), checkpoints, COMMAND)


def test_the_workdir_holds_all_that_is_promised(run):
    workdir, _ = run
    for name in ("config.json", "results.json", "layers.csv", "curves.csv", "report.html"):
        assert (workdir / name).stat().st_size > 100, name
    for name in ("parts", "lmc", "llfc", "coefficient", "training"):
        for suffix in ("png", "svg"):
            assert (workdir / "figures" / f"{name}.{suffix}").stat().st_size > 1000, name
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["a", "b", "trunk"]


def test_results_say_what_was_run(run):
    workdir, results = run
    assert results["schema_version"] == 2
    assert results["command"] == COMMAND
    assert results["config"] == json.loads((workdir / "config.json").read_text())
    assert results["environment"].keys() >= {
        "python",
        "jax",
        "flax",
        "optax",
        "orbax",
        "device",
        "git_commit",
    }
    assert results["environment"]["jax"] == jax.__version__
    assert results["data"]["train_examples"] == 256
    assert results["data"]["measured_train_examples"] == results["data"]["test_examples"] == 100
    assert results["model"]["parameters"] == 64 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    assert results["seconds"].keys() >= {"train", "measure"}
    assert 1e8 < results["peak_memory_bytes"] < 1e10


def test_lmc_has_a_list_parallel_to_alpha_for_every_split_and_curve(run):
    lmc = run[1]["lmc"]["a-b"]
    assert lmc["alphas"] == [0, 0.5, 1]
    for split in ("test", "train"):
        assert lmc[split].keys() >= {
            "loss_barrier",
            "error_barrier",
            "loss_midpoint_gap",
            "error_midpoint_gap",
        }
        for curve in ("loss", "error"):
            values = lmc[split][curve]
            assert len(values) == 3
            assert all(math.isfinite(value) for value in values)
            gap = values[1] - (values[0] + values[2]) / 2
            assert lmc[split][f"{curve}_midpoint_gap"] == pytest.approx(gap, abs=1e-9)
            assert lmc[split][f"{curve}_barrier"] == pytest.approx(max(gap, 0), abs=1e-9)


def test_the_ends_of_the_curves_are_the_endpoints(run):
    for name, end in (("a", 0), ("b", -1)):
        for split in ("test", "train"):
            for curve in ("loss", "error"):
                found = run[1]["lmc"]["a-b"][split][curve][end]
                assert found == pytest.approx(run[1]["endpoints"][name][split][curve], rel=1e-5)


def test_llfc_has_every_layer_with_its_baseline(run):
    llfc = run[1]["llfc"]["a-b"]
    assert llfc["alphas"] == [0.25, 0.5]
    assert [(layer["layer"], layer["kind"]) for layer in llfc["layers"]] == [
        ("dense1", "dense"),
        ("relu1", "relu"),
        ("dense2", "dense"),
        ("relu2", "relu"),
        ("dense3", "dense"),
    ]
    for layer in llfc["layers"]:
        for values in (
            *(
                layer[quantity][moment]
                for quantity in ("cosine_distance", "coefficient")
                for moment in ("mean", "std")
            ),
            layer["end"]["mean"],
            *(layer["dataset"][quantity] for quantity in ("cosine_distance", "coefficient")),
            layer["dead"],
        ):
            assert len(values) == 2
        assert layer["baseline"].keys() == {"mean", "std", "q25", "median", "q75", "dataset", "dead"}
    for layer in llfc["layers"]:
        of_end = zip(layer["cosine_distance"]["mean"], layer["end"]["mean"], strict=True)
        assert all(found < 0.5 * end for found, end in of_end)  # LLFC: spawned pair


def test_histories_are_parallel_lists_of_every_network(run):
    training = run[1]["training"]
    assert list(training) == ["trunk", "a", "b"]
    assert training["trunk"]["step"] == [8]
    assert training["a"]["step"] == training["b"]["step"] == [16, 24]
    for history in training.values():
        assert {len(values) for values in history.values()} == {len(history["step"])}
    assert training["a"]["test_loss"][-1] == pytest.approx(run[1]["endpoints"]["a"]["test"]["loss"], rel=1e-5)


def test_the_same_configuration_gives_the_same_numbers(run, tmp_path):
    results = experiment.find_results(workbench.prepare(make_config()), tmp_path, COMMAND)
    results = json.loads(json.dumps(results))
    for name in ("data", "model", "training", "endpoints", "lmc", "llfc"):
        assert results[name] == run[1][name], name


@pytest.mark.parametrize("measure", ["lmc", "llfc", None])
def test_measures_can_be_switched_off(measure, run):
    results = measured(run[0] / "checkpoints", measures=(measure,) if measure else ())
    for name in ("lmc", "llfc"):
        assert (name in results) == (name == measure)
    if measure:
        found, expected = results[measure]["a-b"], run[1][measure]["a-b"]
        leaves = zip(*map(jax.tree.leaves, (json.loads(json.dumps(found)), expected)), strict=True)
        assert all(
            x == (y if isinstance(x, str) else pytest.approx(y, rel=1e-3, abs=1e-6)) for x, y in leaves
        )


def test_independent_networks_are_measured_in_all_pairs(tmp_path):
    config = make_config(train__pair="independent", train__networks=3, train__epochs=1)
    results = experiment.find_results(workbench.prepare(config), tmp_path, COMMAND)
    assert list(results["lmc"]) == ["a-b", "a-c", "b-c"]
    assert list(results["training"]) == list(results["endpoints"]) == ["a", "b", "c"]
    losses = [entry["test"]["loss"] for entry in results["lmc"].values()]
    assert losses[0][0] == losses[1][0] != losses[2][0] == losses[0][-1]


def test_batchnorm_is_measured_by_both_conventions_which_differ(normalised):
    plain, recomputed = (normalised[1]["lmc"][key] for key in ("a-b", "a-b/recompute"))
    for split in ("test", "train"):
        assert np.isfinite(recomputed[split]["loss"]).all()
        assert not np.allclose(plain[split]["loss"], recomputed[split]["loss"], rtol=1e-4)


def test_a_trunk_of_no_length_has_no_history(normalised):
    assert list(normalised[1]["training"]) == ["a", "b"]


def test_recomputing_can_be_switched_off(normalised):
    assert list(measured(normalised[0], **NORMALISED, corrections__recompute=False)["lmc"]) == ["a-b"]


def test_a_run_does_not_change_its_configuration(run):
    config = make_config()
    before = copy.deepcopy(config.to_dict())
    experiment.run(config, run[0], COMMAND)
    assert config.to_dict() == before
