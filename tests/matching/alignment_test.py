"""The contract of all alignment methods, and what happens to input that can't be aligned."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import some_permutation

from llfc_jax.errors import UserError
from llfc_jax.matching.alignment import DEFAULTS, MATCHERS, align
from llfc_jax.models import mlp
from llfc_jax.symmetry import apply_permutation, inverse, permutation_spec
from llfc_jax.types import Batch

IMAGE = (8, 8, 1)
NETWORK = mlp(IMAGE, 10, hidden=(12, 9), norm="batch")
LINEAR = mlp(IMAGE, 10, hidden=())
SUMMARY = {
    "method": str,
    "objective": list,
    "sweeps": int,
    "converged": bool,
    "restart_objectives": list,
    "equivalence_error": float,
    "seconds": float,
    "permutations": dict,
    "classes": list,
    "ladder": list,
    "description": str,
}

EACH_METHOD = pytest.mark.parametrize("method", MATCHERS)
BEYOND = ("procrustes_matching", "learned_matching")
"""Those that return B moved, and no permutation."""


def some_batches():
    rng = np.random.default_rng(0)
    for _ in range(2):
        images, labels = np.float32(rng.normal(size=(32, *IMAGE))), np.int32(rng.integers(0, 10, 32))
        yield Batch(*jax.device_put((images, labels, np.ones(32, np.float32))))


def random_variables(network, seed):
    shapes = network.shapes(np.zeros((1, *IMAGE), np.float32))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jax.device_put(np.float32(rng.uniform(0.1, 1, leaf.shape))), shapes)


@cache
def functions_of(network):
    """Its outputs and its loss: the same objects for all pairs, so that nothing is compiled twice."""

    def loss(variables, batch):
        logits = network.apply_train(variables, batch.images, key=None)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    return jax.jit(network.apply), loss


def align_pair(a, b, method="weight_matching", network=NETWORK, apply=None, **options):
    compiled, loss = functions_of(network)
    return align(
        jax.random.key(0),
        a,
        b,
        method=method,
        apply=apply or compiled,
        loss=loss,
        batches=some_batches,
        inputs=lambda: (batch.images for batch in some_batches()),
        options={**DEFAULTS, "restarts": 2, "epochs": 1, **options},
    )


def assert_equal(x, y):
    jax.tree.map(np.testing.assert_array_equal, x, y)


@pytest.fixture(scope="module")
def planted():
    """A, A permuted, and the permutation that undoes it."""
    a = random_variables(NETWORK, 1)
    spec = permutation_spec(functions_of(NETWORK)[0], a, np.zeros((2, *IMAGE), np.float32))
    permutation = some_permutation(7, spec)
    return a, apply_permutation(spec, permutation, a), inverse(permutation)


@pytest.fixture(scope="module", params=MATCHERS)
def aligned(request, planted):
    return align_pair(*planted[:2], request.param)


def test_a_permuted_copy_is_brought_back(aligned, planted):
    a, b, expected = planted
    if aligned.summary["method"] in BEYOND:
        assert aligned.permutation is None
        loss = [rung.get("loss", rung["relative"]) for rung in aligned.summary["ladder"]]
        assert loss[-1] <= min(loss) + 1e-5
    else:
        assert_equal(aligned.permutation, expected)
        assert_equal(aligned.variables, a)
    apply, _ = functions_of(NETWORK)
    outputs_b, outputs = (apply(x, next(some_batches()).images) for x in (b, aligned.variables))
    np.testing.assert_allclose(outputs, outputs_b, rtol=1e-4)
    assert aligned.summary["equivalence_error"] < 1e-5


def test_the_summary_holds_json_types_and_tells_how_the_search_went(aligned):
    summary = aligned.summary
    assert {name: type(value) for name, value in summary.items()} == SUMMARY
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["converged"] or summary["method"] == "learned_matching"  # in an epoch nothing does
    assert len(summary["objective"]) == summary["sweeps"] + 1
    assert len(summary["restart_objectives"]) == (2 if summary["method"] == "weight_matching" else 1)
    assert summary["permutations"] == {"P0": 12, "P1": 9}
    assert summary["classes"] == ["permutation", *["sign", "scaling"] * (summary["method"] in BEYOND)]
    assert [rung["step"] for rung in summary["ladder"]][:2] == ["as it was", "permutations"]
    assert "P0 (12): " in summary["description"]


@EACH_METHOD
def test_the_key_and_the_networks_determine_the_result(method):
    pair = random_variables(NETWORK, 1), random_variables(NETWORK, 2)
    assert_equal(*(align_pair(*pair, method).variables for _ in range(2)))


@EACH_METHOD
def test_without_symmetry_nothing_changes_and_the_summary_says_so(method):
    a, b = (random_variables(LINEAR, seed) for seed in (1, 2))
    aligned = align_pair(a, b, method, LINEAR)
    assert_equal(aligned.variables, b)
    assert not aligned.permutation
    assert aligned.summary["description"].startswith("no permutation symmetry")
    assert aligned.summary["permutations"] == {}
    assert aligned.summary["equivalence_error"] == 0


def test_a_search_cut_short_is_reported_as_not_converged():
    deep = mlp(IMAGE, 10, hidden=(20, 20, 20))
    shapes, rng = deep.shapes(np.zeros((1, *IMAGE), np.float32)), np.random.default_rng(8)
    pair = [jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape)), shapes) for _ in range(2)]
    cut_short, in_full = (align_pair(*pair, network=deep, max_sweeps=n).summary for n in (1, 100))
    assert not cut_short["converged"]
    assert cut_short["sweeps"] == 1
    assert in_full["converged"]
    assert in_full["objective"][-1] > cut_short["objective"][-1]


@EACH_METHOD
def test_networks_of_different_architecture_are_told_by_their_first_difference(method):
    a, b = (random_variables(mlp(IMAGE, 10, hidden=(12, last)), 1) for last in (9, 8))
    with pytest.raises(UserError, match=r"params/dense2/bias: found \(9,\) and \(8,\)"):
        align_pair(a, b, method)


@EACH_METHOD
@pytest.mark.parametrize("side", ["A", "B"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_named(method, side, value):
    a, b = random_variables(NETWORK, 1), random_variables(NETWORK, 2)
    broken = (a if side == "A" else b)["params"]["dense2"]
    broken["kernel"] = np.array(broken["kernel"])
    broken["kernel"][3, 4] = value
    message = f"^params/dense2/kernel: expected finite numbers, found NaN or infinity in {side}$"
    with pytest.raises(UserError, match=message):
        align_pair(a, b, method)


@EACH_METHOD
def test_an_apply_that_is_not_deterministic_is_refused(method):
    rng = np.random.default_rng(0)

    def noisy(variables, images):
        return NETWORK.apply(variables, images + float(rng.normal()))

    with pytest.raises(UserError, match=r"^apply is not deterministic: .* switch off dropout"):
        align_pair(random_variables(NETWORK, 1), random_variables(NETWORK, 2), method, apply=noisy)


def test_an_apply_that_is_not_deterministic_on_the_device_is_refused():
    rng = np.random.default_rng(0)

    def noisy(variables, images):
        shift = jax.pure_callback(
            lambda: np.float32(rng.normal()), jax.ShapeDtypeStruct((), jnp.float32), vmap_method="sequential"
        )
        return NETWORK.apply(variables, images + shift)

    with pytest.raises(UserError, match=r"^apply is not deterministic"):
        align_pair(random_variables(NETWORK, 1), random_variables(NETWORK, 2), apply=noisy)
