import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
