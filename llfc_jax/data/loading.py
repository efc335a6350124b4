"""`load`: from the `data` section of a configuration to examples, in memory or streamed."""

import math
import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from ml_collections import ConfigDict

from llfc_jax.data.dataset import Dataset, Examples, Source, Split, fingerprint
from llfc_jax.data.digits import open_digits
from llfc_jax.data.framing import Framing
from llfc_jax.data.images import channel_moments
from llfc_jax.data.memory import allowed_bytes, held_if_small
from llfc_jax.data.npz_source import open_npz
from llfc_jax.data.splits import check_disjoint, parse
from llfc_jax.data.text_source import open_text_file
from llfc_jax.data.tfds_source import open_tfds
from llfc_jax.errors import UserError
from llfc_jax.runtime import progress

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
    # torchvision's, of all its checkpoints.
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""The well-known names and the constants that normalise them; None: those of the training split."""

BLOCK = 256
"""Bytes of text that a network sees at a time, unless `data.block` says otherwise."""

PADDED, RESIZED = CROPS = "padded", "resized"
"""How augmentation crops: at random places after padding with black, or parts of random size, resized."""

_RESIZE = 256 / 224
"""Of the shorter side before the centre is cut out, in units of the crop's; the usual one."""
_IN_MOMENTS = 5_000
"""Images of a streamed split that its mean and deviation are estimated on."""


def load(config: ConfigDict) -> Dataset:
    """Loads a dataset, after preparing it in `data_dir` when it isn't there.

    It is held in memory if it fits. Larger ones of TFDS's images are streamed, but a split that is small; so
    are images that training crops at random sizes, which has to see all of them.

    Args:
      config: the fields `name` (a key of `DATASETS`, any TFDS dataset of labelled images, such as
        `emnist/letters`, or of texts, an `.npz` file as in `open_npz`, or a `.txt` file as in
        `open_text_file`), `data_dir` (a TFDS directory; empty: TFDS's own default), `train_split` and
        `test_split` (TFDS split expressions, such as `train[:10000]`; of a text they count blocks), `classes`
        (labels of the training split that are kept; empty: all), `memory`
        (GiB; None: see `allowed_bytes`), `workers` (processes that decode what is streamed), `augment`,
        `crop`, `size` and `resize` (see `Framing`), `block` (bytes of a text that make an example; None:
        256), `mean` and `std` (per channel; None: the known constants of `name`, else those of the training
        split, of a sample where that is streamed).

    Raises:
      UserError: the name or a split is unknown, the data can be neither found nor prepared, or the constants
        don't fit its channels, or the block its text.
    """
    framing = _framing(config)
    source = _open(config, framing)
    if not source.example_bytes and (config.get("size") or config.get("crop", PADDED) == RESIZED):
        raise UserError(
            f"data.size and data.crop: expected none, and {PADDED}, for {config.name}: images of TFDS alone "
            f"are resized; found {config.get('size')} and {config.crop}"
        )
    expressions = {f"data.{field}": config[field] for field in ("train_split", "test_split")}
    slices = [parse(text, source.sizes, field=field) for field, text in expressions.items()]
    check_disjoint(*slices, expressions=expressions)
    examples = sum(stop - start for parts in slices for _, start, stop in parts)
    allowed = allowed_bytes(config.get("memory"))
    size, is_cropped_anew = examples * source.example_bytes, framing is not None and framing.is_random
    streams = size > allowed or is_cropped_anew
    if streams:
        why, gib = "as training crops them" if is_cropped_anew else "by data.memory", size / 2**30
        progress.say(f"{config.name} is streamed, {why}: {examples:,} images would take {gib:.3g} GiB")
    opened = [source.open(parts) for parts in slices]
    train, test = (
        _held(one, source.num_classes, f"{field}={text!r}") if not streams else held_if_small(one, allowed)
        for one, (field, text) in zip(opened, expressions.items(), strict=True)
    )
    if wanted := config.get("classes"):
        train = _of_classes(train, wanted, source.num_classes)
    mean, std = _moments(config, train)
    if config.get("block") is not None and len(train.shape) > 1:
        raise UserError(f"data.block: expected none for images; found {config.block}")
    identity = of_files = fingerprint(train, test)
    if source.example_bytes:
        of_files = f"{fingerprint(*opened)}{tuple(wanted) if wanted else ''}"
    if streams:
        identity = of_files
    return Dataset(config.name, train, test, source.num_classes, mean, std, identity, of_files)


def _of_classes(train: Examples, wanted: Sequence[int], num_classes: int) -> Split:
    """The examples of some classes.

    Raises:
      UserError: there are no such classes or no examples of them, or the labels are not in memory.
    """
    if not isinstance(train, Split) or train.labels.ndim > 1:
        kind = "text" if isinstance(train, Split) else "a streamed set"
        raise UserError(f"data.classes: expected images in memory; found {kind}")
    if max(wanted) >= num_classes:
        raise UserError(f"data.classes: expected labels below {num_classes}; found {max(wanted)}")
    found = train.part(np.flatnonzero(np.isin(train.labels, wanted)))
    if not found.size:
        raise UserError(f"data.classes: expected examples of classes {tuple(wanted)}; found none")
    return found


def _open(config: ConfigDict, framing: Framing | None) -> Source:
    memory = None if config.get("memory") is None else allowed_bytes(config.memory)
    if config.name == "digits":
        return open_digits()
    if config.name.endswith(".npz"):
        return open_npz(config.name, memory)
    block = config.get("block") or BLOCK
    if config.name.endswith(".txt"):
        return open_text_file(config.name, block, memory)
    return open_tfds(
        config.name,
        config.data_dir,
        known=DATASETS,
        block=block,
        framing=framing,
        workers=config.get("workers", 0),
        memory=memory,
    )


def _framing(config: ConfigDict) -> Framing | None:
    size = config.get("size")
    if size is None:
        return None
    is_random = config.augment and config.crop == RESIZED
    return Framing(size, config.get("resize") or round(_RESIZE * size), is_random)


def _moments(config: ConfigDict, train: Examples) -> Moments:
    if len(train.shape) == 1:
        if config.get("mean"):
            raise UserError(f"data.mean: expected none for text; found {config.mean}")
        return (), ()
    if not config.get("mean"):
        # TFDS names may carry a variant and a version: `emnist/letters`, `mnist:3.0.1`.
        family = "" if config.name.endswith(".npz") else re.split("[/:]", config.name)[0]
        return DATASETS.get(family) or channel_moments(_some(train).images)
    channels = train.shape[-1]
    for field, above in (("mean", -math.inf), ("std", 0)):
        numbers = config[field]
        fit = [isinstance(number, int | float) and above < number < math.inf for number in numbers]
        if len(fit) != channels or not all(fit):
            kind = "positive numbers" if field == "std" else "numbers"
            raise UserError(f"data.{field}: expected {channels} {kind}, one per channel; found {numbers}")
    return config.mean, config.std


def _some(train: Examples) -> Split:
    """All, in memory; evenly spread ones of a split that isn't."""
    if isinstance(train, Split):
        return train
    return train.part(np.linspace(0, train.size - 1, min(train.size, _IN_MOMENTS)).astype(int)).hold()


def _held(examples: Examples, num_classes: int, where: str) -> Split:
    split = examples.hold()
    low, high = split.labels.min(), split.labels.max()
    if low < 0 or high >= num_classes:
        raise UserError(
            f"{where}: expected labels 0 to {num_classes - 1}, found {low} to {high} "
            "(a split without labels?)"
        )
    return split
