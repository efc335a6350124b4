"""Relaxed permutations: Sinkhorn's matrix and its gradient are right; descent finds a planted permutation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.matching.learned import RELAXATIONS
from llfc_jax.matching.sinkhorn import sinkhorn
from llfc_jax.symmetry import apply_permutation, symmetries

RNG = np.random.default_rng(0)


def balanced_in_float64(free):
    """(n, n), by 10,000 of Sinkhorn's iterations; that of the identity keeps 9/10."""
    n = len(free)
    matrix = np.exp(np.float64(free) * np.log(9 * (n - 1)))
    for _ in range(10_000):
        matrix /= matrix.sum(1, keepdims=True)
        matrix /= matrix.sum(0)
    return matrix


@pytest.mark.parametrize("size", [0.1, 1])
def test_the_matrix_is_that_of_float64_for_each_of_a_batch(size):
    free = size * RNG.normal(size=(2, 3, 5, 5)).astype(np.float32)
    found = sinkhorn(jnp.asarray(free))
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(found[index], balanced_in_float64(free[index]), atol=1e-3)


def test_however_large_its_entries_it_ends_in_a_permutation():
    order = RNG.permutation(6)
    found = sinkhorn(jnp.asarray(1e4 * np.eye(6, dtype=np.float32)[order]))
    np.testing.assert_allclose(found, np.eye(6)[order], atol=1e-6)
    gradient = jax.grad(lambda x: (sinkhorn(x) * jnp.arange(36).reshape(6, 6)).sum())(1e4 * jnp.eye(6))
    np.testing.assert_allclose(gradient, 0, atol=1e-3)
    assert sinkhorn(jnp.zeros((2, 1, 1))).tolist() == [[[1]], [[1]]]


def test_its_gradient_is_that_of_finite_differences_in_float64():
    free, weights, step = RNG.normal(size=(4, 4)) / 2, RNG.normal(size=(4, 4)), 1e-6
    found = jax.grad(lambda x: (sinkhorn(x) * weights).sum())(jnp.float32(free))
    for index in np.ndindex(4, 4):
        moved = np.zeros((4, 4))
        moved[index] = step
        up, down = (np.sum(balanced_in_float64(free + sign * moved) * weights) for sign in (1, -1))
        np.testing.assert_allclose(found[index], (up - down) / (2 * step), atol=2e-3)


SHAPES = {"in": (5, 6), "bias": (6,), "out": (6, 4)}
X = jnp.asarray(RNG.normal(size=(64, 5)), jnp.float32)
A = {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}


def apply(w, x):
    return jax.nn.relu(x @ w["in"] + w["bias"][None]) @ w["out"]


def learn(relaxation, b, epochs):
    """B on its way to A by permutations alone, from where it is: the loss is the distance from A."""

    def loss_fn(w, x):
        return sum(jnp.sum((w[name] - A[name]) ** 2) for name in w)

    return llfc_jax.learned_matching(
        *(jax.random.key(0), symmetries(apply, A, X), A, b),
        **{"loss_fn": loss_fn, "batches": [X], "optimizer": optax.adam(0.03), "epochs": epochs},
        **{"classes": (), "start_b": b, "relaxation": relaxation},
    )


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_descent_finds_a_planted_permutation(relaxation):
    spec = llfc_jax.permutation_spec(apply, A, X)
    b = apply_permutation(spec, {"P0": jnp.array([1, 0, 2, 4, 5, 3])}, A)
    found = learn(relaxation, b, 60)
    jax.tree.map(np.testing.assert_array_equal, found.variables, A)
    assert min(found.info.objective) == 0 < found.info.objective[0]


def test_an_unknown_relaxation_is_refused():
    with pytest.raises(
        UserError, match=r"^relaxation: expected one of straight_through, sinkhorn; found 'soft'$"
    ):
        learn("soft", A, 1)
