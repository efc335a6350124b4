"""Images and labels of one's own, in an `.npz` file."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llfc_jax.data.dataset import Source, Split, in_memory
from llfc_jax.errors import UserError, first_line
from llfc_jax.runtime import progress
from llfc_jax.runtime.limits import host_memory_bytes
from llfc_jax.storage.paths import expand

_NAMES = {
    "train": ("train_image", "train_label"),
    "test": ("test_image", "test_label"),
    "train and test": ("image", "label"),
}
_IMAGES = ("train_image", "test_image")
_KNOWN = ("num_classes", *(name for names in _NAMES.values() for name in names))
_MOST_CLASSES = 1_000_000


def open_npz(name: str, memory: int | None = None) -> Source:
    """Opens an `.npz` file of images and labels.

    It holds `train_image`, `train_label`, `test_image` and `test_label`, or `image` and `label` alone, which
    then serve as both splits. Images are `(n, height, width[, channels])`, uint8 or floating point (taken as
    they are: not divided by 255); labels are integers from 0. There are as many classes as the largest label
    tells, or as an array `num_classes` says.

    Args:
      name: the path of the file.
      memory: bytes that its arrays may take; None: half of the machine's.

    Raises:
      UserError: there is no such file, it is damaged, it takes more memory than it may, or its arrays are not
        as they should be.
    """
    where = f"data.name={name!r}"
    path = expand(name, "data.name")
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    arrays = _arrays(path, where, host_memory_bytes() // 2 if memory is None else memory)
    halves = [split for split, names in _NAMES.items() if arrays.keys() & set(names)]
    if halves not in (["train", "test"], ["train and test"]):
        raise UserError(
            f"{where}: expected train_image, train_label, test_image and test_label, or image and label; "
            f"found {', '.join(arrays) or 'nothing'}"
        )
    splits = {split: _read(arrays, *_NAMES[split], where) for split in halves}
    if halves == ["train and test"]:
        progress.say(f"{name}: one set of images serves as both splits, train and test")
        splits = dict.fromkeys(("train", "test"), splits[halves[0]])
    if len({split.images.dtype for split in splits.values()}) > 1:
        raise UserError(
            f"{where}: expected train_image and test_image of one type, since uint8 is divided by 255 and "
            f"floats are taken as they are; found {' and '.join(str(arrays[n].dtype) for n in _IMAGES)}"
        )
    if splits["train"].images.shape[1:] != splits["test"].images.shape[1:]:
        found = " and ".join(str(split.images.shape[1:]) for split in splits.values())
        raise UserError(f"{where}: expected images of one size; found {found}")
    labels = np.concatenate([split.labels for split in splits.values()])
    return in_memory(splits, _num_classes(arrays, labels, where))


def _arrays(path: Path, where: str, allowed: int) -> dict[str, Any]:
    """Name -> array of the members that we know; what else the file holds is left alone, and None."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            claimed = sum(member.file_size for member in file.zip.infolist())
            if claimed > allowed:
                raise MemoryError(f"it unpacks to {claimed:,} bytes, more than {allowed:,}")
            arrays = {name: file[name] if name in _KNOWN else None for name in file}
    except MemoryError as error:
        raise UserError(
            f"{where} doesn't fit into memory: {first_line(error)}; expected a data set of TFDS, which is "
            "streamed where it is larger, or a larger data.memory"
        ) from error
    except PermissionError as error:
        raise UserError(f"{where} can't be read: {error.strerror}") from error
    except Exception as error:  # of NumPy, zipfile or zlib: they share no base class
        raise UserError(
            f"{where} is damaged, or no .npz file of plain arrays ({first_line(error)})"
        ) from error
    for name in arrays.keys() & set(_KNOWN):
        if not isinstance(arrays[name], np.ndarray):  # but bytes, as NumPy returns what it can't read
            raise UserError(f"{where}: {name}: expected an array; found something else of that name")
    return arrays


def _num_classes(arrays: Mapping[str, np.ndarray], labels: np.ndarray, where: str) -> int:
    classes = arrays.get("num_classes")
    if classes is None:
        classes, field = np.array(1 + int(labels.max())), "the largest label makes"
    else:
        field = "num_classes says"
    if classes.shape != () or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"{where}: num_classes: expected an integer; found {classes.dtype} of {classes.shape}"
        )
    if not 1 <= int(classes) <= _MOST_CLASSES:
        raise UserError(f"{where}: expected 1 to {_MOST_CLASSES:,} classes; {field} {int(classes):,}")
    return int(classes)


def _read(arrays: Mapping[str, np.ndarray], image: str, label: str, where: str) -> Split:
    for name in (image, label):
        if name not in arrays:
            raise UserError(f"{where}: expected an array {name!r}; found {', '.join(arrays)}")
    images, labels = arrays[image], arrays[label]
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise UserError(f"{where}: {image}: expected uint8 or floating point; found {images.dtype}")
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise UserError(f"{where}: {image}: expected finite numbers; found NaN or infinities")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or 0 in images.shape or (images.shape[1] in (1, 3) and images.shape[3] > 4):
        raise UserError(
            f"{where}: {image}: expected (n, height, width) or (n, height, width, channels); "
            f"found {arrays[image].shape}"
        )
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{where}: {label}: expected {len(images)} integers, one per image; "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < -(2**31) or labels.max() >= 2**31:
        raise UserError(
            f"{where}: {label}: expected labels from 0, of 32 bits; found {labels.min()} to {labels.max()}"
        )
    return Split(images, labels.astype(np.int32))
