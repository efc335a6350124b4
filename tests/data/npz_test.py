"""Images and labels of one's own."""

import re
import zipfile

import numpy as np
import pytest
from ml_collections import ConfigDict

from llfc_jax import data
from llfc_jax.data import npz_source
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
    found = load(tmp_path / "x.npz", arrays, train_split="train[:-2]", test_split="test[:50%]+train[-2:]")
    np.testing.assert_array_equal(found.train.images, IMAGE[:-2])
    np.testing.assert_array_equal(found.test.images, np.concatenate([IMAGE[:4], IMAGE[-2:]]))
    np.testing.assert_array_equal(found.test.labels, np.concatenate([LABEL[:4], LABEL[-2:]]))
    assert (found.num_classes, found.train.labels.dtype) == (7, np.int32)
    np.testing.assert_allclose(found.mean, (IMAGE[:-2] / 255).mean((0, 1, 2)))


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


BAD |= {
    "bytes and floats": (
        {"train_image": IMAGE, "train_label": LABEL, "test_image": IMAGE / 255, "test_label": LABEL},
        {},
        "expected train_image and test_image of one type, .*; found uint8 and float64",
    ),
    "labels that 32 bits would make others of": (
        {"image": IMAGE, "label": 2**32 + LABEL},
        {},
        "label: expected labels from 0, of 32 bits; found 4294967296 to 4294967302",
    ),
    "labels beyond 63 bits": (
        {"image": IMAGE, "label": np.uint64(2**63) + LABEL.astype(np.uint64)},
        {},
        "label: expected labels from 0, of 32 bits; found 9223372036854775808 to .*",
    ),
    "a label of a hundred million": (
        {"image": IMAGE, "label": LABEL * 10**8 // 6},
        {},
        "expected 1 to 1,000,000 classes; the largest label makes 100,000,001",
    ),
    "no classes": (
        {"image": IMAGE, "label": LABEL, "num_classes": 0},
        {},
        "expected 1 to 1,000,000 classes; num_classes says 0",
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


def rewritten(path, arrays, **members):
    """An `.npz` with some members replaced, or added, as bytes."""
    np.savez(path, **{name: array for name, array in arrays.items() if f"{name}.npy" not in members})
    with zipfile.ZipFile(path, "a") as file:
        for name, content in members.items():
            file.writestr(name, content)
    fields = {"name": str(path), "data_dir": "", "train_split": "train", "test_split": "test"}
    return data.load(ConfigDict({**fields, "mean": None, "std": None}))


@pytest.mark.parametrize("member", ["image", "num_classes"])
def test_a_member_of_our_name_that_is_no_array_is_one_line(member, tmp_path):
    arrays = {"image": IMAGE, "label": LABEL, "num_classes": 7}
    with pytest.raises(UserError, match=rf"^data.name='.*x.npz': {member}: expected an array; found .*"):
        rewritten(tmp_path / "x.npz", arrays, **{f"{member}.npy": b"some text"})


def test_what_else_lies_in_the_file_is_left_alone(tmp_path):
    arrays = {"image": IMAGE, "label": LABEL}
    found = rewritten(tmp_path / "x.npz", arrays, **{"README.txt": b"text", "notes.npy": b"no array"})
    np.testing.assert_array_equal(found.train.images, IMAGE)


def test_a_file_that_unpacks_to_more_than_there_is_memory_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_source, "host_memory_bytes", lambda: 2 * IMAGE.nbytes)
    with pytest.raises(
        UserError, match=r"^data.name='.*' doesn't fit into memory: it unpacks to \S+ bytes, more "
    ):
        load(tmp_path / "x.npz", {"image": IMAGE, "label": LABEL})


@pytest.mark.parametrize(
    ("train", "test", "twice"),
    [
        ("train", "train", "train[0:30]"),
        ("train", "test+train[-2:]", "train[28:30]"),
        ("train[:20]+train[10:]", "test", "train[10:20]"),
    ],
)
def test_what_is_trained_on_is_not_tested_on(train, test, twice, tmp_path):
    arrays = {"train_image": IMAGE, "train_label": LABEL, "test_image": IMAGE, "test_label": LABEL}
    said = f"data.train_split={train!r} and data.test_split={test!r}: expected splits without overlap"
    with pytest.raises(UserError, match=f"^{re.escape(f'{said}; found {twice} twice')}$"):
        load(tmp_path / "x.npz", arrays, train_split=train, test_split=test)


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
