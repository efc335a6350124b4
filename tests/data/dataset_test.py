"""Subsets and fingerprints."""

import numpy as np
import pytest

from llfc_jax.data import Split, subset
from llfc_jax.data.dataset import fingerprint
from llfc_jax.errors import UserError

SPLIT = Split(np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1), np.arange(10, dtype=np.int32))


def test_a_subset_keeps_images_with_their_labels_and_repeats_none() -> None:
    part = subset(SPLIT, 6, seed=3)
    assert len(set(part.labels.tolist())) == 6
    np.testing.assert_array_equal(part.images, SPLIT.images[part.labels])


def test_subsets_of_one_seed_are_nested_and_fixed() -> None:
    small, large = subset(SPLIT, 4, seed=5), subset(SPLIT, 8, seed=5)
    np.testing.assert_array_equal(small.labels, large.labels[:4])
    assert any((subset(SPLIT, 8, seed=seed).labels != large.labels).any() for seed in range(3))


def test_zero_stands_for_the_whole_split() -> None:
    assert subset(SPLIT, 0, seed=0) is SPLIT


@pytest.mark.parametrize("n", [-1, 11])
def test_a_subset_that_is_impossible_is_refused(n: int) -> None:
    with pytest.raises(UserError, match=rf"^measure\.train_subset={n}: expected 0 \(all\) to 10, "):
        subset(SPLIT, n, seed=0, field="measure.train_subset")


def test_a_fingerprint_sees_pixels_labels_order_and_shape() -> None:
    images, labels = SPLIT
    pixel = images.copy()
    pixel[3, 0, 0, 0] += 1
    variants = [
        SPLIT,
        Split(pixel, labels),
        Split(images, labels[::-1]),
        Split(images[::-1], labels),
        Split(images.reshape(10, 4, 1, 1), labels),
        Split(images[:9], labels[:9]),
    ]
    assert len({fingerprint(variant) for variant in variants}) == len(variants)
    assert fingerprint(SPLIT) == fingerprint(Split(images.copy(), labels.copy()))
