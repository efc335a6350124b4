"""Datasets in TFDS's ArrayRecord format, read without TensorFlow.

`tensorflow_datasets` takes half a second to import, so it is imported only when a dataset is opened.
"""

import contextlib
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llfc_jax.data.dataset import Source
from llfc_jax.data.framing import Framing
from llfc_jax.data.preparation import prepare, quiet
from llfc_jax.data.records import PILLOW_MODES, Records, Shard, check_regular
from llfc_jax.data.splits import Slice
from llfc_jax.data.streamed import Streamed
from llfc_jax.data.text_source import check_fits, source_of_texts
from llfc_jax.errors import UserError, first_line
from llfc_jax.storage.files import forbidden
from llfc_jax.storage.paths import expand

_CLASS_KEYS = ("type", "pythonClassName", "python_class_name")
_TFDS_FEATURE = re.compile(r"tensorflow_datasets\.core\.features\.(\w+\.)*\w+")
_COLOURS = 3
"""Where a data set doesn't say how many channels its images have."""


def open_tfds(
    name: str,
    data_dir: str,
    *,
    known: Iterable[str],
    block: int,
    framing: Framing | None = None,
    workers: int = 0,
    memory: int | None = None,
) -> Source:
    """Opens a TFDS dataset of images and labels, or of texts; prepares it when `data_dir` doesn't hold it.

    Args:
      name: TFDS name, `dataset[/variant][:version]`.
      data_dir: TFDS directory; empty for TFDS's default, `TFDS_DATA_DIR` or `~/tensorflow_datasets`.
      known: names to suggest when there is no dataset `name`.
      block: bytes of text that make an example.
      framing: how images come to one size; None where they have one.
      workers: processes that decode what is streamed.
      memory: bytes that texts may take; None: all there is.

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
        check_fits(builder.info.dataset_size, f"data.name={name!r}", memory)
        with _readable(builder, name):
            texts = {split: _read_text(builder, split) for split in builder.info.splits}
        return source_of_texts(texts, block, name)

    shape = _shape(builder, name, framing)

    def open_records(slices: Sequence[Slice]) -> Streamed:
        records = _records(builder, name, slices, shape, framing)
        records.check()
        return Streamed(records, np.arange(len(records.source)), workers)

    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    classes = builder.info.features["label"].num_classes
    return Source(sizes, classes, open_records, math.prod(shape))


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
                f"data.data_dir: {name!r} can't be read ({first_line(error)}); {_advice(builder)}"
            ) from error


def _check_feature_types(name: str, root: Path | None) -> None:
    """Check that the files that say what features there are can be read, and name classes of TFDS alone.

    It imports the module of whatever class they name, from the current directory, too, before it complains.
    """
    from tensorflow_datasets.core.utils import file_utils

    directories = [root] if root else [Path(each) for each in file_utils.list_data_dirs()]
    places = [each / re.split("[/:]", name)[0] for each in directories]
    for unreadable in filter(None, map(forbidden, places)):
        raise UserError(f"data.data_dir: {unreadable} can't be read: permission denied")
    for path in (path for place in places for path in place.rglob("features.json")):
        try:
            check_regular(path.with_name("dataset_info.json"))
            check_regular(path)
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
    if features["image"].np_dtype != np.uint8:
        raise UserError(
            f"data.name={name!r}: expected uint8 images, found {features['image'].np_dtype.__name__}"
        )
    if (channels := features["image"].shape[-1] or _COLOURS) not in PILLOW_MODES:
        raise UserError(f"data.name={name!r}: expected images of 1, 3 or 4 channels; found {channels}")
    if (classes := features["label"].num_classes or 0) < 1:
        raise UserError(f"data.name={name!r}: expected a class at least; found {classes}")


def _shape(builder: Any, name: str, framing: Framing | None) -> tuple[int, int, int]:
    """Of an image as a network gets it."""
    height, width, channels = builder.info.features["image"].shape
    if framing is not None:
        return framing.size, framing.size, channels or _COLOURS
    if None in (height, width):
        raise UserError(
            f"data.size: expected a side in pixels that the images of {name!r}, which are of several sizes, "
            "are cut to; found None"
        )
    return height, width, channels or _COLOURS


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


def _read_text(builder: Any, split: str) -> bytes:
    """All texts of a split, a line each."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.proto import tf_example_pb2

    records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    examples = map(tf_example_pb2.Example.FromString, records.__getitems__(range(len(records))))
    return b"\n".join(example.features.feature["text"].bytes_list.value[0] for example in examples)


def _records(
    builder: Any, name: str, slices: Sequence[Slice], shape: tuple[int, int, int], framing: Framing | None
) -> Records:
    """The records of some slices, in their order."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    expression = "+".join(f"{split}[{start}:{stop}]" for split, start, stop in slices)
    with _readable(builder, name):
        files = builder.info.splits[expression].file_instructions
        shards = tuple(Shard(str(one.filename), one.skip, one.take, one.examples_in_shard) for one in files)
        classes = builder.info.features["label"].num_classes
        return Records(ArrayRecordDataSource(files), shards, shape, framing, classes, _advice(builder))


def _advice(builder: Any) -> str:
    return f"delete {builder.data_path} to prepare it anew"
