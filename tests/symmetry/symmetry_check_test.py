"""The equivalence check: what it measures and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.symmetry import check_deterministic, check_equivalence


def linear(w, x):
    return x @ w


X = np.eye(3, dtype=np.float32)
W = jax.device_put(np.float32([[1.0, -4.0], [2.0, 0.5], [0.0, 3.0]]))


def test_error_is_relative_to_the_largest_output():
    assert check_equivalence(linear, W, W, X) == 0.0
    assert check_equivalence(linear, W, W.at[0, 0].add(1.0), X) == pytest.approx(0.25)


def test_error_is_the_worst_of_all_outputs():
    def two(w, x):
        return {"large": 100 * w, "small": w[2:] * x}

    changed = W.at[2, 0].add(0.3)
    assert check_equivalence(two, W, changed, 1.0) == pytest.approx(0.1)


def test_a_nan_counts_as_an_infinite_error():
    assert check_equivalence(linear, W, W.at[0, 0].set(jnp.nan), X) == np.inf
    assert check_equivalence(linear, W.at[0, 0].set(jnp.nan), W, X) == np.inf


def test_equal_infinities_agree():
    masked = W.at[0, 0].set(-jnp.inf)
    assert check_equivalence(lambda w, x: w, masked, masked, X) == 0.0


def test_vanishing_outputs_agree():
    assert check_equivalence(linear, 0 * W, 0 * W, X) == 0.0


def test_the_imaginary_part_of_an_output_counts():
    rotated = check_equivalence(lambda s, x: x * jnp.exp(1j * s), 0.0, jnp.pi / 2, X)
    assert rotated == pytest.approx(np.sqrt(2), rel=1e-6)


def test_no_outputs_are_no_agreement():
    with pytest.raises(UserError, match=r"^apply: expected outputs to compare; found none"):
        check_equivalence(linear, W, W, X[:0])
    with pytest.raises(UserError, match=r"^apply: expected outputs to compare; found none"):
        check_equivalence(lambda w, x: {}, W, W, X)


def test_outputs_of_different_form_are_refused():
    with pytest.raises(
        UserError, match=r"^apply: expected outputs of one shape; found \(3, 2\) and \(3, 1\)"
    ):
        check_equivalence(linear, W, W[:, :1], X)
    with pytest.raises(UserError, match=r"^apply: expected outputs of one structure; found"):
        check_equivalence(lambda w, x: [x] * len(w), W, W[:2], X)


def test_a_non_deterministic_apply_is_refused():
    calls = itertools.count()

    def drifting(w, x):
        return x @ w + next(calls)

    with pytest.raises(UserError, match=r"^apply is not deterministic: two runs .* differ by 2\.5e-01"):
        check_deterministic(drifting, W + 1, X)
    with pytest.raises(UserError, match="not deterministic"):
        check_equivalence(drifting, W, W, X)
