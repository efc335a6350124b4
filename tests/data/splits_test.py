"""Split expressions agree with TFDS's own reading of them."""

import re

import pytest

from llfc_jax.data.splits import Slice, parse
from llfc_jax.errors import UserError

SIZES = {"train": 1437, "test": 360}


@pytest.mark.parametrize(
    "expression",
    [
        "train",
        "test",
        "train[:500]",
        "train[500:]",
        "train[-100:]",
        "train[:-100]",
        "train[10%:35%]",
        "train[:12.5%]",
        "train[-33%:]",
        "train[0:1]",
        "train[:1437]",
        "train[:500]+test[10:20] + train[600:]",
    ],
)
def test_slices_are_those_of_tfds(expression: str) -> None:
    from tensorflow_datasets.core import splits as tfds_splits

    infos = {
        name: tfds_splits.SplitInfo(name=name, shard_lengths=[size], num_bytes=0, filename_template=None)
        for name, size in SIZES.items()
    }
    absolute = tfds_splits.AbstractSplit.from_spec(expression).to_absolute(infos)
    expected = tuple(
        Slice(part.splitname, part.from_ or 0, SIZES[part.splitname] if part.to is None else part.to)
        for part in absolute
    )
    assert parse(expression, SIZES, field="f") == expected


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("validation", "no split 'validation'; expected train, test"),
        ("", "found ''"),
        ("train[5]", "found 'train[5]'"),
        ("train[:x]", "found 'x'"),
        ("train[:1.5]", "found '1.5'"),
        ("train[:1438]", "beyond the 1437 examples"),
        ("train[-101%:]", "beyond the 1437 examples"),
        ("train[7:7]", "holds no examples"),
        ("train[20:10]", "holds no examples"),
        ("train+", "found ''"),
        ("train[10:20%]", "both as percentages"),
    ],
)
def test_a_bad_expression_is_one_line_that_names_the_field(expression: str, complaint: str) -> None:
    with pytest.raises(UserError, match=re.escape(complaint)) as caught:
        parse(expression, SIZES, field="data.train_split")
    assert str(caught.value).startswith(f"data.train_split={expression!r}: ")
    assert "\n" not in str(caught.value)
