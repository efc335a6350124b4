"""Texts of one's own as blocks of bytes, and how training cuts them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from llfc_jax import data
from llfc_jax.data import text_source
from llfc_jax.data.crops import crop
from llfc_jax.errors import UserError

GENERATOR = np.random.default_rng(0)
TEXT = bytes(GENERATOR.integers(32, 127, 503, dtype=np.uint8))


def load(path, text=TEXT, **changes):
    path.write_bytes(text)
    fields = {"name": str(path), "data_dir": "", "train_split": "train", "test_split": "test", "block": 7}
    return data.load(ConfigDict(fields | {"mean": None, "std": None} | changes))


def test_blocks_are_the_text_and_their_labels_the_bytes_that_follow(tmp_path):
    found = load(tmp_path / "x.txt")
    for split, text in ((found.train, TEXT[:453]), (found.test, TEXT[453:])):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
        assert split.images.shape == split.labels.shape == ((len(text) - 1) // 7, 7)
        assert split.images.tobytes() == text[: split.images.size]
        assert split.labels.astype(np.uint8).tobytes() == text[1 : split.labels.size + 1]
    assert (found.num_classes, found.mean, found.std) == (256, (), ())


def test_a_text_in_many_letters_is_read_as_bytes(tmp_path):
    text = "Ça, où — 中文 ☃\n" * 20
    found = load(tmp_path / "x.txt", text.encode())
    assert text.encode().startswith(found.train.images.tobytes())


def test_splits_count_blocks(tmp_path):
    found = load(tmp_path / "x.txt", train_split="train[:5]", test_split="train[5:6]")
    assert found.train.images.tobytes() == TEXT[:35]
    assert found.test.images.tobytes() == TEXT[35:42]


@pytest.mark.parametrize(
    ("text", "changes", "line"),
    [
        (
            "Ça va".encode() + b" caf\xe9!" + TEXT,
            {},
            "{where}: expected text in UTF-8; found byte 0xe9 at 10, which is none",
        ),
        (
            TEXT,
            {"block": 60},
            "data.block: expected less than 50 bytes, which the test text of {path} has; found 60",
        ),
        (
            b"",
            {},
            "{where}: expected a train text of two bytes at least; found 0",
        ),
        (TEXT, {"mean": (0.5,), "std": (1.0,)}, "data.mean: expected none for text; found (0.5,)"),
    ],
    ids=["no UTF-8", "a block longer than the text", "nothing", "constants of images"],
)
def test_bad_texts_are_one_line(text, changes, line, tmp_path):
    path = tmp_path / "x.txt"
    line = line.format(where=f"data.name='{path}'", path=path)
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        load(path, text, **changes)


def test_a_text_that_is_not_there_or_too_large_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    with pytest.raises(UserError, match=r"^data.name='.*none.txt': no such file$"):
        load(path, name=str(tmp_path / "none.txt"))
    monkeypatch.setattr(text_source, "host_memory_bytes", lambda: len(TEXT))
    with pytest.raises(
        UserError, match=r"^data.name='.*x.txt' doesn't fit .* 503 bytes; expected 62 at most"
    ):
        load(path)


def test_images_have_no_block():
    fields = {"name": "digits", "data_dir": "", "train_split": "train", "test_split": "test", "block": 7}
    with pytest.raises(UserError, match=r"^data.block: expected none for images; found 7$"):
        data.load(ConfigDict(fields))


def test_crops_are_of_the_text_begin_anywhere_and_depend_on_the_key_alone(tmp_path):
    split = load(tmp_path / "x.txt").train
    rows = jnp.asarray(split.images), jnp.asarray(split.labels)
    index, starts = jnp.arange(len(split.images)), set()
    for seed in range(20):
        inputs, labels = map(np.asarray, crop(jax.random.key(seed), rows, index))
        again, _ = crop(jax.random.key(seed), rows, index)
        np.testing.assert_array_equal(inputs, again)
        for row, (block, following) in enumerate(zip(inputs, labels, strict=True)):
            start = TEXT.find(block.tobytes())
            assert row * 7 <= start < row * 7 + 7
            assert following.astype(np.uint8).tobytes() == TEXT[start + 1 : start + 8]
            starts.add(start)
    assert len(starts) > 0.8 * split.images.size
