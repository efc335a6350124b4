"""Commutativity matching: the paper's objective, against NumPy, and descended."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted import some_permutation

from llfc_jax.errors import UserError
from llfc_jax.matching import commutativity_matching
from llfc_jax.symmetry import (
    apply_permutation,
    identity,
    inverse,
    permutation_spec,
)

KEY = jax.random.key(0)
ONE_BY_ONE = ("NHWC", "HWIO", "NHWC")


def apply(w, x):
    """A convolution, then a stream that a block adds to, with a square weight on it: all kinds of layers."""
    x = jax.lax.conv_general_dilated(x, w["conv"], (1, 1), "SAME", dimension_numbers=ONE_BY_ONE)
    x = jax.nn.relu(x).mean((1, 2)) @ w["in"]
    x = x + jax.nn.relu(x @ w["read"]) @ w["write"]
    return jnp.tanh(x + x @ w["square"]) @ w["out"]


SHAPES = {
    "conv": (3, 3, 2, 9),
    "in": (9, 8),
    "read": (8, 12),
    "write": (12, 8),
    "square": (8, 8),
    "out": (8, 4),
}


def weights(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


BATCHES = [
    np.random.default_rng(i).standard_normal((n, 4, 4, 2)).astype(np.float32) for i, n in ((1, 9), (2, 7))
]
SPEC = permutation_spec(apply, weights(0), BATCHES[0])


def match(a, b, **options):
    return commutativity_matching(KEY, SPEC, a, b, apply=apply, batches=BATCHES, **options)


def inputs_of_layers(w, x):
    """Every layer's weight as (out, in) and input as (observations, in), in float64."""
    w = {name: np.asarray(leaf, np.float64) for name, leaf in w.items()}
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.stack([padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)], 3)
    patches = patches.reshape(-1, 9 * 2)
    conv = w["conv"].reshape(9 * 2, 9)
    pooled = np.maximum(patches @ conv, 0).reshape(len(x), 16, 9).mean(1)
    stream = pooled @ w["in"]
    hidden = np.maximum(stream @ w["read"], 0)
    added = stream + hidden @ w["write"]
    last = np.tanh(added + added @ w["square"])
    entries = {"conv": patches, "in": pooled, "read": stream, "write": hidden, "square": added, "out": last}
    return {name: ((conv if name == "conv" else w[name]).T, entry) for name, entry in entries.items()}


def commutativity(a, b):
    """sum_l ||(W_A - W_B)(H_A - H_B)||^2, per sample."""
    x = np.concatenate(BATCHES)
    of_a, of_b = inputs_of_layers(a, x), inputs_of_layers(b, x)
    squares = (
        np.sum(((of_a[layer][1] - of_b[layer][1]) @ (of_a[layer][0] - of_b[layer][0]).T) ** 2)
        for layer in of_a
    )
    return sum(squares) / len(x)


@pytest.fixture(scope="module")
def found():
    return match(weights(0), weights(1), start=identity(SPEC))


def test_the_objective_is_that_of_numpy_before_and_after(found):
    permutation, info = found
    a, b = weights(0), weights(1)
    np.testing.assert_allclose(info.objective[0], commutativity(a, b), rtol=1e-5)
    permuted = apply_permutation(SPEC, permutation, b)
    np.testing.assert_allclose(info.objective[-1], commutativity(a, permuted), rtol=1e-5)


def test_every_sweep_but_the_last_lowers_the_objective(found):
    info = found[1]
    assert info.converged
    assert (np.diff(info.objective[:-1]) < 0).all()
    assert info.objective[0] > 1.2 * info.objective[-1]
    assert len(info.objective) == info.sweeps + 1


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_planted_permutation_is_recovered(noise):
    a = weights(0)
    planted = some_permutation(3, SPEC)
    rng = np.random.default_rng(4)
    added = {name: noise * rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    b = jax.tree.map(jnp.add, apply_permutation(SPEC, planted, a), added)
    permutation, info = match(a, b)
    jax.tree.map(np.testing.assert_array_equal, permutation, inverse(planted))
    np.testing.assert_allclose(
        info.objective[-1], commutativity(a, apply_permutation(SPEC, permutation, b)), rtol=1e-4, atol=1e-6
    )


def test_without_data_or_with_data_that_overflows_it_says_so():
    with pytest.raises(UserError, match=r"^batches: expected at least one, found none$"):
        commutativity_matching(KEY, SPEC, weights(0), weights(1), apply=apply, batches=[])
    with pytest.raises(UserError, match=r"^activations in A: expected finite numbers"):
        commutativity_matching(
            KEY, SPEC, weights(0), weights(1), apply=apply, batches=[np.full((2, 4, 4, 2), 1e30, np.float32)]
        )
