import float64
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llfc_jax import evaluate_path
from llfc_jax.measures.evaluation import losses_and_mistakes
from llfc_jax.measures.lmc import barrier, midpoint_gap
from llfc_jax.path.interpolation import alpha_grid

GRID = alpha_grid(25)


def test_a_sample_with_nan_logits_has_no_error():
    logits = jnp.array([[0.0, 1.0], [jnp.nan, 0.0]])
    losses, mistakes = losses_and_mistakes(logits, jnp.array([1, 1]))
    assert mistakes[0] == 0
    assert np.isnan(losses[1])
    assert np.isnan(mistakes[1])


@pytest.mark.parametrize("margin", [-30, -1e-3, 0, 1, 8, 15, 40])
def test_losses_keep_their_digits_from_1e_17_to_30_nats(margin):
    logits = np.float32([[0.1, 0.3, -1.0], [2.0, -1.0, 0.5]]) + np.float32([margin, 0, 0])
    z = np.float64(logits)
    expected = np.log1p(np.exp(z[:, 1] - z[:, 0]) + np.exp(z[:, 2] - z[:, 0]))
    losses, _ = losses_and_mistakes(jnp.asarray(logits), jnp.zeros(2, int))
    np.testing.assert_allclose(losses, expected, rtol=2e-6)


def test_huge_logits_neither_overflow_nor_vanish():
    losses, mistakes = losses_and_mistakes(jnp.array([[1e30, -1e30], [-1e30, 1e30]]), jnp.zeros(2, int))
    np.testing.assert_allclose(losses, [0, 2e30])
    assert mistakes.tolist() == [0, 1]


def test_errors_are_counts_over_their_number():
    """Of 100 samples 60, 59, 54, 49, 48 are mistaken: 59 lies 2 above the chord."""
    wrong = {0.0: 60, 0.25: 59, 0.5: 54, 0.75: 49, 1.0: 48}

    def apply(variables, x):
        among = jnp.interp(variables["t"], jnp.array([*wrong]), jnp.array([*wrong.values()], jnp.float32))
        mistaken = x[:, 0] < jnp.round(among)
        return jnp.stack([jnp.where(mistaken, 0.0, 1.0), jnp.where(mistaken, 1.0, 0.0)], 1)

    x, y = np.arange(100, dtype=np.float32)[:, None], np.zeros(100, np.int32)
    batches = [(x[:30], y[:30]), (x[30:], y[30:])]
    found = evaluate_path(apply, {"t": jnp.float32(0)}, {"t": jnp.float32(1)}, batches, num_alphas=5)
    assert found["error"] == [0.6, 0.59, 0.54, 0.49, 0.48]
    assert found["error_barrier"] == pytest.approx(0.02, abs=1e-12)
    assert found["examples"] == 100


def test_a_barriers_uncertainty_is_that_of_paired_differences():
    """Of the excess over the chord, sample by sample, in float64."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 5)).astype(np.float32), rng.integers(0, 3, 300).astype(np.int32)
    a, b = (rng.standard_normal((5, 3)).astype(np.float32) for _ in range(2))
    found = evaluate_path(lambda w, x: x @ w, a, b, [(x[:128], y[:128]), (x[128:], y[128:])], num_alphas=3)

    def per_sample(w):
        z = np.float64(x) @ w
        losses = np.log(np.exp(z).sum(-1)) - z[np.arange(300), y]
        return losses, np.float64(z.argmax(-1) != y)

    for name, of_a, of_theta, of_b in zip(
        ("loss", "error"), *(per_sample(float64.between(a, b, alpha)) for alpha in (0, 0.5, 1)), strict=True
    ):
        excess = of_theta - (of_a + of_b) / 2
        std = found[f"{name}_excess_std"]
        assert std[0] == std[2] == 0
        assert std[1] == pytest.approx(excess.std(), rel=1e-5)


@pytest.mark.parametrize("height", [0.0, 1e-4, 2.0])
def test_a_planted_bump_over_a_slanted_chord_is_the_barrier(height):
    x = np.asarray(GRID)
    curve = 0.3 + 0.5 * x + height * 4 * x * (1 - x)
    assert barrier(GRID, curve) == pytest.approx(height, abs=1e-12)
    assert midpoint_gap(GRID, curve) == pytest.approx(height, abs=1e-12)


def test_a_bump_off_the_middle_is_seen_by_the_barrier_and_not_by_the_gap():
    curve = np.where(np.asarray(GRID) == 0.25, 1.0, 0.0)
    assert (barrier(GRID, curve), midpoint_gap(GRID, curve)) == (1.0, 0.0)


def test_a_path_below_its_chord_has_no_barrier_and_a_negative_gap():
    x = np.asarray(GRID)
    assert barrier(GRID, x**2) == 0
    assert midpoint_gap(GRID, x**2) == pytest.approx(-0.25)


@given(st.lists(st.floats(0, 1e3), min_size=25, max_size=25))
def test_a_barrier_is_never_negative_and_bounds_the_gap(values):
    assert barrier(GRID, values) >= 0
    assert barrier(GRID, values) >= midpoint_gap(GRID, values) - 1e-9


@given(st.lists(st.floats(0, 1e3), min_size=25, max_size=25), st.floats(-10, 10), st.floats(-10, 10))
def test_a_barrier_ignores_what_is_linear_in_alpha(values, slope, offset):
    moved = np.asarray(values) + slope * np.asarray(GRID) + offset
    assert barrier(GRID, moved) == pytest.approx(barrier(GRID, values), abs=1e-9)
