"""Splits that stay in their files: the same batches as in memory, whoever reads them; what can be wrong."""

import math
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import record_files
from ml_collections import ConfigDict
from PIL import Image

from llfc_jax.data import Split, load, subset
from llfc_jax.data.batches import batches, full_batches, read
from llfc_jax.data.dataset import Wanted
from llfc_jax.data.framing import Framing, frame, random_box
from llfc_jax.data.streamed import Streamed
from llfc_jax.errors import UserError

CLASSES = 5
FIELDS = {"train_split": "train", "test_split": "validation", "augment": False, "crop": "padded"}
FIELDS |= {"size": None, "resize": None, "memory": None, "workers": 0}
STREAMED = {"memory": 0.0}
CROPPED = {"augment": True, "crop": "resized", "size": 12, "resize": 14}


def splits_of(sizes, counts=(37, 10), seed=0):
    generator = np.random.default_rng(seed)
    return {
        split: record_files.examples(generator, n, sizes, CLASSES)
        for split, n in zip(("train", "validation"), counts, strict=True)
    }


def write_even(directory, place, splits):
    record_files.write(directory, place, splits, classes=CLASSES, shape=(8, 8, 3))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """`even/eight` of images of one size, `ragged` of several."""
    directory = tmp_path_factory.mktemp("sets")
    write_even(directory, "even/eight/1.0.0", splits_of((8, 9)))
    of_any_size = splits_of((15, 40))
    record_files.write(directory, "ragged/2.0.0", of_any_size, classes=CLASSES, kind="jpeg", named=True)
    return directory


def loaded(data_dir, name="even/eight", **fields):
    return load(ConfigDict(FIELDS | {"name": name, "data_dir": str(data_dir)} | fields))


def arrays(stream):
    return [tuple(map(np.asarray, batch)) for batch in stream]


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_streamed_set_has_the_batches_and_constants_of_one_in_memory(data_dir):
    kept, streamed = loaded(data_dir), loaded(data_dir, **STREAMED)
    assert (type(kept.train), type(streamed.train)) == (Split, Streamed)
    assert (kept.mean, kept.std) == (streamed.mean, streamed.std)
    for split in ("train", "test"):
        one, other = getattr(kept, split), getattr(streamed, split)
        assert_same(arrays(batches(other, 8)), arrays(batches(one, 8)))
        assert_same(arrays(full_batches(other, 4, 2)), arrays(full_batches(one, 4, 2)))
        assert_same(arrays(batches(subset(other, 9, 3), 4)), arrays(batches(subset(one, 9, 3), 4)))
        assert_same([other.hold()], [one])


def test_slices_across_files_are_in_their_order(data_dir):
    fields = {"train_split": "train[30:]+train[5:21]", "test_split": "validation[:50%]"}
    kept, streamed = loaded(data_dir, **fields), loaded(data_dir, **fields, **STREAMED)
    assert (streamed.train.size, streamed.test.size) == (23, 5)
    assert_same([streamed.train.hold()], [kept.train])
    whole = loaded(data_dir).train
    np.testing.assert_array_equal(kept.train.labels, np.r_[whole.labels[30:], whole.labels[5:21]])


def test_a_split_that_is_a_small_part_of_what_is_allowed_is_held(data_dir):
    gib = 40 * 8 * 8 * 3 / 2**30  # of 37 and 10 images
    found = loaded(data_dir, memory=gib)
    assert (type(found.train), type(found.test)) == (Streamed, Split)


def test_images_of_any_size_are_resized_and_their_centre_is_cut_out(data_dir):
    found = loaded(data_dir, "ragged", size=12, resize=14)
    _, labels = splits_of((15, 40))["train"]
    np.testing.assert_array_equal(found.train.labels, labels)
    ramp = np.broadcast_to(np.linspace(0, 254, 128, dtype=np.uint8)[None, :, None], (64, 128, 3))
    cut = np.asarray(frame(Image.fromarray(ramp), Framing(24, 32), None), np.float64)
    pixel = 254 / 127  # of the ramp; each of the crop spans two of them, from the 20th of 64 on
    np.testing.assert_allclose(cut[0, :, 0], (2 * (20 + np.arange(24)) + 0.5) * pixel, atol=1)
    same = Image.fromarray(ramp[:, :64])
    np.testing.assert_array_equal(frame(same, Framing(64, 64), None), ramp[:, :64])


