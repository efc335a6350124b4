"""The straight-through estimator on a pair of small networks trained on real digits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import some_permutation
from sklearn.datasets import load_digits

from llfc_jax.errors import UserError
from llfc_jax.matching import weight_matching
from llfc_jax.matching.straight_through import straight_through
from llfc_jax.models import mlp
from llfc_jax.models.layers import Flatten, ReLU
from llfc_jax.models.network import Network, sequence
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import (
    apply_permutation,
    check_equivalence,
    identity,
    inverse,
    permutation_spec,
)

pytestmark = pytest.mark.slow

NETWORK = mlp((8, 8, 1), 10, hidden=(24, 24))
KEY = jax.random.key(0)


@jax.jit
def loss_fn(variables, batch):
    images, labels = batch
    logits = NETWORK.apply(variables, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@pytest.fixture(scope="module")
def batches():
    digits = load_digits()
    images = jax.device_put(np.float32(digits.images[..., None] / 8 - 1))
    labels = jnp.asarray(digits.target, jnp.int32)
    return [(images[i : i + 128], labels[i : i + 128]) for i in range(0, 1664, 128)]


@pytest.fixture(scope="module")
def pair(batches):
    """Two networks trained from different inits in different orders."""
    optimizer = optax.adam(5e-3)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)

    @jax.jit
    def train(key):
        def step(state, i):
            variables, opt_state = state
            gradient = jax.grad(loss_fn)(variables, jax.tree.map(lambda x: x[i], stacked))
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(variables, updates), opt_state), None

        variables = NETWORK.init(key, batches[0][0])
        order = jax.random.randint(key, 250, 0, len(batches))
        return jax.lax.scan(step, (variables, optimizer.init(variables)), order)[0][0]

    return train(jax.random.key(1)), train(jax.random.key(2))


@pytest.fixture(scope="module")
def spec(pair, batches):
    return permutation_spec(NETWORK.apply, pair[0], batches[0][0])


@pytest.fixture(scope="module")
def found(spec, pair, batches):
    return match(spec, pair, batches)


def match(spec, pair, batches, **options):
    options = {"loss_fn": loss_fn, "optimizer": optax.adam(3e-3), "epochs": 8} | options
    return straight_through(KEY, spec, *pair, batches=batches, **options)


def midpoint_loss(spec, pair, permutation, batches):
    a, b = pair
    middle = lerp(a, apply_permutation(spec, permutation, b), 0.5)
    return np.mean([loss_fn(middle, batch) for batch in batches])


def assert_equal(p, q):
    jax.tree.map(np.testing.assert_array_equal, p, q)


def test_the_midpoint_loses_less_than_after_weight_matching(found, spec, pair, batches):
    permutation, info = found
    matched, _ = weight_matching(KEY, spec, *pair)
    after, before = (midpoint_loss(spec, pair, p, batches) for p in (permutation, matched))
    assert after < 0.9 * before
    np.testing.assert_allclose(info.objective.min(), after, rtol=1e-5)
    np.testing.assert_allclose(info.objective[0], before, rtol=1e-5)


def test_the_result_permutes_every_class_and_keeps_the_function(found, spec, pair, batches):
    permutation, info = found
    assert permutation.keys() == spec.sizes.keys()
    for name, size in spec.sizes.items():
        assert permutation[name].dtype == jnp.int32
        assert sorted(permutation[name].tolist()) == list(range(size))
    aligned = apply_permutation(spec, permutation, pair[1])
    assert check_equivalence(NETWORK.apply, pair[1], aligned, batches[0][0]) < 1e-5
    assert info.objective.shape == (9,)
    assert info.sweeps == 8


def test_the_key_determines_the_result(found, spec, pair, batches):
    assert_equal(match(spec, pair, batches), found)


def test_the_result_is_never_worse_than_the_start(spec, pair, batches):
    start, _ = weight_matching(KEY, spec, *pair)
    permutation, info = match(spec, pair, batches, start=start, epochs=2, optimizer=optax.sgd(1e3))
    assert info.objective[1:].min() > info.objective[0]  # such steps scramble the permutation
    assert_equal(permutation, start)


def test_a_bad_start_is_left_behind(spec, pair, batches):
    start = some_permutation(0, spec)
    _, info = match(spec, pair, batches, start=start)
    assert info.objective[-1] < 0.5 * info.objective[0]


def test_a_planted_permutation_is_projected_onto(spec, pair, batches):
    a = pair[0]
    planted = some_permutation(0, spec)
    b = apply_permutation(spec, planted, a)
    frozen = optax.sgd(0.0)
    permutation, info = match(
        spec, (a, b), batches[:1], start=identity(spec), sweeps=10, optimizer=frozen, epochs=2
    )
    assert_equal(permutation, inverse(planted))
    np.testing.assert_allclose(info.objective[-1], loss_fn(a, batches[0]), rtol=1e-5)
    assert info.converged


def test_batchnorm_may_use_the_statistics_of_the_batch(batches):
    stages = [("conv", nn.Conv(6, (3, 3), strides=2)), ("norm", nn.BatchNorm()), ("relu", ReLU())]
    network = Network(sequence([*stages, ("flatten", Flatten()), ("dense", nn.Dense(10))]))

    def train_loss(variables, batch):
        logits, _ = network.apply_train(variables, batch[0], KEY)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    init = jax.jit(network.init)
    a, b = (init(jax.random.key(seed), batches[0][0]) for seed in (1, 2))
    spec = permutation_spec(network.apply, a, batches[0][0])
    b["batch_stats"]["norm"]["var"] = jnp.full(6, jnp.nan)  # neither read nor matched
    permutation, info = match(spec, (a, b), batches[:4], loss_fn=train_loss, epochs=2)
    assert sorted(permutation["P0"].tolist()) == list(range(6))
    assert jnp.isfinite(info.objective).all()


def test_without_symmetry_nothing_changes(batches):
    def linear_loss(weights, batch):
        logits = batch[0].reshape(len(batch[0]), -1) @ weights["w"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    weights = {"w": jnp.ones((64, 10))}
    spec = permutation_spec(lambda v, x: x @ v["w"], weights, jnp.ones((2, 64)))
    permutation, info = match(spec, (weights, weights), batches, loss_fn=linear_loss)
    assert permutation == {}
    assert not info.converged  # there was nothing to find
    assert info.sweeps == 0
    np.testing.assert_allclose(info.objective, [np.log(10)], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, "^batches: expected at least one, found none$"),
        ({"epochs": 0}, "^epochs, sweeps: expected at least 1, found 0 and 1$"),
        ({"sweeps": 0}, "^epochs, sweeps: expected at least 1, found 8 and 0$"),
        ({"start": {}}, "^permutation P0: expected shape"),
        ({"loss_fn": lambda *_: jnp.nan}, "^loss_fn: expected a finite number at the start, found nan$"),
    ],
)
def test_bad_input_is_named(options, message, spec, pair, batches):
    with pytest.raises(UserError, match=message):
        match(spec, pair, **{"batches": batches, **options})
