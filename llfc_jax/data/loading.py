"""`load`: from the `data` section of a configuration to arrays in memory."""

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

from ml_collections import ConfigDict

from llfc_jax.data.dataset import Dataset, Source, Split, fingerprint
from llfc_jax.data.digits import open_digits
from llfc_jax.data.images import channel_moments
from llfc_jax.data.npz_source import open_npz
from llfc_jax.data.splits import Slice, check_disjoint, parse
from llfc_jax.data.text_source import open_text_file
from llfc_jax.data.tfds_source import open_tfds
from llfc_jax.errors import UserError

Moments: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Per-channel mean and standard deviation of pixels in `[0, 1]`."""

DATASETS: dict[str, Moments | None] = {
    "digits": None,
    # The constants of the LLFC authors' code: github.com/zzp1012/LLFC, src/data/mnist.py and cifar10.py.
    # CIFAR-10's deviations are within images, averaged; over all pixels they are 0.247, 0.243 and 0.262.
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": None,
    "kmnist": None,
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": None,
    "svhn_cropped": None,
    "tiny_shakespeare": None,
}
"""The well-known names and the constants that normalise them; None: those of the training split."""

BLOCK = 256
"""Bytes of text that a network sees at a time, unless `data.block` says otherwise."""


def load(config: ConfigDict) -> Dataset:
    """Loads a dataset into memory, after preparing it in `data_dir` when it isn't there.

    Args:
      config: the fields `name` (a key of `DATASETS`, any TFDS dataset of labelled images of one size, such as
        `emnist/letters`, or of texts, an `.npz` file as in `open_npz`, or a `.txt` file as in
        `open_text_file`), `data_dir` (a TFDS directory; empty: TFDS's own default), `train_split` and
        `test_split` (TFDS split expressions, such as `train[:10000]`; of a text they count blocks), `block`
        (bytes of a text that make an example; None: 256), `mean` and `std` (per channel; None: the known
        constants of `name`, else those of the training split).

    Raises:
      UserError: the name or a split is unknown, the data can be neither found nor prepared, or the constants
        don't fit its channels, or the block its text.
    """
    source = _open(config)
    expressions = {f"data.{field}": config[field] for field in ("train_split", "test_split")}
    slices = [parse(text, source.sizes, field=field) for field, text in expressions.items()]
    check_disjoint(*slices, expressions=expressions)
    train, test = (
        _read(source, parts, f"{field}={text!r}")
        for parts, (field, text) in zip(slices, expressions.items(), strict=True)
    )
    mean, std = _moments(config, train)
    if config.get("block") is not None and train.labels.ndim == 1:
        raise UserError(f"data.block: expected none for images; found {config.block}")
    return Dataset(config.name, train, test, source.num_classes, mean, std, fingerprint(train, test))


def _open(config: ConfigDict) -> Source:
    if config.name == "digits":
        return open_digits()
    if config.name.endswith(".npz"):
        return open_npz(config.name)
    block = config.get("block") or BLOCK
    if config.name.endswith(".txt"):
        return open_text_file(config.name, block)
    return open_tfds(config.name, config.data_dir, known=DATASETS, block=block)


def _moments(config: ConfigDict, train: Split) -> Moments:
    if train.labels.ndim == 2:
        if config.get("mean"):
            raise UserError(f"data.mean: expected none for text; found {config.mean}")
        return (), ()
    if not config.get("mean"):
        # TFDS names may carry a variant and a version: `emnist/letters`, `mnist:3.0.1`.
        family = "" if config.name.endswith(".npz") else re.split("[/:]", config.name)[0]
        return DATASETS.get(family) or channel_moments(train.images)
    channels = train.images.shape[-1]
    for field, above in (("mean", -math.inf), ("std", 0)):
        numbers = config[field]
        fit = [isinstance(number, int | float) and above < number < math.inf for number in numbers]
        if len(fit) != channels or not all(fit):
            kind = "positive numbers" if field == "std" else "numbers"
            raise UserError(f"data.{field}: expected {channels} {kind}, one per channel; found {numbers}")
    return config.mean, config.std


def _read(source: Source, slices: Sequence[Slice], where: str) -> Split:
    split = source.read(slices)
    low, high = split.labels.min(), split.labels.max()
    if low < 0 or high >= source.num_classes:
        raise UserError(
            f"{where}: expected labels 0 to {source.num_classes - 1}, found {low} to {high} "
            "(a split without labels?)"
        )
    return split