def test_random_crops_are_of_the_areas_and_shapes_they_should_be():
    generator = np.random.default_rng(0)
    boxes = np.array([random_box(generator, 400, 400) for _ in range(2000)])
    assert (boxes >= 0).all()
    assert (boxes <= 400).all()
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    area, ratio = width * height / 400**2, np.log(width / height)
    assert 0.078 < area.min() < 0.09
    assert 0.95 < area.max() <= 1
    assert abs(ratio).max() < math.log(4 / 3) + 0.02
    assert abs(np.median(ratio)) < 0.03
    assert random_box(generator, 1000, 10)[2] - random_box(generator, 1000, 10)[0] <= 14


def test_half_of_the_crops_are_mirrored():
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    image, framing = Image.fromarray(ramp), Framing(8, 8, is_random=True)
    cuts = [np.asarray(frame(image, framing, np.random.default_rng(seed))) for seed in range(400)]
    assert 160 < sum(cut[0, 0, 0] > cut[0, -1, 0] for cut in cuts) < 240


def test_crops_are_drawn_by_the_seed_and_the_place_in_the_batch(data_dir):
    train = loaded(data_dir, "ragged", **CROPPED).train
    index, rows = np.array([3, 30, 3, 7]), np.arange(4)
    whole = next(train.read([Wanted(index, rows, (0, 1))]))[0]
    again, other = (next(train.read([Wanted(index, rows, (0, seed))]))[0] for seed in (1, 2))
    np.testing.assert_array_equal(again, whole)
    assert (other != whole).any((1, 2, 3)).all()
    assert (whole[0] != whole[2]).any()  # one image at two places
    part = next(train.read([Wanted(index[2:], rows[2:], (0, 1))]))[0]  # as another process would
    np.testing.assert_array_equal(part, whole[2:])
    plain = next(train.read([Wanted(index, rows)]))[0]
    np.testing.assert_array_equal(plain[0], plain[2])


def test_workers_read_the_same_and_one_that_dies_is_one_line(data_dir):
    index = [np.arange(start, start + 4) for start in range(8)] * 20
    seeds = [(0, step) for step in range(len(index))]
    alone, helped = (loaded(data_dir, "ragged", **CROPPED, workers=n).train for n in (0, 1))
    expected, stream = read(alone, index[:3], seeds[:3]), read(helped, index, seeds)
    assert_same(arrays(next(stream) for _ in range(3)), arrays(expected))
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(UserError, match=r"^config.data.workers: one of 1 has ended .*exit code -9"):
        list(stream)


def test_a_fingerprint_is_of_the_files_and_of_records(data_dir, tmp_path):
    fields = {"name": "even/eight", **STREAMED}
    found = loaded(data_dir, **fields).fingerprint
    assert loaded(data_dir, **fields).fingerprint == found
    others = [loaded(data_dir, **fields, train_split="train[1:]").fingerprint]
    others.append(loaded(data_dir, **fields, size=6).fingerprint)
    write_even(tmp_path, "even/eight/1.0.0", splits_of((8, 9), seed=1))
    others.append(loaded(tmp_path, **fields).fingerprint)
    assert len({found, *others}) == 4


def test_files_are_known_again_whatever_part_of_them_is_held(data_dir):
    sets = [loaded(data_dir, "even/eight", memory=gib) for gib in (0, 1e-6, 1)]
    assert {isinstance(one.train, Split) for one in sets} == {False, True}
    assert len({one.of_files for one in sets}) == 1
    other = loaded(data_dir, "even/eight", memory=1, train_split="train[1:]")
    assert other.of_files != sets[0].of_files


# What can be wrong.


