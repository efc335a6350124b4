"""`load`: from the `data` section of a configuration to arrays in memory."""

import re
from typing import TypeAlias

from ml_collections import ConfigDict

from llfc_jax.data.dataset import Dataset, Source, Split, fingerprint
from llfc_jax.data.digits import open_digits
from llfc_jax.data.images import channel_moments
from llfc_jax.data.splits import parse
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
}
"""The well-known names and the constants that normalise them; None: those of the training split."""


def load(config: ConfigDict) -> Dataset:
    """Loads a dataset into memory, after preparing it in `data_dir` when it isn't there.

    Args:
      config: the fields `name` (a key of `DATASETS`, or any TFDS dataset of labelled images of one size, such
        as `emnist/letters`), `data_dir` (a TFDS directory; empty: TFDS's own default), `train_split` and
        `test_split` (TFDS split expressions, such as `train[:10000]`).

    Raises:
      UserError: the name or a split is unknown, or the data can be neither found nor prepared.
    """
    source = (
        open_digits() if config.name == "digits" else open_tfds(config.name, config.data_dir, known=DATASETS)
    )
    train = _read(source, config.train_split, "data.train_split")
    test = _read(source, config.test_split, "data.test_split")
    # TFDS names may carry a variant and a version: `emnist/letters`, `mnist:3.0.1`.
    family = re.split("[/:]", config.name)[0]
    mean, std = DATASETS.get(family) or channel_moments(train.images)
    return Dataset(config.name, train, test, source.num_classes, mean, std, fingerprint(train, test))


def _read(source: Source, expression: str, field: str) -> Split:
    split = source.read(parse(expression, source.sizes, field=field))
    low, high = split.labels.min(), split.labels.max()
    if low < 0 or high >= source.num_classes:
        raise UserError(
            f"{field}={expression!r}: expected labels 0 to {source.num_classes - 1}, found {low} to {high} "
            "(a split without labels?)"
        )
    return split
