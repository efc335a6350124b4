"""A network of one's own, from the trace to the page, with a measure of one's own."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llfc_jax
from llfc_jax.corrections.batchnorm import recompute
from llfc_jax.errors import UserError
from llfc_jax.measures.fold import Fold
from llfc_jax.measures.measure import Measure
from llfc_jax.path.traversal import Planned

ALPHAS = (0.25, 0.5, 0.75)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 6)).astype(np.float32), RNG.integers(0, 3, 60)
TRAIN = [(X[i : i + 20], Y[i : i + 20]) for i in (0, 20, 40)]
BATCHES = {"test": TRAIN[:2], "train": TRAIN}


def apply(weights, x):
    return jax.nn.silu(jnp.tanh(x @ weights["first"])) @ weights["last"]


def network(seed):
    keys = jax.random.split(jax.random.key(seed), 2)
    shapes = {"first": (6, 8), "last": (8, 3)}
    return {
        name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def mean_activation():
    """The mean of each feature along the path, as somebody outside would measure it."""

    def folds(program):
        names = [node.name for node in program.features]

        def update(state, point):
            seen, sums = state
            means = jnp.stack([point.theta.features[name].mean(-1) @ point.mask for name in names])
            return seen + point.mask.sum(), sums + means

        fold = Fold(
            init=lambda point: (jnp.zeros(()), jnp.zeros(len(names))),
            update=update,
            finalize=lambda state, alphas: dict(
                zip(names, (state[1] / state[0][:, None]).T.tolist(), strict=True)
            ),
        )
        return {"means": Planned(fold, ALPHAS)}

    def entry(found):
        means = found.folds["test"]["means"]
        layers = [{"layer": name, "kind": "", "mean": values} for name, values in means.items()]
        return {"alphas": ALPHAS, "layers": layers}

    return Measure("activation", folds, entry, quantities={"mean": "mean activation"})


@pytest.fixture(scope="module")
def results():
    program = llfc_jax.read(apply, network(0), X[:4])
    measures = (*llfc_jax.measures.MEASURES, mean_activation())
    return llfc_jax.measure(program, network(0), network(1), BATCHES, measures=measures, num_alphas=5)


def test_all_measures_are_there_with_one_of_ones_own(results):
    assert {*llfc_jax.measures.MEASURES, "activation"} <= results.keys()
    for layer in results["activation"]["a-b"]["layers"]:
        assert len(layer["mean"]) == 3
    theta = jax.tree.map(lambda a, b: (a + b) / 2, network(0), network(1))
    expected = np.tanh(X[:40] @ np.asarray(theta["first"])).mean()
    found = {layer["layer"]: layer["mean"][1] for layer in results["activation"]["a-b"]["layers"]}
    np.testing.assert_allclose(found["tanh1"], expected, rtol=1e-4)


def test_batches_after_another_and_at_once_give_the_same(results):
    program = llfc_jax.read(apply, network(0), X[:4])
    uneven = [(X[:7], Y[:7]), (X[7:30], Y[7:30]), (X[30:40], Y[30:40])]
    for batches in (uneven, [(X[:40], Y[:40])]):
        again = llfc_jax.measure(program, network(0), network(1), batches, measures=("lmc",), num_alphas=5)
        np.testing.assert_allclose(
            again["lmc"]["a-b"]["test"]["loss"], results["lmc"]["a-b"]["test"]["loss"], rtol=1e-5
        )


def test_a_program_read_with_one_sample_is_measured_as_one_read_with_many(results):
    program = llfc_jax.read(apply, network(0), X[:1])
    measures = ("llfc", "weak_additivity", "commutativity", "deviation", "stitching")
    again = llfc_jax.measure(program, network(0), network(1), BATCHES, measures=measures)
    for name in measures:
        for (path, x), (_, y) in zip(
            *(jax.tree.leaves_with_path(found[name]["a-b"]) for found in (again, results)), strict=True
        ):
            assert x == y if isinstance(x, str) else x == pytest.approx(y, rel=1e-4, abs=1e-6, nan_ok=True), (
                path
            )


def test_a_network_that_takes_one_size_of_batch_alone_is_measured_at_it():
    def fixed(weights, x):
        return apply(weights, x.reshape(20, 6))

    program = llfc_jax.read(fixed, network(0), X[:20])
    batches = [(X[:20], Y[:20]), (X[20:40], Y[20:40])]
    found, expected = (
        llfc_jax.measure(one, network(0), network(1), batches, measures=("llfc",))["llfc"]["a-b"]["layers"]
        for one in (program, llfc_jax.read(apply, network(0), X[:20]))
    )
    for one, other in zip(found, expected, strict=True):
        assert one["cosine_distance"]["mean"] == pytest.approx(other["cosine_distance"]["mean"], rel=1e-5)


def test_the_page_shows_them(unrendered, results, tmp_path):
    page = llfc_jax.report(results, tmp_path / "report")
    written = json.loads((page.parent / "results.json").read_text())
    assert (
        written["activation"]["a-b"]["layers"][0]["mean"] == results["activation"]["a-b"]["layers"][0]["mean"]
    )
    assert (page.parent / "figures" / "quantities.png").is_file()
    assert "Measures of your own" in page.read_text()
    with (page.parent / "layers.csv").open() as table:
        assert "silu1" in {row["layer"] for row in csv.DictReader(table)}


def test_a_report_of_what_is_no_result_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no schema_version"):
        llfc_jax.report({}, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_corrections_need_training_batches():
    program = llfc_jax.read(apply, network(0), X[:4])
    correction = recompute(lambda v, x: (x, v))
    with pytest.raises(UserError, match="corrections are estimated on training data; found one stream"):
        llfc_jax.measure(program, network(0), network(1), [(X, Y)], corrections=(correction,))
