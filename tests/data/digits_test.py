"""The bundled digits."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.datasets import load_digits

from llfc_jax.data import load
from llfc_jax.errors import UserError


def _config(train: str = "train", test: str = "test") -> ConfigDict:
    return ConfigDict({"name": "digits", "data_dir": "", "train_split": train, "test_split": test})


def _sorted_rows(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.column_stack([images.reshape(len(images), -1), labels])
    return rows[np.lexsort(rows.T)]


def test_train_and_test_partition_the_digits() -> None:
    data = load(_config())
    bunch = load_digits()
    images = np.concatenate([data.train.images, data.test.images])
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert (len(data.train.labels), len(data.test.labels)) == (1437, 360)
    assert (images.dtype, labels.dtype, images.shape[1:]) == (np.uint8, np.int32, (8, 8, 1))
    np.testing.assert_array_equal(
        _sorted_rows(np.rint(images / 255 * 16), labels), _sorted_rows(bunch.images, bunch.target)
    )
    assert (images.min(), images.max()) == (0, 255)


def test_the_split_is_stratified_and_in_random_order() -> None:
    data = load(_config())
    train, test = (np.bincount(split.labels, minlength=10) for split in (data.train, data.test))
    assert np.abs(test - (train + test) / 5).max() < 1
    # A slice is a fair sample of the classes.
    assert np.bincount(load(_config("train[:500]")).train.labels, minlength=10).min() >= 35


def test_the_split_is_the_same_everywhere() -> None:
    expected = "83a73e5e45b52f7c"
    assert load(_config()).fingerprint.startswith(expected), (
        "a change here changes every published number on digits"
    )


def test_constants_are_those_of_the_training_split() -> None:
    data = load(_config())
    np.testing.assert_allclose(data.mean, (data.train.images / 255).mean(), rtol=1e-12)
    np.testing.assert_allclose(data.std, (data.train.images / 255).std(), rtol=1e-12)
    assert (data.name, data.num_classes) == ("digits", 10)


def test_split_expressions_slice_the_digits() -> None:
    whole, part = load(_config()), load(_config("train[:500]", "test[50%:]+train[-10:]"))
    np.testing.assert_array_equal(part.train.images, whole.train.images[:500])
    np.testing.assert_array_equal(
        part.test.labels, np.concatenate([whole.test.labels[180:], whole.train.labels[-10:]])
    )
    assert part.fingerprint != whole.fingerprint


def test_an_unknown_split_is_one_line_with_the_choices() -> None:
    with pytest.raises(
        UserError, match=r"^data\.test_split='validation': no split 'validation'; expected train, test"
    ):
        load(_config(test="validation"))
