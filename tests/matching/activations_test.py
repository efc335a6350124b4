"""Activation matching: planted answers, an oracle in NumPy, streams against their whole."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted import some_permutation
from scipy.optimize import linear_sum_assignment

from llfc_jax.errors import UserError
from llfc_jax.matching.activations import (
    STATISTICS,
    activation_matching,
    comoments,
    correlation,
    covariance,
    merge,
)
from llfc_jax.models import mlp, resnet
from llfc_jax.models.layers import Flatten, MaxPool, ReLU
from llfc_jax.models.network import Network, sequence
from llfc_jax.symmetry import (
    apply_permutation,
    check_equivalence,
    identity,
    inverse,
    permutation_spec,
)

IMAGES = jax.device_put(np.float32(np.random.default_rng(0).normal(size=(96, 8, 8, 1))))

NETWORKS = {
    "mlp": mlp((8, 8, 1), 10, hidden=(20, 16)),
    "conv_batchnorm": Network(
        sequence(
            [
                *[
                    ("conv1", nn.Conv(6, (3, 3))),
                    ("norm1", nn.BatchNorm()),
                    ("relu1", ReLU()),
                    ("pool", MaxPool()),
                ],
                *[("conv2", nn.Conv(8, (3, 3))), ("norm2", nn.BatchNorm()), ("relu2", ReLU())],
                *[
                    ("flatten", Flatten()),
                    ("dense1", nn.Dense(12)),
                    ("relu3", ReLU()),
                    ("dense2", nn.Dense(10)),
                ],
            ]
        )
    ),
    "residual": resnet((8, 8, 1), 10, depth=8, width=0.5, norm="batch", shortcut="conv"),
}


def random_network(network, seed):
    """Variables with no dead unit, and no trivial bias, scale or running statistic."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if leaf.ndim > 1:
            values = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        elif any(word in jax.tree_util.keystr(path) for word in ("scale", "var")):
            values = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            values = rng.uniform(0, 0.5, leaf.shape)
        return jax.device_put(np.float32(values))

    shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES[:1])
    return jax.tree_util.tree_map_with_path(draw, shapes)


def match(network, a, b, batches, **options):
    spec = permutation_spec(network.apply, a, IMAGES[:2])
    return activation_matching(jax.random.key(0), spec, a, b, apply=network.apply, batches=batches, **options)


