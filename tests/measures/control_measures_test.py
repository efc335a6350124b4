"""Random directions, spectra, sharpness: against float64, dense Hessians, and what must leave them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import traces
from measured import along_line

import llfc_jax
from llfc_jax.measures.nodes import contracted_leaves, filter_axes

ALPHAS = (0.25, 0.5, 0.75)
ALL = (0.0, *ALPHAS, 1.0)
MEASURES = ("random_direction", "singular_values", "sharpness")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype(np.float32), RNG.integers(0, 3, 24)
HALVES = [(X[:12], Y[:12]), (X[12:], Y[12:])]


def apply(weights, x):
    hidden = jnp.tanh(x @ weights["first"] + weights["bias"][None])
    return hidden @ weights["last"]


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = {"first": (4, 5), "bias": (5,), "last": (5, 3)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def measured(a, b, measures=MEASURES, fn=apply, batches=None):
    batches = batches or {"test": HALVES, "train": HALVES}
    return along_line(fn, a, b, X[:12], batches, measures, ALPHAS)


@pytest.fixture(scope="module")
def pair():
    return network(0), network(1)


@pytest.fixture(scope="module")
def results(pair):
    return measured(*pair)


def between(a, b, alpha):
    return {name: (1 - alpha) * np.float64(a[name]) + alpha * np.float64(b[name]) for name in a}


@jax.jit
@jax.hessian
def blocks_of_hessian(weights, x):
    logits = apply(weights, x)
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), HALVES[0][1][:, None], 1).mean()


def hessian(weights):
    """Of the mean cross-entropy of the first training batch, dense, in float64."""
    with jax.enable_x64(True):
        blocks = jax.device_get(blocks_of_hessian(weights, np.float64(HALVES[0][0])))
    sizes = {name: leaf.size for name, leaf in weights.items()}
    return np.block([[blocks[x][y].reshape(sizes[x], sizes[y]) for y in sizes] for x in sizes])


@pytest.mark.parametrize("at", [0, 2, 4])
def test_the_largest_eigenvalue_is_that_of_the_dense_hessian(at, pair, results):
    exact = np.linalg.eigvalsh(hessian(between(*pair, ALL[at])))
    np.testing.assert_allclose(results["sharpness"]["top"][at], exact[-1], rtol=5e-3)


def test_the_trace_is_that_of_the_dense_hessian_within_its_error(pair, results):
    found = results["sharpness"]
    for at, alpha in enumerate(ALL):
        exact = np.trace(hessian(between(*pair, alpha)))
        assert abs(found["trace"][at] - exact) < 5 * found["trace_std_error"][at]
    assert found["parameters"] == [40] * 5


def test_the_trace_of_a_diagonal_hessian_is_exact():
    """Every v of +-1 has v^T H v = tr H where H is diagonal: logits -w_j x_j / 2 under a squared loss."""
    weights = {"w": np.ones((3, 3), np.float32)}
    x = np.eye(3, dtype=np.float32)

    def squared(outputs, labels):
        return jnp.square(outputs - labels).sum(-1)

    program = llfc_jax.read(lambda w, x: x @ w["w"], weights, x)
    found = llfc_jax.measure(
        program,
        weights,
        weights,
        {name: [(x, x)] for name in ("test", "train")},
        measures=("sharpness",),
        loss_fn=squared,
    )["sharpness"]["a-b"]
    np.testing.assert_allclose(found["top"], 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(found["trace"], 9 * 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(found["trace_std_error"], 0, atol=1e-5)


def test_without_training_data_sharpness_is_that_of_the_test_data(pair, results):
    found = measured(*pair, ("sharpness",), batches={"test": HALVES[:1]})["sharpness"]
    assert found == results["sharpness"]


def test_the_sharpness_of_a_second_pair_traces_nothing_new(pair):
    program = llfc_jax.read(apply, pair[0], X[:12])

    def sharpness(a, b):
        batches, chosen = {"test": HALVES, "train": HALVES}, ("sharpness",)
        llfc_jax.measure(program, a, b, batches, measures=chosen, alphas=ALPHAS)

    sharpness(*pair)
    with traces() as seen:
        sharpness(network(2), network(3))
    assert not seen


def test_singular_values_are_those_of_the_whole_matrices(pair, results):
    entry = results["singular_values"]
    assert entry["alphas"] == (0.0, 0.5, 1.0)
    rows = {row["layer"]: row for row in entry["layers"]}
    for at, alpha in enumerate(entry["alphas"]):
        theta = between(*pair, alpha)
        hidden = np.float64(X) @ theta["first"] + theta["bias"]
        features = {"first": hidden, "tanh1": np.tanh(hidden), "last": np.tanh(hidden) @ theta["last"]}
        for name, matrix in features.items():
            exact = np.linalg.svd(matrix, compute_uv=False)
            np.testing.assert_allclose(rows[name]["features"][at], exact, rtol=1e-3, atol=1e-3 * exact[0])
        for name in ("first", "last"):
            exact = np.linalg.svd(theta[name], compute_uv=False)
            found = np.asarray(rows[name]["weights"][at])
            np.testing.assert_allclose(found[: len(exact)], exact, rtol=1e-5)


def test_random_directions_start_at_a_and_are_as_long_as_the_pair(pair, results):
    found = results["random_direction"]
    start = results["lmc"]["test"]["loss"][0]
    assert found["random_loss"][0] == found["filters_loss"][0] == start
    assert found["random_error"][0] == results["lmc"]["test"]["error"][0]


def test_the_loss_in_a_random_direction_is_that_of_the_network_there(pair, results):
    a, b = pair
    names = sorted(a)  # as JAX numbers leaves
    drawn = [
        np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(0), leaf), a[name].shape), np.float64)
        for leaf, name in enumerate(names)
    ]
    flat = np.concatenate([leaf.ravel() for leaf in drawn])
    length = np.linalg.norm(np.concatenate([(b[name] - a[name]).ravel() for name in names]))
    moved = {
        name: np.float32(a[name] + 0.5 * length * leaf / np.linalg.norm(flat))
        for name, leaf in zip(names, drawn, strict=True)
    }
    own = llfc_jax.evaluate_path(apply, moved, moved, [(X, Y)], 2)["loss"][0]
    np.testing.assert_allclose(results["random_direction"]["random_loss"][2], own, rtol=1e-4)


def test_equal_networks_have_no_direction_to_go(pair):
    found = measured(pair[0], pair[0], ("random_direction",))["random_direction"]
    assert len({*found["random_loss"], *found["filters_loss"]}) == 1


def test_filters_are_the_weights_of_one_output_and_norms_stay():
    def normed(weights, x):
        hidden = x @ weights["kernel"] + weights["bias"][None]
        hidden = (hidden - hidden.mean(-1, keepdims=True)) / (hidden.std(-1, keepdims=True) + 1e-5)
        return (hidden * weights["scale"][None]) @ weights["out"]

    weights = {"bias": np.ones(5), "kernel": np.ones((4, 5)), "out": np.ones((5, 3)), "scale": np.ones(5)}
    weights = jax.tree.map(np.float32, weights)
    program = llfc_jax.read(normed, weights, X[:2])
    named = dict(enumerate(sorted(weights)))
    assert {named[leaf] for leaf in contracted_leaves(program)} >= {"kernel", "out"}
    assert "scale" not in {named[leaf] for leaf in contracted_leaves(program)}
    assert {named[leaf]: axes for leaf, axes in filter_axes(program).items()} == {"kernel": (1,), "out": (1,)}
