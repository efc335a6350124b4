"""What LLFC is measured against, from float64 NumPy and from plane geometry."""

import float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.measures.fold import Point, View
from llfc_jax.measures.llfc import baseline, join

ALPHAS = (0.1, 0.25, 0.5, 0.9)


def measured(a, b, batch_size=32, alphas=ALPHAS):
    measure = baseline({"it": "dense"}, alphas)
    total = measure.empty
    for start in range(0, len(a), batch_size):
        seen = [{"it": jnp.asarray(x[start : start + batch_size])} for x in (a, b)]
        views = [View({}, None, one, {}) for one in seen]
        n = len(views[0].features["it"])
        point = Point(None, jnp.float32(0), views[0], *views, jnp.zeros(n, int), jnp.ones(n))
        # As the pass hands it over: along a first axis of the alphas at which the measure was taken.
        total = measure.add(total, jax.tree.map(lambda leaf: np.asarray(leaf)[None], measure.look(point)))
    (row,) = measure.finalize(total, (0.0,))
    return row


def features(seed, shift, shape=(100, 4, 6)):
    return (np.random.default_rng(seed).standard_normal(shape) + shift).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 3.0, 1e-3], ids=["alike", "B longer", "B collapsed"])
@pytest.mark.parametrize("apart", [1.0, 1e-3], ids=["apart", "close"])
def test_the_nearer_end_agrees_with_float64_at_every_alpha(scale, apart):
    a = features(0, 1.0)
    b = scale * (a + apart * features(1, 0.0))
    found = measured(a, b)["end"]
    for index, alpha in enumerate(ALPHAS):
        v = float64.between(np.float64(a), np.float64(b), alpha)
        ends = [float64.comparison(x, v)["cosine_distance"] for x in (a, b)]
        expected = min(ends, key=lambda end: end["mean"])
        np.testing.assert_allclose(found["mean"][index], expected["mean"], rtol=1e-4)
        np.testing.assert_allclose(found["std"][index], expected["std"], rtol=1e-3)


def test_an_end_halves_the_angle_at_one_half_between_features_of_one_length():
    angle = 0.8
    a, b = np.float32([[1, 0]] * 3), np.float32([[np.cos(angle), np.sin(angle)]] * 3)
    found = measured(a, b, alphas=(0.5,))["end"]
    assert found["mean"][0] == pytest.approx(1 - np.cos(angle / 2), rel=1e-5)


def test_opposite_features_meet_at_zero_where_there_is_no_angle():
    a = features(0, 0.0)
    found = measured(a, -a, alphas=(0.25, 0.5))["end"]
    assert found["mean"][0] == pytest.approx(0, abs=1e-9)
    assert np.isnan(found["mean"][1])


def test_samples_that_are_dead_in_one_network_are_counted_and_left_out():
    a, b = features(0, 1.0), features(1, 1.0)
    a[:7], b[5:20] = 0, 0
    whole, alive = measured(a, b), measured(a[20:], b[20:])
    np.testing.assert_allclose(whole["end"]["mean"], alive["end"]["mean"], rtol=1e-5)
    (row,) = join([{"layer": "it"}], [whole])
    assert row["baseline"]["dead"] == 20