def complaint(data_dir, name="even/eight", **fields):
    def read_all():
        return list(batches(loaded(data_dir, name, **STREAMED | fields).train, 8))

    with pytest.raises(UserError) as caught:
        read_all()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_cut_off_is_found_before_anything_is_trained(data_dir, tmp_path):
    write_even(tmp_path, "even/1.0.0", splits_of((8, 9)))
    file = sorted(tmp_path.rglob("*train*"))[1]
    file.write_bytes(file.read_bytes()[:-100])
    said = complaint(tmp_path, "even")
    assert said.startswith(f"data.data_dir: {file.name} can't be read: expected 18 records, found none (")


@pytest.mark.parametrize(
    "name", ["features.json", "dataset_info.json", "even-train.array_record-00001-of-00002"]
)
def test_what_is_no_regular_file_is_not_waited_for(name, tmp_path):
    write_even(tmp_path, "even/1.0.0", splits_of((8, 9)))
    file = tmp_path / "even/1.0.0" / name
    file.unlink()
    file.symlink_to(os.devnull)  # in place of a pipe, for which a test that fails would wait
    assert "(no regular file)" in complaint(tmp_path, "even")


@pytest.mark.parametrize("name", ["", "1.0.0", "1.0.0/even-train.array_record-00001-of-00002"])
def test_files_that_may_not_be_read_are_neither_damaged_nor_absent(name, tmp_path, monkeypatch):
    write_even(tmp_path, "even/1.0.0", splits_of((8, 9)))
    taken, access = tmp_path / "even" / name, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != taken and access(path, mode))
    assert complaint(tmp_path, "even") == f"data.data_dir: {taken} can't be read: permission denied"


BLACK = np.zeros((8, 8, 3), np.uint8)
DEEP = record_files.encoded(np.zeros((8, 8), np.uint16), "png")


@pytest.mark.parametrize(
    ("image", "label", "reason"),
    [
        (b"no image", 0, "can't be decoded (expected a PNG or JPEG file, found 8 other bytes)"),
        (DEEP, 0, "can't be decoded (expected 8 bits a channel, found an image of mode I;16)"),
        (np.zeros((9, 8, 3), np.uint8), 0, "can't be decoded (expected images of 8×8 pixels, found 8×9)"),
        (BLACK, 5, "expected a label from 0 to 4, found 5"),
        (BLACK, 2**40, "expected a label from 0 to 4, found 1099511627776"),
        (BLACK, [], "can't be decoded (expected one label, found none)"),
        (BLACK, [1, 2], "can't be decoded (expected one label, found 2)"),
    ],
)
def test_a_record_that_is_bad_is_named(image, label, reason, tmp_path):
    splits = splits_of((8, 9))
    images, labels = (list(part) for part in splits["train"])
    images[25], labels[25] = image, label
    splits["train"] = images, labels
    write_even(tmp_path, "even/1.0.0", splits)
    said = complaint(tmp_path, "even", mean=(0.5,) * 3, std=(1.0,) * 3)
    assert "record 6 of even-train.array_record-00001-of-00002" in said
    assert reason in said


@pytest.mark.parametrize(
    ("classes", "channels", "reason"),
    [(0, 3, "expected a class at least; found 0"), (5, 2, "expected images of 1, 3 or 4 channels; found 2")],
)
def test_what_the_metadata_cannot_mean_is_refused(classes, channels, reason, tmp_path):
    record_files.write(tmp_path, "even/1.0.0", splits_of((8, 9)), classes=classes, shape=(8, 8, channels))
    assert reason in complaint(tmp_path, "even")


def test_images_of_several_sizes_need_one_to_be_cut_to(data_dir):
    assert complaint(data_dir, "ragged").startswith("data.size: expected a side in pixels that the images of")


def test_what_is_no_array_record_is_not_streamed(tmp_path):
    file, zeros = tmp_path / "x.npz", np.zeros((4, 8, 8, 3), np.uint8)
    np.savez(file, image=zeros, label=np.zeros(4, int))
    said = complaint(Path(), str(file), **STREAMED)
    assert "doesn't fit into memory" in said
    assert "expected a data set of TFDS, which is streamed where it is larger" in said
    said = complaint(Path(), str(file), memory=None, size=6)
    assert said.startswith("data.size and data.crop: expected none, and padded, for ")
