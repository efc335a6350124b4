"""Images and labels of one's own."""

import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from llfc_jax import data
from llfc_jax.errors import UserError

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.integers(0, 256, (30, 4, 5, 3), dtype=np.uint8)
LABEL = np.arange(30) % 7


def load(path, arrays, **changes):
    np.savez(path, **arrays)
    fields = {"name": str(path), "data_dir": "", "train_split": "train", "test_split": "test"}
    return data.load(ConfigDict({**fields, "mean": None, "std": None, **changes}))


def test_train_and_test_are_what_the_file_says(tmp_path):
    arrays = {"train_image": IMAGE, "train_label": LABEL, "test_image": IMAGE[:9], "test_label": LABEL[:9]}
    found = load(tmp_path / "x.npz", arrays, test_split="test[:50%]+train[-2:]")
    np.testing.assert_array_equal(found.train.images, IMAGE)
    np.testing.assert_array_equal(found.test.images, np.concatenate([IMAGE[:4], IMAGE[-2:]]))
    np.testing.assert_array_equal(found.test.labels, np.concatenate([LABEL[:4], LABEL[-2:]]))
    assert (found.num_classes, found.train.labels.dtype) == (7, np.int32)
    np.testing.assert_allclose(found.mean, (IMAGE / 255).mean((0, 1, 2)))


def test_one_set_serves_as_both_and_says_so(tmp_path, capsys):
    found = load(tmp_path / "x.npz", {"image": IMAGE, "label": LABEL})
    for split in (found.train, found.test):
        np.testing.assert_array_equal(split.images, IMAGE)
    said = "".join(capsys.readouterr().err.split())
    assert said.endswith("onesetofimagesservesasbothsplits,trainandtest")


def test_classes_that_have_no_example_can_be_told(tmp_path):
    assert load(tmp_path / "x.npz", {"image": IMAGE, "label": LABEL, "num_classes": 10}).num_classes == 10


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are(dtype, tmp_path):
    image = GENERATOR.normal(3, 2, (30, 4, 5)).astype(dtype)
    found = load(tmp_path / "x.npz", {"image": image, "label": LABEL}, mean=(0.0,), std=(1.0,))
    assert (found.train.images.shape, found.train.images.dtype) == ((30, 4, 5, 1), np.float32)
    inputs = data.normalise(found.train.images, found.mean, found.std)
    np.testing.assert_array_equal(inputs[..., 0], image.astype(np.float32))
    standard = load(tmp_path / "x.npz", {"image": image, "label": LABEL})
    inputs = np.asarray(data.normalise(standard.train.images, standard.mean, standard.std), np.float64)
    np.testing.assert_allclose((inputs.mean(), inputs.std()), (0, 1), atol=1e-6)


def test_floats_and_bytes_of_the_same_images_are_the_same_inputs(tmp_path):
    constants = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    inputs = [
        data.normalise(found.test.images, found.mean, found.std)
        for image in (IMAGE, IMAGE / 255)
        for found in [load(tmp_path / "x.npz", {"image": image, "label": LABEL}, **constants)]
    ]
    np.testing.assert_allclose(*inputs, rtol=1e-6, atol=1e-6)


def test_constants_of_ones_own_replace_those_of_the_data():
    fields = {"name": "digits", "data_dir": "", "train_split": "train", "test_split": "test"}
    found = data.load(ConfigDict({**fields, "mean": (0.25,), "std": (0.5,)}))
    assert (found.mean, found.std) == ((0.25,), (0.5,))


BAD = {
    "no labels": ({"image": IMAGE}, {}, "expected an array 'label'; found image"),
    "half of it": (
        {"train_image": IMAGE, "train_label": LABEL},
        {},
        "expected train_image, train_label, test_image and test_label, or image and label; found .*",
    ),
    "other names": ({"x": IMAGE}, {}, "expected train_image, .* or image and label; found x"),
    "too few labels": (
        {"image": IMAGE, "label": LABEL[:-1]},
        {},
        r"label: expected 30 integers, one per image; found int64 of shape \(29,\)",
    ),
    "labels that are no integers": (
        {"image": IMAGE, "label": LABEL / 2},
        {},
        r"label: expected 30 integers, one per image; found float64 of shape \(30,\)",
    ),
    "integers that are no bytes": (
        {"image": IMAGE.astype(np.int32), "label": LABEL},
        {},
        "image: expected uint8 or floating point; found int32",
    ),
    "flat images": (
        {"image": IMAGE.reshape(30, -1), "label": LABEL},
        {},
        r"image: expected \(n, height, width\) or \(n, height, width, channels\); found \(30, 60\)",
    ),
    "channels first": (
        {"image": IMAGE.transpose(0, 3, 1, 2), "label": LABEL},
        {},
        r"image: expected .*; found \(30, 3, 4, 5\)",
    ),
    "NaN": ({"image": np.full((30, 2, 2), np.nan), "label": LABEL}, {}, "image: expected finite numbers; .*"),
    "images of two sizes": (
        {"train_image": IMAGE, "train_label": LABEL, "test_image": IMAGE[:, :2], "test_label": LABEL},
        {},
        r"expected images of one size; found \(4, 5, 3\) and \(2, 5, 3\)",
    ),
    "classes that are no number": (
        {"image": IMAGE, "label": LABEL, "num_classes": np.zeros(3)},
        {},
        "num_classes: expected an integer; found float64 .*",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_arrays_that_are_not_as_they_should_be_are_one_line(bad, tmp_path):
    arrays, changes, line = BAD[bad]
    where = re.escape(f"data.name='{tmp_path}/x.npz'")
    with pytest.raises(UserError, match=f"^{where}: {line}$"):
        load(tmp_path / "x.npz", arrays, **changes)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"mean": (0.5,), "std": (0.5,) * 3},
            r"^data.mean: expected 3 numbers, one per channel; found \(0.5,\)$",
        ),
        (
            {"mean": (0.5,) * 3, "std": (1, 0, 1)},
            r"^data.std: expected 3 positive numbers, .* found \(1, 0, 1\)$",
        ),
        ({"test_split": "val"}, "^data.test_split='val': no split 'val'; expected train, test"),
    ],
)
def test_fields_that_do_not_fit_the_file_are_one_line(changes, line, tmp_path):
    with pytest.raises(UserError, match=line):
        load(tmp_path / "x.npz", {"image": IMAGE, "label": LABEL}, **changes)


def test_labels_below_zero_or_beyond_the_classes_are_one_line(tmp_path):
    for label, extra in ((LABEL - 1, {}), (LABEL, {"num_classes": 5})):
        with pytest.raises(
            UserError, match=r"data.train_split='train': expected labels 0 to \d, found -?\d to \d"
        ):
            load(tmp_path / "x.npz", {"image": IMAGE, "label": label, **extra})


def test_a_missing_or_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "x.npz"
    load(path, {"image": IMAGE, "label": LABEL})
    path.write_bytes(path.read_bytes()[:300])
    fields = {"name": str(path), "data_dir": "", "train_split": "train", "test_split": "test"}
    with pytest.raises(UserError, match=r"is damaged, or no .npz file of plain arrays"):
        data.load(ConfigDict(fields))
    with pytest.raises(UserError, match=r"none.npz': no such file$"):
        data.load(ConfigDict(fields | {"name": str(tmp_path / "none.npz")}))
