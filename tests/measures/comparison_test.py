import float64
import jax
import numpy as np
import pytest

from llfc_jax.measures.comparison import QUARTILES, Comparison, compare, decompose, summarise, sums
from llfc_jax.measures.scaling import as_rows, largest


def fold(u, v, batch_size):
    """In batches, the last one padded with rubbish."""
    state, look = Comparison(), jax.jit(lambda u, v: sums(as_rows(u), as_rows(v), largest(u, v)))
    for start in range(0, len(u), batch_size):
        batch = [np.asarray(x[start : start + batch_size]) for x in (u, v)]
        missing = batch_size - len(batch[0])
        mask = np.asarray([1.0] * len(batch[0]) + [0.0] * missing)
        padded = [np.concatenate([x, np.full((missing, *x.shape[1:]), 7.0, x.dtype)]) for x in batch]
        state = compare(state, decompose(jax.device_get(look(*padded))), mask)
    return summarise(state)


def features(key, shape=(300, 5, 5, 8)):
    return np.array(jax.nn.relu(jax.random.normal(jax.random.key(key), shape)))


@pytest.mark.parametrize("noise", [1.0, 3e-2, 1.4e-3], ids=["distance 0.3", "distance 3e-4", "distance 1e-6"])
@pytest.mark.parametrize("scale", [1.0, 0.7], ids=["c = 1", "c = 0.7"])
def test_agrees_with_float64_to_1e_5_down_to_distances_of_1e_6(noise, scale):
    v = features(0)
    u = (scale * (v + noise * np.random.default_rng(1).normal(size=v.shape))).astype(np.float32)
    found, expected = fold(u, v, 64), float64.comparison(u, v)
    for name in QUARTILES:
        assert found["cosine_distance"].pop(name) == pytest.approx(
            expected["cosine_distance"].pop(name), rel=0.075
        )
    for group, values in expected.items():
        for name, value in values.items():
            # A spread far below its mean keeps the mean's digits only.
            atol = 1e-7 * abs(values["mean"]) if name == "std" else 0
            np.testing.assert_allclose(
                found[group][name], value, rtol=1e-5, atol=atol, err_msg=f"{group} {name}"
            )


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e20, 1e37])
def test_features_of_any_size_have_the_numbers_of_their_multiples(size):
    """Of every sample and of the dataset, of which the first batch is far smaller than the rest."""
    v = features(0) / 8
    u = v + 0.1 * features(1)
    growing = np.where(np.arange(300) < 64, 1e-3, 1.0)[:, None, None, None]
    small, large = (
        fold(*((x * growing * np.float32(factor)).astype(np.float32) for x in (u, v)), 64)
        for factor in (1, size)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5), small, large)
    assert large["dead"] == 0


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-6])
def test_collapsed_features_keep_the_digits_of_their_angles(scale):
    v = features(0)
    u = (scale * (v + np.random.default_rng(1).normal(size=v.shape))).astype(np.float32)
    found, expected = fold(u, v, 64)["cosine_distance"], float64.comparison(u, v)["cosine_distance"]
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-5)
    np.testing.assert_allclose(found["std"], expected["std"], rtol=1e-4)


def test_features_that_are_no_numbers_show_and_are_not_called_dead():
    u, v = features(0, (8, 5)), features(1, (8, 5))
    u[3, 2] = np.nan
    found = fold(u, v, 4)
    assert found["dead"] == 0
    assert np.isnan(found["cosine_distance"]["mean"])
    assert np.isnan(found["dataset"]["cosine_distance"])


def test_the_whole_is_the_same_in_batches_of_any_size():
    u, v = features(0), features(1)
    whole = fold(u, v, 300)
    for batch_size in (1, 7, 128):
        parts = fold(u[:50] if batch_size == 1 else u, v[:50] if batch_size == 1 else v, batch_size)
        reference = fold(u[:50], v[:50], 50) if batch_size == 1 else whole
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5), parts, reference)


def test_equal_features_have_distance_0_and_coefficient_1():
    found = fold(features(0), features(0), 64)
    assert found["cosine_distance"] == {"mean": 0, "std": 0, "q25": 0, "median": 0, "q75": 0}
    assert found["dataset"]["cosine_distance"] == 0
    np.testing.assert_allclose(found["coefficient"]["mean"], 1, rtol=1e-6)


def test_anti_aligned_features_have_distance_2_not_0():
    found = fold(-features(0), features(0), 64)
    np.testing.assert_allclose(found["cosine_distance"]["mean"], 2, rtol=1e-6)
    np.testing.assert_allclose(found["dataset"]["cosine_distance"], 2, rtol=1e-6)
    np.testing.assert_allclose(found["coefficient"]["mean"], -1, rtol=1e-6)


def test_orthogonal_features_have_distance_1():
    u, v = np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32)
    u[:, 0], v[:, 1] = 2, 3
    found = fold(u, v, 4)
    assert found["cosine_distance"]["mean"] == pytest.approx(1)
    assert found["dataset"] == {
        "cosine_distance": pytest.approx(1),
        "coefficient": pytest.approx(0),
        "dist": pytest.approx(13 / 6),
    }


def test_dead_samples_are_counted_and_left_out():
    u, v = features(0), features(1)
    u[:10], v[5:20] = 0, 0
    found, alive = fold(u, v, 64), float64.comparison(u[20:], v[20:])
    assert found["dead"] == 20
    np.testing.assert_allclose(found["cosine_distance"]["mean"], alive["cosine_distance"]["mean"], rtol=1e-5)
    np.testing.assert_allclose(found["coefficient"]["std"], alive["coefficient"]["std"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")  # of the oracle's samples
def test_the_whole_matrix_holds_samples_that_are_dead_on_one_side():
    u, v = features(0), features(1)
    u[:40], v[20:90] = 0, 0
    found, expected = fold(u, v, 64)["dataset"], float64.comparison(u, v)["dataset"]
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_a_dead_layer_is_nan_and_counted():
    found = fold(np.zeros((9, 4), np.float32), features(1, (9, 4)), 4)
    assert found["dead"] == 9
    assert np.isnan(found["cosine_distance"]["mean"])
    assert np.isnan(found["dataset"]["cosine_distance"])
