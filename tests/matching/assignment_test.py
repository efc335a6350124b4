import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from llfc_jax.errors import UserError
from llfc_jax.matching.assignment import IMPLEMENTATIONS, linear_assignment

EACH = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def value(similarity, permutation):
    permutation = np.asarray(permutation)
    return np.asarray(similarity, np.float64)[np.arange(permutation.size), permutation].sum()


def assert_permutation(permutation, size):
    assert permutation.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(permutation), np.arange(size))


def normal(*shape):
    return jax.device_put(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


@EACH
@pytest.mark.parametrize("size", [0, 1, 2, 7, 60])
def test_the_value_is_scipys_optimum_in_float64(implementation, size):
    similarity = normal(size, size)
    permutation = linear_assignment(similarity, implementation=implementation)
    assert_permutation(permutation, size)
    best = linear_sum_assignment(np.asarray(similarity, np.float64), maximize=True)[1]
    np.testing.assert_allclose(value(similarity, permutation), value(similarity, best), rtol=1e-6)


@EACH
def test_a_planted_permutation_is_found(implementation):
    planted = jax.random.permutation(jax.random.key(0), 50)
    similarity = jnp.eye(50)[planted] + 0.01 * normal(50, 50)
    np.testing.assert_array_equal(linear_assignment(similarity, implementation=implementation), planted)


@EACH
def test_jit_and_vmap_give_what_single_calls_give(implementation):
    solve = lambda similarity: linear_assignment(similarity, implementation=implementation)  # noqa: E731
    batch = normal(2, 3, 9, 9)
    each = np.stack([[solve(similarity) for similarity in row] for row in batch])
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(solve)))(batch), each)
    np.testing.assert_array_equal(jax.lax.map(jax.jit(solve), batch[0]), each[0])


@EACH
@pytest.mark.parametrize("ties", ["constant", "two equal rows", "integers"])
def test_ties_give_the_same_optimal_permutation_every_time(implementation, ties):
    similarity = {
        "constant": jnp.full((20, 20), -3.0),
        "two equal rows": normal(20, 20).at[3].set(normal(20, 20)[7]),
        "integers": jnp.round(normal(20, 20)),
    }[ties]
    first, second = (linear_assignment(similarity, implementation=implementation) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert_permutation(first, 20)
    best = linear_sum_assignment(np.asarray(similarity, np.float64), maximize=True)[1]
    np.testing.assert_allclose(value(similarity, first), value(similarity, best), rtol=1e-6)


@EACH
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales_change_nothing(implementation, scale):
    similarity = normal(12, 12)
    np.testing.assert_array_equal(
        linear_assignment(similarity * scale, implementation=implementation),
        linear_assignment(similarity, implementation=implementation),
    )


@EACH
@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf])
def test_under_jit_nan_and_minus_infinity_are_avoided(implementation, bad):
    similarity = jnp.where(jnp.eye(6, k=1) + jnp.eye(6, k=-5) > 0, normal(6, 6), bad)
    solve = jax.jit(lambda x: linear_assignment(x, implementation=implementation))
    np.testing.assert_array_equal(solve(similarity), (np.arange(6) + 1) % 6)


@EACH
def test_under_jit_plus_infinity_is_sought(implementation):
    similarity = normal(6, 6).at[2, 4].set(jnp.inf)
    assert jax.jit(lambda x: linear_assignment(x, implementation=implementation))(similarity)[2] == 4


@EACH
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_under_jit_a_matrix_with_nothing_finite_still_gives_a_permutation(implementation, bad):
    solve = jax.jit(lambda x: linear_assignment(x, implementation=implementation))
    assert_permutation(solve(jnp.full((5, 5), bad)), 5)


@pytest.mark.parametrize(
    ("similarity", "implementation", "message"),
    [
        (np.array([[0.0, np.nan], [1.0, 2.0]]), "auto", "finite"),
        (np.zeros((2, 3)), "auto", r"square matrix, found shape \(2, 3\)"),
        (np.zeros(4), "auto", "square matrix"),
        (np.zeros((2, 2)), "greedy", "auto, optax, scipy, found 'greedy'"),
    ],
)
def test_bad_input_is_named(similarity, implementation, message):
    with pytest.raises(UserError, match=message):
        linear_assignment(similarity, implementation=implementation)
