import numpy as np
import pytest

from llfc_jax.measures.quantiles import BINS, PER_DECADE, add_counts, quantile

WITHIN = 10 ** (1 / PER_DECADE) - 1


def counts_of(values, batch_size=100):
    counts = np.zeros(BINS)
    for start in range(0, len(values), batch_size):
        batch = values[start : start + batch_size]
        counts = add_counts(counts, batch, np.ones(len(batch), bool))
    return counts


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_agrees_with_numpy_to_within_a_bin_over_many_decades(fraction, spread):
    values = np.exp(np.random.default_rng(0).normal(-10, spread, 999))
    expected = np.quantile(values, fraction, method="inverted_cdf")
    assert quantile(counts_of(values), fraction) == pytest.approx(expected, rel=WITHIN)


def test_padding_does_not_count():
    counts = add_counts(0, np.array([1e-3, 1.0]), np.array([True, False]))
    assert counts.sum() == 1
    assert quantile(counts, 0.75) == pytest.approx(1e-3, rel=WITHIN)


def test_zeros_are_zeros_and_nothing_has_no_quantile():
    assert quantile(counts_of(np.array([0, 0, 0, 1.0])), 0.5) == 0
    assert np.isnan(quantile(counts_of(np.array([])), 0.5))


def test_what_lies_beyond_the_bins_counts_in_the_outermost():
    assert quantile(counts_of(np.full(3, 1e6)), 0.5) > 9
    assert quantile(counts_of(np.full(3, 1e-20)), 0.5) == 0
