import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llfc_jax.errors import UserError
from llfc_jax.path.interpolation import alpha_grid, check_same_structure, lerp


def trees(seed):
    keys = jax.random.split(jax.random.key(seed), 2)
    return {"dense": {"kernel": jax.random.normal(keys[0], (3, 4)), "bias": jax.random.normal(keys[1], (4,))}}


@pytest.mark.parametrize(("alpha", "end"), [(0.0, 0), (1.0, 1)])
def test_ends_are_returned_bit_for_bit(alpha, end):
    a, b = trees(0), trees(1)
    jax.tree.map(np.testing.assert_array_equal, lerp(a, b, alpha), (a, b)[end])


def test_interpolates_like_float64_numpy():
    a, b = trees(0), trees(1)
    expected = jax.tree.map(lambda x, y: 0.7 * np.float64(x) + 0.3 * np.float64(y), a, b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7), lerp(a, b, 0.3), expected
    )


def test_vmap_over_alphas_agrees_with_one_at_a_time():
    a, b, alphas = trees(0), trees(1), jnp.linspace(0, 1, 5)
    at_once = jax.vmap(lambda alpha: lerp(a, b, alpha))(alphas)
    for index, alpha in enumerate(alphas):
        jax.tree.map(
            lambda x, y, i=index: np.testing.assert_allclose(x[i], y, rtol=1e-6), at_once, lerp(a, b, alpha)
        )


def test_keeps_the_type_of_the_leaves():
    leaf = jnp.ones(3, jnp.bfloat16)
    assert jax.jit(lerp)({"w": leaf}, {"w": leaf}, 0.5)["w"].dtype == jnp.bfloat16


def test_numbers_of_python_are_interpolated_if_they_are_floats():
    found = lerp(
        {"temperature": 1.0, "step": 3, "w": np.zeros(2)},
        {"temperature": 2.0, "step": 5, "w": np.ones(2)},
        0.25,
    )
    assert found["temperature"] == 1.25
    assert found["step"] == 3
    np.testing.assert_array_equal(found["w"], [0.25, 0.25])


@pytest.mark.parametrize("shape", [(1, 4), (4,), (1,), ()])
def test_nothing_is_broadcast(shape):
    with pytest.raises(UserError, match=r"differ at w: found \(3, 4\) and "):
        lerp({"w": jnp.ones((3, 4))}, {"w": jnp.ones(shape)}, 0.5)


@pytest.mark.parametrize("alpha", [-1.0, 2.0])
def test_the_line_goes_on_beyond_its_ends(alpha):
    a, b = trees(0), trees(1)
    expected = jax.tree.map(lambda x, y: np.float64(x) + alpha * (np.float64(y) - np.float64(x)), a, b)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), lerp(a, b, alpha), expected
    )


@given(st.integers(2, 60))
def test_grid_is_sorted_and_contains_ends_middle_and_equal_steps(size):
    grid = alpha_grid(size)
    assert list(grid) == sorted(set(grid))
    for alpha in (0.0, 0.5, 1.0, *np.arange(size) / (size - 1)):
        assert min(abs(alpha - point) for point in grid) < 1e-12


def test_tenths_are_the_floats_that_people_write():
    assert {0.1, 0.3, 0.7, 0.9} <= set(alpha_grid(11))


def test_the_papers_grid_has_25_points_with_the_quarters():
    grid = alpha_grid(25)
    assert len(grid) == 25
    assert {0.0, 0.25, 0.5, 0.75, 1.0} <= set(grid)


def test_different_architectures_are_told_by_the_first_parameter_and_both_shapes():
    a, b = trees(0), trees(1)
    check_same_structure(a, b)
    b["dense"]["kernel"] = jnp.zeros((3, 5))
    with pytest.raises(UserError, match=r"differ at dense/kernel: found \(3, 4\) and \(3, 5\)"):
        check_same_structure(a, b)
    del b["dense"]["kernel"]
    with pytest.raises(UserError, match=r"found \(3, 4\) and nothing"):
        check_same_structure(a, b)
