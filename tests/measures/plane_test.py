"""The plane through three networks: its networks, its geometry, and what spans none."""

import jax
import numpy as np
import pytest

import llfc_jax
from llfc_jax.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)).astype(np.float32), RNG.integers(0, 3, 30)
BATCHES = [(X[:20], Y[:20]), (X[20:], Y[20:])]


def apply(weights, x):
    return jax.nn.relu(x @ weights["in"]) @ weights["out"]


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = {"in": (4, 5), "out": (5, 3)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return weights | {"step": np.int32(seed)}


def flat(weights):
    return np.concatenate([weights[name].ravel() for name in ("in", "out")]).astype(np.float64)


@pytest.fixture(scope="module")
def networks():
    return [network(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def plane(networks):
    return llfc_jax.evaluate_plane(apply, *networks, BATCHES, 5)


def test_the_networks_keep_their_distances(networks, plane):
    places = np.array(plane["places"])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = np.linalg.norm(flat(networks[i]) - flat(networks[j]))
        np.testing.assert_allclose(np.linalg.norm(places[i] - places[j]), apart, rtol=1e-6)


def test_losses_at_the_networks_are_their_own(networks, plane):
    for index, weights in enumerate(networks):
        path = llfc_jax.evaluate_path(apply, weights, weights, BATCHES, 2)
        np.testing.assert_allclose(plane["loss_at_networks"][index], path["loss"][0], rtol=1e-5)
        assert plane["error_at_networks"][index] == path["error"][0]


def test_every_point_is_the_origin_and_steps_along_an_orthonormal_pair(networks, plane):
    a, b, c = map(flat, networks)
    u = (b - a) / np.linalg.norm(b - a)
    v = c - a - ((c - a) @ u) * u
    v /= np.linalg.norm(v)
    for i, j in ((0, 0), (1, 3), (4, 2)):
        theta = a + plane["x"][j] * u + plane["y"][i] * v
        weights = {"in": theta[:20].reshape(4, 5), "out": theta[20:].reshape(5, 3)}
        weights = {name: leaf.astype(np.float32) for name, leaf in weights.items()} | {"step": np.int32(0)}
        path = llfc_jax.evaluate_path(apply, weights, weights, BATCHES, 2)
        np.testing.assert_allclose(plane["loss"][i][j], path["loss"][0], rtol=1e-4)


def test_what_spans_no_plane_is_refused(networks):
    a, b, _ = networks
    with pytest.raises(UserError, match="expected three different networks; found A and C to be equal"):
        llfc_jax.evaluate_plane(apply, a, b, a, BATCHES, 3)
    with pytest.raises(UserError, match="found A, B, C on one"):
        llfc_jax.evaluate_plane(apply, a, b, llfc_jax.lerp(a, b, 0.3), BATCHES, 3)
    with pytest.raises(UserError, match="labels: expected 0 to 2, by the logits; found 1 to 3"):
        llfc_jax.evaluate_plane(apply, *networks, [(X, Y + 1)], 3)
    with pytest.raises(UserError, match="the networks differ at"):
        llfc_jax.evaluate_plane(apply, a, b, {"in": a["in"]}, BATCHES, 3)
