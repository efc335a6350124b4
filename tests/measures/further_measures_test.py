"""What the field measures besides: against float64, and by what must leave it unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
from measured import along_line

import llfc_jax
from llfc_jax.measures.similarity import canonical_correlations, compared
from llfc_jax.measures.temperature import INVERSES, best_inverse, loss_at

ALPHAS = (0.25, 0.5, 0.75)
ALL = (0.0, *ALPHAS, 1.0)
FURTHER = (
    "layerwise_lmc",
    "similarity",
    "variance",
    "lewc",
    "reciprocal_orthogonality",
    "predictions",
    "temperature",
)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 6)).astype(np.float32) + 1, RNG.integers(0, 3, 60)
SHAPES = {"first": (6, 8), "second": (8, 7), "last": (7, 3)}


def apply(weights, x):
    hidden = jax.nn.relu(x @ weights["first"] + weights["bias"][None])
    return jax.nn.relu(hidden @ weights["second"]) @ weights["last"]


def features_in_float64(weights, x):
    first = np.float64(x) @ weights["first"] + weights["bias"]
    second = np.maximum(first, 0) @ weights["second"]
    last = np.maximum(second, 0) @ weights["last"]
    return {
        "first": first,
        "relu1": np.maximum(first, 0),
        "second": second,
        "relu2": np.maximum(second, 0),
        "last": last,
    }


def network(seed):
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape) / 2 for name, shape in SHAPES.items()} | {
        "bias": rng.normal(size=8)
    }
    return {name: leaf.astype(np.float32) for name, leaf in weights.items()}


def between(a, b, alpha):
    return {name: (1 - alpha) * np.float64(a[name]) + alpha * np.float64(b[name]) for name in a}


def batches_of(x):
    batches = [(x[i : i + 20], Y[i : i + 20]) for i in (0, 20, 40)]
    return {"test": batches, "train": batches}


def measured(a, b, measures=FURTHER, fn=apply, x=X):
    return along_line(fn, a, b, x[:20], batches_of(x), measures, ALPHAS)


@pytest.fixture(scope="module")
def pair():
    return network(0), network(1)


@pytest.fixture(scope="module")
def whole(pair):
    program = llfc_jax.read(apply, pair[0], X[:20])
    measures = ("lmc", *FURTHER)
    return llfc_jax.measure(program, *pair, batches_of(X), measures=measures, alphas=ALPHAS, num_alphas=5)


@pytest.fixture(scope="module")
def results(whole):
    return {name: whole[name]["a-b"] for name in ("lmc", *FURTHER)}


def rows(entry):
    return {row["layer"]: row for row in entry["layers"]}


def scores(logits):
    losses = scipy.special.logsumexp(logits, axis=-1) - logits[np.arange(len(Y)), Y]
    return losses.mean(), np.mean(logits.argmax(-1) != Y)


def test_similarities_are_those_of_the_whole_matrices_in_float64(pair, results):
    of_a = features_in_float64(pair[0], X)
    for at, alpha in enumerate(ALL):
        of_theta = features_in_float64(between(*pair, alpha), X)
        for name, row in rows(results["similarity"]).items():
            x, y = (values[name] - values[name].mean(0) for values in (of_theta, of_a))
            cka = np.sum((x.T @ y) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
            np.testing.assert_allclose(row["cka"][at], cka, rtol=1e-5)
            np.testing.assert_allclose(row["angular_cka"][at], np.degrees(np.arccos(min(cka, 1))), atol=0.05)
            rotation, _ = scipy.linalg.orthogonal_procrustes(x, y)
            rest = np.linalg.norm(x / np.linalg.norm(x) @ rotation - y / np.linalg.norm(y)) ** 2
            np.testing.assert_allclose(row["procrustes"][at], rest, atol=1e-5)


def test_canonical_correlations_are_the_cosines_between_the_spans():
    x, y = RNG.normal(size=(40, 4)), RNG.normal(size=(40, 3))
    x, y = x - x.mean(0), y - y.mean(0)
    found = canonical_correlations(x.T @ x, x.T @ y, y.T @ y)
    np.testing.assert_allclose(found, np.sort(np.cos(scipy.linalg.subspace_angles(x, y)))[::-1], atol=1e-12)


@pytest.mark.parametrize("change", ["rotation", "scale", "size of 1e120"])
def test_similarity_is_blind_to_rotation_and_scale(change):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 5))
    x, y = x - x.mean(0), y - y.mean(0)
    changed = {
        "rotation": x @ np.linalg.qr(rng.normal(size=(5, 5)))[0],
        "scale": 3 * x,
        "size of 1e120": 1e120 * x,
    }[change]
    before, after = (compared(z.T @ z, z.T @ y, y.T @ y) for z in (x, changed))
    for name, value in before.items():
        if name != "svcca" or change != "rotation":  # which directions hold 99 % is a matter of rounding
            np.testing.assert_allclose(after[name], value, rtol=1e-9, err_msg=name)


def test_variances_are_those_of_float64_over_what_lies_between_the_ends(pair, results):
    ends = [{k: v.std(0) for k, v in features_in_float64(own, X).items()} for own in pair]
    for at, alpha in enumerate(ALL):
        theta = features_in_float64(between(*pair, alpha), X)
        for name, row in rows(results["variance"]).items():
            goal = (1 - alpha) * ends[0][name] + alpha * ends[1][name]
            seen = goal > 0
            ratio = np.mean((theta[name].std(0)[seen] / goal[seen]) ** 2)
            np.testing.assert_allclose(row["ratio"][at], ratio, rtol=1e-4)


def reciprocal_networks():
    """Deep linear networks, each alive in half of every layer where the other is silent."""
    rng = np.random.default_rng(2)
    a, b = ({name: np.zeros((8, 8), np.float32) for name in ("w1", "w2", "w3")} for _ in "ab")
    for name in a:
        a[name][:4, :4], b[name][4:, 4:] = rng.normal(size=(2, 4, 4))
    return a, b


def deep_linear(weights, x):
    return x @ weights["w1"] @ weights["w2"] @ weights["w3"]


def test_lewc_is_exact_where_deep_linear_networks_are_reciprocally_orthogonal():
    a, b = reciprocal_networks()
    x = np.random.default_rng(3).normal(size=(60, 8)).astype(np.float32)
    found = measured(a, b, ("lewc", "reciprocal_orthogonality"), deep_linear, x)
    for depth, row in enumerate(found["lewc"]["layers"], 1):
        assert row["depth"] == depth
        np.testing.assert_allclose(row["distance"], 0, atol=1e-6)
        np.testing.assert_allclose(row["coefficient"], 1, rtol=1e-5)
    first, *others = found["reciprocal_orthogonality"]["layers"]
    assert first["a"] > 0.1  # both see the same input
    assert all(row["a"] == row["b"] == 0 for row in others)


def test_every_network_responds_to_its_own_features_as_itself(pair):
    found = measured(pair[0], pair[0], ("reciprocal_orthogonality",))
    assert {(row["a"], row["b"]) for row in found["reciprocal_orthogonality"]["layers"]} == {(1.0, 1.0)}


def test_layers_interpolated_one_by_one_score_as_networks_of_mixed_weights(pair, results):
    a, theta = pair[0], between(*pair, 0.5)
    layers = [("first", "bias"), ("second",), ("last",)]
    for at, (own, row) in enumerate(zip(layers, results["layerwise_lmc"]["layers"], strict=True)):
        leaves = {
            "alone": own,
            "all_but": [leaf for leaf in a if leaf not in own],
            "prefix": [leaf for layer in layers[: at + 1] for leaf in layer],
            "suffix": [leaf for layer in layers[at + 1 :] for leaf in layer],
        }
        for which, mixed in leaves.items():
            weights = {leaf: theta[leaf] if leaf in mixed else a[leaf] for leaf in a}
            loss, error = scores(features_in_float64(weights, X)["last"])
            np.testing.assert_allclose(row[which], loss, rtol=1e-5, err_msg=which)
            np.testing.assert_allclose(row[f"{which}_error"], error, atol=1e-7)


def test_all_layers_interpolated_are_lmc_bit_for_bit(results):
    test = results["lmc"]["test"]
    last = results["layerwise_lmc"]["layers"][-1]
    at = results["lmc"]["alphas"].index(0.5)
    assert (last["prefix"], last["prefix_error"]) == (test["loss"][at], test["error"][at])


def test_predictions_are_those_of_float64(pair, results):
    found, tiny = results["predictions"], 1e-6
    a, b = (scipy.special.log_softmax(features_in_float64(own, X)["last"], axis=-1) for own in pair)
    for at, alpha in enumerate(ALL):
        theta = scipy.special.log_softmax(features_in_float64(between(*pair, alpha), X)["last"], axis=-1)
        ensemble = np.log((1 - alpha) * np.exp(a) + alpha * np.exp(b))
        for name, other in (("a", a), ("b", b), ("ensemble", ensemble)):
            divergence = np.mean(np.sum(np.exp(other) * (other - theta), -1))
            np.testing.assert_allclose(found[f"kl_{name}"][at], divergence, rtol=1e-4, atol=tiny)
            differ = np.mean(theta.argmax(-1) != other.argmax(-1))
            np.testing.assert_allclose(found[f"disagreement_{name}"][at], differ, atol=1e-9)
        loss, error = scores(ensemble)
        np.testing.assert_allclose(found["ensemble_loss"][at], loss, rtol=1e-5)
        np.testing.assert_allclose(found["ensemble_error"][at], error, atol=1e-9)


def test_the_temperature_is_that_of_the_least_loss_in_float64(pair, results):
    found = results["temperature"]
    for at, alpha in enumerate(ALL):
        logits = features_in_float64(between(*pair, alpha), X)["last"]

        def loss(log_inverse, logits=logits):
            return scores(np.exp(log_inverse) * logits)[0]

        best = scipy.optimize.minimize_scalar(loss, bounds=(-4.2, 4.2), method="bounded")
        np.testing.assert_allclose(found["loss"][at], loss(0.0), rtol=1e-5)
        np.testing.assert_allclose(found["recalibrated_loss"][at], best.fun, rtol=1e-3)


def test_a_network_that_is_too_confident_gets_the_temperature_that_undoes_it():
    log_inverses = np.log(INVERSES)
    losses = np.logaddexp(0, -INVERSES) * 0.9 + np.logaddexp(0, INVERSES) * 0.1
    best = best_inverse(losses)
    np.testing.assert_allclose(best, np.log(9), rtol=3e-3)  # logistic regression's answer to 9 in 10
    np.testing.assert_allclose(loss_at(losses, best), -0.9 * np.log(0.9) - 0.1 * np.log(0.1), rtol=1e-4)
    assert log_inverses[0] < np.log(best) < log_inverses[-1]


def test_recalibration_lowers_the_loss_of_networks_that_know_the_training_data_by_heart(pair):
    a, b = (network | {"last": 50 * network["last"]} for network in pair)
    logits = apply(jax.tree.map(jnp.asarray, a), X)
    known = {"test": [(X, Y)], "train": [(X, np.asarray(logits.argmax(-1)))]}
    found = along_line(apply, a, b, X, known, ("temperature",), ALPHAS)["temperature"]
    assert np.all(np.array(found["recalibrated_loss"]) <= np.array(found["loss"]) * (1 + 1e-4))
    assert found["temperature"][0] > 10  # on the training data it would be 0


def test_halfway_between_deep_networks_blind_to_each_other_the_temperature_makes_up_for_every_layer():
    depth, x = 14, np.abs(X[:, :3])
    labels = (x.argmax(1) + (np.arange(60) % 4 == 0)) % 3  # some are wrong: no temperature is 0
    blocks = [np.kron(np.eye(2)[at : at + 1], np.eye(3)).astype(np.float32) for at in (0, 1)]

    def deep(block):
        inner = [block.T @ block] * (depth - 2)
        return {f"layer{at:02}": leaf for at, leaf in enumerate([block, *inner, 3 * block.T])}

    def run(weights, inputs):
        *inner, last = (weights[name] for name in sorted(weights))
        for leaf in inner:
            inputs = jax.nn.relu(inputs @ leaf)
        return inputs @ last

    a, b = map(deep, blocks)
    batches = {"test": [(x, labels)], "train": [(x, labels)]}
    found = along_line(run, a, b, x, batches, ("temperature", "lewc"), (0.5,))
    outputs = found["lewc"]["layers"][-1]
    np.testing.assert_allclose(outputs["coefficient"], 1, rtol=1e-6)  # exactly 2^-depth (f_A + f_B)
    end, middle, _ = found["temperature"]["temperature"]
    np.testing.assert_allclose(end / middle, 2.0 ** (depth - 1), rtol=1e-3)
    assert found["temperature"]["barrier"] > 0.1
    np.testing.assert_allclose(found["temperature"]["recalibrated_barrier"], 0, atol=1e-5)


def test_equal_networks_differ_in_nothing(pair):
    found = measured(pair[0], pair[0])
    for row in found["similarity"]["layers"]:
        np.testing.assert_allclose(row["cka"], 1, atol=1e-6)
        np.testing.assert_allclose([row["procrustes"], row["svcca"]], 0, atol=1e-5)
    for row in found["variance"]["layers"]:
        np.testing.assert_allclose(row["ratio"], 1, rtol=1e-5)
    predictions = found["predictions"]
    assert {*predictions["disagreement_a"], *predictions["disagreement_ensemble"]} == {0.0}
    np.testing.assert_allclose(predictions["kl_b"], 0, atol=1e-7)
    assert np.ptp(found["temperature"]["temperature"]) < 1e-5


def test_they_are_drawn_and_listed(unrendered, whole, results, tmp_path):
    page = llfc_jax.report(whole, tmp_path)
    for name in FURTHER:
        assert (page.parent / "figures" / f"{name}.png").stat().st_size > 0
    assert not (page.parent / "figures" / "quantities.png").exists()
    assert jnp.isfinite(jnp.asarray(results["temperature"]["barrier"]))
