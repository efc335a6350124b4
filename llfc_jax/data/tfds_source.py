"""Datasets in TFDS's ArrayRecord format, read without TensorFlow.

`tensorflow_datasets` takes half a second to import, so it is imported only when a dataset is opened.
"""

import contextlib
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from llfc_jax.data.dataset import Source, Split
from llfc_jax.data.preparation import prepare, quiet
from llfc_jax.data.splits import Slice
from llfc_jax.data.text_source import check_fits, source_of_texts
from llfc_jax.errors import UserError, first_line
from llfc_jax.storage.paths import expand

_RECORDS_AT_A_TIME = 4096
_CLASS_KEYS = ("type", "pythonClassName", "python_class_name")
_TFDS_FEATURE = re.compile(r"tensorflow_datasets\.core\.features\.(\w+\.)*\w+")
_PILLOW_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def open_tfds(name: str, data_dir: str, *, known: Iterable[str], block: int) -> Source:
    """Opens a TFDS dataset of images and labels, or of texts; prepares it when `data_dir` doesn't hold it.

    Args:
      name: TFDS name, `dataset[/variant][:version]`.
      data_dir: TFDS directory; empty for TFDS's default, `TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      known: names to suggest when there is no dataset `name`.
      block: bytes of text that make an example.

    Raises:
      UserError: there is no such dataset, it isn't one of images and labels or of texts, its files are
        damaged or in another format, or it can't be prepared; or a text is too short for a block.
    """
    root = expand(data_dir, "data.data_dir") if data_dir else None
    with quiet():
        _check_feature_types(name, root)
        builder = _find_builder(name, root, known)
        _check_features(builder, name)
        if not builder.data_path.exists():
            prepare(builder, name)
    _check_files(builder, name)
    if _is_text(builder):
        check_fits(builder.info.dataset_size, f"data.name={name!r}")
        with _readable(builder, name):
            texts = {split: _read_text(builder, split) for split in builder.info.splits}
        return source_of_texts(texts, block, name)

    def read(slices: Sequence[Slice]) -> Split:
        with _readable(builder, name):
            return _read(builder, slices)

    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Source(sizes, builder.info.features["label"].num_classes, read)


@contextlib.contextmanager
def _readable(builder: Any, name: str) -> Iterator[None]:
    """Says what to do where the files can't be read."""
    with quiet():
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # of ArrayRecord, protobuf or Pillow: they share no base class
            raise UserError(
                f"data.data_dir: {name!r} in {builder.data_path} can't be read ({first_line(error)}); "
                "delete that directory to prepare it anew"
            ) from error


def _check_feature_types(name: str, root: Path | None) -> None:
    """Check that the files that say what features there are name classes of TFDS alone.

    It imports the module of whatever class they name, from the current directory, too, before it complains.
    """
    from tensorflow_datasets.core.utils import file_utils

    directories = [root] if root else [Path(each) for each in file_utils.list_data_dirs()]
    family = re.split("[/:]", name)[0]
    for path in (path for each in directories for path in (each / family).rglob("features.json")):
        try:
            named = set(_class_names(json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, RecursionError) as error:
            raise UserError(f"data.data_dir: {path} is damaged ({first_line(error)})") from error
        if foreign := sorted(named - {each for each in named if _TFDS_FEATURE.fullmatch(each)}):
            raise UserError(
                f"data.data_dir: {path} names {foreign[0]!r}: expected TFDS's own feature types alone, since "
                "others would be imported and run"
            )


def _class_names(tree: Any) -> Iterator[str]:
    """All names of classes in a `features.json`, of either of its formats."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in _CLASS_KEYS and isinstance(value, str):
                yield value
            yield from _class_names(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _class_names(value)


def _find_builder(name: str, root: Path | None, known: Iterable[str]) -> Any:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        return tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        guess = difflib.get_close_matches(name, known, n=1)
        raise UserError(
            f"data.name={name!r}: no such dataset{f' (did you mean {guess[0]!r}?)' if guess else ''}; "
            f"expected {', '.join(known)}, or another TFDS dataset of images and labels, or of texts"
        ) from error
    except Exception as error:  # unreadable metadata, an unknown variant or version, a malformed name
        reason = first_line(error).rpartition('}": ')[-1]  # without the arguments that TFDS puts in front
        raise UserError(
            f"data.name={name!r} can't be opened in data.data_dir={str(root or '')!r}: {reason}"
        ) from error


def _is_text(builder: Any) -> bool:
    return set(builder.info.features) == {"text"}


def _check_features(builder: Any, name: str) -> None:
    features = builder.info.features
    if _is_text(builder):
        return
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "num_classes"):
        raise UserError(
            f"data.name={name!r}: expected a dataset with features 'image' and 'label', or 'text' alone, "
            f"found {', '.join(features)}"
        )
    image = features["image"]
    if None in image.shape or image.np_dtype != np.uint8:
        raise UserError(
            f"data.name={name!r}: expected uint8 images of one size, "
            f"found {image.np_dtype.__name__} {image.shape}"
        )


def _check_files(builder: Any, name: str) -> None:
    info = builder.info
    if not (builder.data_path / "dataset_info.json").exists() or not info.splits:
        raise UserError(
            f"data.data_dir: {name!r} in {builder.data_path} is incomplete (no dataset_info.json, or no "
            "splits in it); delete that directory to prepare it anew"
        )
    if "array_record" not in {file_format.value for file_format in info.available_file_formats()}:
        raise UserError(
            f"data.data_dir: {name!r} in {builder.data_path} was prepared as {info.file_format.value}; "
            "expected array_record: name another data.data_dir, or delete that directory to prepare it anew"
        )


def _records(builder: Any, split: str) -> Any:
    """The records of a split expression, unparsed."""
    import tensorflow_datasets as tfds

    return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)


def _read_text(builder: Any, split: str) -> bytes:
    """All texts of a split, a line each."""
    from tensorflow_datasets.proto import tf_example_pb2

    records = _records(builder, split)
    examples = map(tf_example_pb2.Example.FromString, records.__getitems__(range(len(records))))
    return b"\n".join(example.features.feature["text"].bytes_list.value[0] for example in examples)


def _read(builder: Any, slices: Sequence[Slice]) -> Split:
    from tensorflow_datasets.proto import tf_example_pb2

    # Raw records in bulk, parsed and decoded here: twice as fast as leaving it to TFDS's feature decoders.
    records = _records(builder, "+".join(f"{split}[{start}:{stop}]" for split, start, stop in slices))
    shape = builder.info.features["image"].shape
    images = np.empty((len(records), *shape), np.uint8)
    labels = np.empty(len(records), np.int32)
    for begin in range(0, len(records), _RECORDS_AT_A_TIME):
        block = list(range(begin, min(begin + _RECORDS_AT_A_TIME, len(records))))
        for i, record in zip(block, records.__getitems__(block), strict=True):
            feature = tf_example_pb2.Example.FromString(record).features.feature
            images[i] = _decode(feature["image"].bytes_list.value[0], shape)
            labels[i] = feature["label"].int64_list.value[0]
    return Split(images, labels)


def _decode(encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes a PNG or JPEG to `shape`, whatever its own colour mode."""
    height, width, channels = shape
    with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
        if image.size != (width, height):
            raise ValueError(
                f"expected images of {width}×{height} pixels, found {image.width}×{image.height}"
            )
        mode = _PILLOW_MODES[channels]
        return np.asarray(image if image.mode == mode else image.convert(mode)).reshape(shape)