def assert_equal(p, q):
    assert p.keys() == q.keys()
    for name in q:
        np.testing.assert_array_equal(p[name], q[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_planted_permutation_is_recovered(name):
    network = NETWORKS[name]
    a = random_network(network, 1)
    spec = permutation_spec(network.apply, a, IMAGES[:2])
    planted = some_permutation(2, spec)
    b = apply_permutation(spec, planted, a)
    permutation, info = match(network, a, b, [IMAGES[:48], IMAGES[48:]])
    assert_equal(permutation, inverse(planted))
    assert all(indices.dtype == jnp.int32 for indices in permutation.values())
    assert info.converged
    assert info.sweeps == 1
    assert info.objective[1] > info.objective[0]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_independent_networks_are_matched_as_by_numpy_and_scipy(statistic):
    network = NETWORKS["mlp"]
    a, b = random_network(network, 1), random_network(network, 2)
    permutation, info = match(network, a, b, [IMAGES[:40], IMAGES[40:80], IMAGES[80:]], statistic=statistic)

    def hidden(variables):
        h, layers = np.asarray(IMAGES, np.float64).reshape(len(IMAGES), -1), []
        for name in ("dense1", "dense2"):
            kernel, bias = (
                np.asarray(variables["params"][name][leaf], np.float64) for leaf in ("kernel", "bias")
            )
            h = np.maximum(h @ kernel + bias, 0)
            layers.append(h)
        return layers

    before = after = 0.0
    for name, h_a, h_b in zip(("P0", "P1"), hidden(a), hidden(b), strict=True):
        n = h_a.shape[1]
        joint = np.cov(h_a.T, h_b.T, bias=True)
        deviation = np.sqrt(np.diag(joint))
        similarity = joint if statistic == "covariance" else joint / np.outer(deviation, deviation)
        similarity = similarity[:n, n:]
        best = linear_sum_assignment(similarity, maximize=True)[1]
        np.testing.assert_array_equal(permutation[name], best)
        before += np.trace(similarity)
        after += similarity[np.arange(n), best].sum()
    np.testing.assert_allclose(info.objective, [before, after], rtol=1e-4)
    spec = permutation_spec(network.apply, a, IMAGES[:2])
    assert check_equivalence(network.apply, b, apply_permutation(spec, permutation, b), IMAGES) < 1e-5


@pytest.fixture
def stream():
    """Activations far from zero, where sums of squares would cancel, in batches of unequal size."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(500, 6))
    a = (common + 0.5 * rng.normal(size=common.shape)) * rng.uniform(0.1, 2, 6) + 300
    b = (common[:, ::-1] + 0.5 * rng.normal(size=common.shape)) * rng.uniform(0.1, 2, 6) - 200
    a, b = a.astype(np.float32), b.astype(np.float32)
    cuts = [0, 7, 8, 200, 450, 500]
    batches = [jax.device_put((a[i:j], b[i:j])) for i, j in itertools.pairwise(cuts)]
    return a, b, batches


def test_streamed_moments_agree_with_numpy_in_double_precision(stream):
    a, b, batches = stream
    moments = comoments(*batches[0])
    for batch in batches[1:]:
        moments = merge(moments, comoments(*batch))
    a, b = a.astype(np.float64), b.astype(np.float64)
    np.testing.assert_allclose(correlation(moments), np.corrcoef(a.T, b.T)[:6, 6:], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(covariance(moments), np.cov(a.T, b.T, bias=True)[:6, 6:], rtol=1e-4, atol=1e-5)
    assert moments.weight == 500


def test_a_unit_correlates_perfectly_with_itself(stream):
    a = jnp.asarray(stream[0])
    np.testing.assert_allclose(jnp.diag(correlation(comoments(a, 3 * a))), np.ones(6), rtol=1e-5)


def test_units_that_do_not_vary_correlate_with_nothing(stream):
    a = jnp.asarray(stream[0]).at[:, 1].set(0).at[:, 2].set(0.1)
    b = jnp.asarray(stream[1]).at[:, 5].set(0)
    c = merge(comoments(a[:70], b[:70]), comoments(a[70:], b[70:]))
    expected_zero = np.zeros((6, 6), bool)
    expected_zero[[1, 2]] = True
    expected_zero[:, 5] = True
    np.testing.assert_array_equal(correlation(c) == 0, expected_zero)
    assert jnp.isfinite(correlation(c)).all()


@pytest.mark.parametrize("statistic", STATISTICS)
def test_units_that_activations_do_not_tell_apart_are_matched_by_their_weights(statistic):
    network = NETWORKS["mlp"]
    a = random_network(network, 1)
    first, second = (a["params"][name] for name in ("dense1", "dense2"))
    dead, constant, duplicate = jnp.array([3, 7, 11]), jnp.array([4, 5]), jnp.array([8, 9])
    first["bias"] = first["bias"].at[dead].set(-1e3)
    first["kernel"] = first["kernel"].at[:, constant].set(0).at[:, duplicate[0]].set(first["kernel"][:, 9])
    first["bias"] = first["bias"].at[duplicate[0]].set(first["bias"][9])
    second["bias"] = second["bias"].at[jnp.array([1, 2, 6])].set(-1e3)
    spec = permutation_spec(network.apply, a, IMAGES[:2])
    planted = some_permutation(0, spec)
    permutation, info = match(network, a, apply_permutation(spec, planted, a), [IMAGES], statistic=statistic)
    assert_equal(permutation, inverse(planted))
    assert jnp.isfinite(info.objective).all()


def test_weights_do_not_outvote_activations():
    """Units of A and B with equal activations, in another order, whose other weights say the contrary."""
    network = NETWORKS["mlp"]
    a = random_network(network, 1)
    spec = permutation_spec(network.apply, a, IMAGES[:2])
    planted = some_permutation(0, spec)
    b = apply_permutation(spec, planted, a)
    b["params"]["dense3"]["kernel"] = 10 * a["params"]["dense3"]["kernel"]
    permutation, _ = match(network, a, b, [IMAGES])
    assert_equal(permutation, inverse(planted))


def test_a_stream_of_batches_gives_what_all_data_at_once_gives():
    network = NETWORKS["mlp"]
    a, b = random_network(network, 1), random_network(network, 2)
    whole, whole_info = match(network, a, b, [IMAGES])
    streamed, streamed_info = match(network, a, b, (IMAGES[i : i + 32] for i in range(0, 96, 32)))
    assert_equal(streamed, whole)
    np.testing.assert_allclose(streamed_info.objective, whole_info.objective, rtol=1e-5)


def test_without_symmetry_nothing_changes_and_no_data_is_read():
    spec = permutation_spec(lambda w, x: w * x, jnp.ones(3), jnp.ones(3))
    permutation, info = activation_matching(
        jax.random.key(0), spec, jnp.ones(3), jnp.ones(3), apply=lambda w, x: w * x, batches=[]
    )
    assert permutation == identity(spec) == {}
    assert not info.converged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "cosine"}, r"^statistic: expected one of correlation, covariance, found 'cosine'$"),
        ({"batches": []}, r"^batches: expected at least one, found none$"),
        (
            {"batches": [np.full((96, 8, 8, 1), np.nan, np.float32)]},
            r"^activations of P0 in A: .* found NaN or infinity$",
        ),
    ],
)
def test_bad_input_is_named(options, message):
    network = NETWORKS["mlp"]
    a = random_network(network, 1)
    with pytest.raises(UserError, match=message):
        match(network, a, a, **{"batches": [IMAGES], **options})


def test_a_network_of_another_shape_is_refused():
    network = NETWORKS["mlp"]
    other = random_network(mlp((8, 8, 1), 10, hidden=(20, 17)), 1)
    with pytest.raises(UserError, match=r"^params/dense2/bias: expected shape \(16,\)"):
        match(network, random_network(network, 1), other, [IMAGES])
