"""TFDS datasets: written and read without TensorFlow, and how they can be missing or damaged."""

import gzip
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from llfc_jax.data import Dataset, load
from llfc_jax.data.preparation import quiet
from llfc_jax.errors import UserError
from llfc_jax.path.examples import masked_batches

with quiet():  # its import raises deprecation warnings of others
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.image_classification import cifar, mnist

NUM_CLASSES = 7
_RNG = np.random.default_rng(0)
TINY = {
    "train": (_RNG.integers(0, 256, (53, 6, 5, 3), dtype=np.uint8), _RNG.integers(0, NUM_CLASSES, 53)),
    "test": (_RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8), _RNG.integers(0, NUM_CLASSES, 20)),
}


class TinyColours(tfds.core.GeneratorBasedBuilder):
    """Random colour images, given to TFDS as arrays."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE: tuple[int | None, ...] = (6, 5, 3)

    def _info(self) -> Any:
        features = {
            "image": tfds.features.Image(shape=self.SHAPE),
            "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split) for split in TINY}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(zip(*TINY[split], strict=True)):
            yield index, {"image": image, "label": int(label)}


class TinyEncoded(TinyColours):
    """The same images, given as files of other kinds: JPEG and a palette's PNG."""

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, example in super()._generate_examples(split):
            buffer = io.BytesIO()
            grey = Image.fromarray(np.full((6, 5), 16 * example["label"] + 8, np.uint8))
            grey.convert("P").save(buffer, "png") if index % 2 else grey.save(buffer, "jpeg")
            yield index, example | {"image": buffer.getvalue()}


class TinyUnlabelled(TinyColours):
    """Label −1 everywhere, TFDS's sign for unknown labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, example in super()._generate_examples(split):
            yield index, example | {"label": -1}


class TinyRagged(TinyColours):
    """Images of different sizes."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (None, None, 3)


class TinyNeedy(TinyColours):
    """A builder that computes with TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield 0, {"image": mnist.tf.image.resize(TINY[split][0][0], (6, 5)), "label": 0}


TEXTS = {"train": ("Nel mezzo del cammin", "di nostra vita…"), "test": ("mi ritrovai per una selva oscura",)}


class TinyText(tfds.core.GeneratorBasedBuilder):
    """Texts alone."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in TEXTS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        return enumerate({"text": text} for text in TEXTS[split])


class TinyReviews(TinyText):
    """Texts with labels, which are neither images nor texts alone."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features = {"text": tfds.features.Text(), "stars": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


def _load(name: str, data_dir: Path, train: str = "train", test: str = "test") -> Dataset:
    return load(
        ConfigDict({"name": name, "data_dir": str(data_dir), "train_split": train, "test_split": test})
    )


def _complaint(name: str, data_dir: Path, **splits: str) -> str:
    with pytest.raises(UserError) as caught:
        _load(name, data_dir, **splits)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _by_content(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that holds `tiny_colours`."""
    data_dir = tmp_path_factory.mktemp("tfds")
    _load("tiny_colours", data_dir)
    return data_dir


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of `prepared`, to be damaged."""
    shutil.copytree(prepared, tmp_path / "tfds")
    return tmp_path / "tfds"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host name is unknown."""

    def fail(host: str, *args: Any, **kwargs: Any) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", fail)


# Reading.


def test_pixels_and_labels_survive_preparation_and_reading(prepared: Path) -> None:
    data = _load("tiny_colours", prepared)
    for split, expected in zip((data.train, data.test), TINY.values(), strict=True):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
        assert _by_content(*split) == _by_content(*expected)
    assert data.num_classes == NUM_CLASSES
    np.testing.assert_allclose(data.mean, (TINY["train"][0] / 255).mean((0, 1, 2)), rtol=1e-12)


def test_split_expressions_slice_what_tfds_would_read(prepared: Path) -> None:
    whole = _load("tiny_colours", prepared)
    part = _load("tiny_colours", prepared, "train[10:20]+test[:3]", "train[-20%:]")
    np.testing.assert_array_equal(
        part.train.images, np.concatenate([whole.train.images[10:20], whole.test.images[:3]])
    )
    source = tfds.data_source("tiny_colours", split="train[-20%:]", data_dir=prepared)
    np.testing.assert_array_equal(part.test.labels, [example["label"] for example in source])
    np.testing.assert_array_equal(part.test.images, [example["image"] for example in source])


def test_what_grain_reads_of_a_set_are_batches_for_the_library(prepared: Path) -> None:
    grain = pytest.importorskip("grain")
    source = tfds.data_source("tiny_colours", split="test", data_dir=prepared)
    read = grain.MapDataset.source(source).batch(8).to_iter_dataset()
    batches = list(masked_batches(read))
    kept = [np.asarray(batch.mask) > 0 for batch in batches]
    found = zip(
        *((b.images[rows], b.labels[rows]) for b, rows in zip(batches, kept, strict=True)), strict=True
    )
    images, labels = map(np.concatenate, found)
    assert _by_content(images, labels) == _by_content(*TINY["test"])


def test_reading_twice_gives_the_same_fingerprint_and_prepares_once(prepared: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    assert _load("tiny_colours", prepared).fingerprint == _load("tiny_colours", prepared).fingerprint
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_images_of_any_encoding_and_colour_mode_are_decoded_to_the_declared_shape(tmp_path: Path) -> None:
    data = _load("tiny_encoded", tmp_path)
    assert data.train.images.shape == (53, 6, 5, 3)
    expected = np.broadcast_to(16 * data.train.labels[:, None, None, None] + 8, data.train.images.shape)
    np.testing.assert_allclose(data.train.images, expected, atol=2)


def test_no_tensorflow_and_no_word_on_the_terminal(prepared: Path, tmp_path: Path) -> None:
    """In a fresh process in which importing TensorFlow fails and the builder of `tiny_colours` is unknown."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise ImportError('TensorFlow was imported')")
    script = f"""
import sys
from ml_collections import ConfigDict
from llfc_jax.data import load

config = dict(data_dir={str(prepared)!r}, train_split="train", test_split="test")
load(ConfigDict(config | dict(name="digits")))
assert "tensorflow_datasets" not in sys.modules
assert len(load(ConfigDict(config | dict(name="tiny_colours"))).train.labels) == 53
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
    path = os.pathsep.join([str(tmp_path), str(Path.cwd()), *sys.path])
    env = os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Preparation by TFDS's own builders, on small archives of the real formats.


def _idx(array: np.ndarray) -> bytes:
    """MNIST's file format, gzipped."""
    return gzip.compress(
        struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    )


def _put_archives(
    builder: Any, archives: dict[str, bytes], manual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lays archives where a user would, and makes TFDS expect their checksums."""
    manual.mkdir(parents=True)
    for filename, content in archives.items():
        (manual / filename).write_bytes(content)
        (url,) = (url for url, info in builder.url_infos.items() if info.filename == filename)
        checksum = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(builder.url_infos, url, UrlInfo(len(content), checksum, filename))


def _mnist_archives(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, bytes], dict[str, Any]]:
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 30)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 12)
    rng, examples, archives = np.random.default_rng(1), {}, {}
    for split, prefix, n in (("train", "train", 30), ("test", "t10k", 12)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        examples[split] = (images, labels)
        archives[f"{prefix}-images-idx3-ubyte.gz"] = _idx(images)
        archives[f"{prefix}-labels-idx1-ubyte.gz"] = _idx(labels)
    return archives, examples


def test_mnist_is_prepared_from_its_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    archives, examples = _mnist_archives(monkeypatch)
    _put_archives(mnist.MNIST, archives, tmp_path / "downloads" / "manual" / "mnist", monkeypatch)
    data = _load("mnist", tmp_path)
    assert _by_content(*data.train) == _by_content(*examples["train"])
    assert _by_content(*data.test) == _by_content(*examples["test"])
    assert (data.mean, data.std) == ((0.1307,), (0.3081,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads", "mnist"]


def test_mnist_is_downloaded_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    archives, examples = _mnist_archives(monkeypatch)
    (tmp_path / "www").mkdir()
    for filename, content in archives.items():
        (tmp_path / "www" / filename).write_bytes(content)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www"))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(mnist.MNIST, "URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        data = _load("mnist", tmp_path / "data")
        server.shutdown()
    assert _by_content(*data.train) == _by_content(*examples["train"])
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mnist"]


def test_cifar10_is_prepared_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    rng = np.random.default_rng(2)
    images = {f"data_batch_{i}": rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8) for i in range(1, 6)}
    images["test_batch"] = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = {batch: rng.integers(0, 10, len(array), dtype=np.uint8) for batch, array in images.items()}
    members = {
        f"{batch}.bin": np.column_stack(
            [labels[batch], array.transpose(0, 3, 1, 2).reshape(len(array), -1)]
        ).tobytes()
        for batch, array in images.items()
    }
    members["batches.meta.txt"] = "\n".join(f"class {i}" for i in range(10)).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for filename, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{filename}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    archives = {"cifar-10-binary.tar.gz": buffer.getvalue()}
    _put_archives(cifar.Cifar10, archives, tmp_path / "downloads" / "manual" / "cifar10", monkeypatch)

    data = _load("cifar10", tmp_path)
    train = [batch for batch in images if batch != "test_batch"]
    expected = [np.concatenate([arrays[batch] for batch in train]) for arrays in (images, labels)]
    assert _by_content(*data.train) == _by_content(*expected)
    assert _by_content(*data.test) == _by_content(images["test_batch"], labels["test_batch"])
    assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


# Data that can't be had.


@pytest.mark.parametrize("existing", [True, False])
def test_without_network_one_line_says_what_to_do(existing: bool, tmp_path: Path, no_network: None) -> None:
    data_dir = tmp_path if existing else tmp_path / "new" / "data"
    message = _complaint("mnist", data_dir)
    assert f"data.name='mnist' is not in data.data_dir={str(data_dir)!r}" in message
    assert ("which holds no datasets" if existing else "which does not exist") in message
    assert "no connection to storage.googleapis.com" in message
    assert "put t10k-images-idx3-ubyte.gz, " in message
    assert f"into {data_dir / 'downloads' / 'manual' / 'mnist'}" in message


@pytest.mark.parametrize("name", ["mnist", "emnist/letters"])
def test_without_network_it_fails_fast_quietly_and_without_trace(
    name: str,
    tmp_path: Path,
    no_network: None,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    start = time.monotonic()
    _complaint(name, tmp_path / "new" / "data")
    assert time.monotonic() - start < 30  # tries to connect again go on for minutes
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert {record.name for record in caplog.records} <= {"llfc_jax.data.preparation"}


def test_a_missing_dataset_says_which_others_there_are(copy: Path, no_network: None) -> None:
    before = sorted(copy.rglob("*"))
    assert "which holds tiny_colours" in _complaint("cifar100", copy)
    assert sorted(copy.rglob("*")) == before


def test_what_tfds_changes_for_a_preparation_is_restored(tmp_path: Path, no_network: None) -> None:
    before, threads = (downloader._open_url, downloader.MAX_RETRIES), set(threading.enumerate())
    _complaint("mnist", tmp_path)
    assert (downloader._open_url, downloader.MAX_RETRIES) == before
    assert set(threading.enumerate()) <= threads
    with quiet(), pytest.raises(ModuleNotFoundError):
        mnist.tf.io  # noqa: B018


def test_a_download_with_a_wrong_checksum_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    archives, _ = _mnist_archives(monkeypatch)
    manual = tmp_path / "downloads" / "manual" / "mnist"
    _put_archives(mnist.MNIST, archives, manual, monkeypatch)
    (manual / "t10k-labels-idx1-ubyte.gz").write_bytes(b"truncated")
    assert "has wrong checksum" in _complaint("mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["downloads"]


def test_a_data_dir_that_cannot_be_made_is_one_line(tmp_path: Path, no_network: None) -> None:
    (tmp_path / "file").write_text("")
    message = _complaint("mnist", tmp_path / "file" / "data")
    assert "data.data_dir" in message
    assert "Not a directory" in message


def test_a_builder_that_needs_tensorflow_says_so(tmp_path: Path) -> None:
    message = _complaint("tiny_needy", tmp_path)
    assert "its builder needs TensorFlow" in message
    assert "tfds build tiny_needy --file_format=array_record" in message
    assert list(tmp_path.iterdir()) == []


def _remove_shard(directory: Path) -> None:
    next(directory.glob("*-train.array_record*")).unlink()


def _empty_shard(directory: Path) -> None:
    next(directory.glob("*-train.array_record*")).write_bytes(b"")


def _truncate_shard(directory: Path) -> None:
    shard = next(directory.glob("*-train.array_record*"))
    shard.write_bytes(shard.read_bytes()[: -shard.stat().st_size // 2])


def _corrupt_shard(directory: Path) -> None:
    shard = next(directory.glob("*-train.array_record*"))
    content = bytearray(shard.read_bytes())
    content[2000:4000] = bytes(2000)
    shard.write_bytes(content)


def _remove_info(directory: Path) -> None:
    (directory / "dataset_info.json").unlink()


def _remove_all(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


def _truncate_info(directory: Path) -> None:
    (directory / "dataset_info.json").write_text("{")


def _claim_tfrecord(directory: Path) -> None:
    info = directory / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_remove_shard, "can't be read"),
        (_empty_shard, "can't be read"),
        (_truncate_shard, "can't be read"),
        (_corrupt_shard, "can't be read"),
        (_remove_info, "is incomplete (no dataset_info.json"),
        (_remove_all, "is incomplete (no dataset_info.json"),
        (_truncate_info, "can't be opened"),
        (_claim_tfrecord, "was prepared as tfrecord; expected array_record"),
    ],
)
def test_damaged_data_are_one_line_that_names_the_directory(
    damage: Callable[[Path], None], complaint: str, copy: Path
) -> None:
    damage(copy / "tiny_colours" / "1.0.0")
    message = _complaint("tiny_colours", copy)
    assert complaint in message
    assert "data.data_dir" in message
    assert str(copy) in message


def test_leftovers_of_an_interrupted_preparation_do_not_disturb(copy: Path) -> None:
    version = copy / "tiny_colours" / "1.0.0"
    version.rename(version.with_name("incomplete.ABCDEF_1.0.0"))
    _remove_shard(version.with_name("incomplete.ABCDEF_1.0.0"))
    assert _by_content(*_load("tiny_colours", copy).train) == _by_content(*TINY["train"])


def test_an_unknown_name_gets_a_suggestion_and_the_choices(tmp_path: Path) -> None:
    message = _complaint("cifar_10", tmp_path)
    assert message.startswith(
        "data.name='cifar_10': no such dataset (did you mean 'cifar10'?); expected digits, mnist, "
    )


def test_an_unknown_split_lists_those_there_are(prepared: Path) -> None:
    message = _complaint("tiny_colours", prepared, train="training")
    assert message.startswith("data.train_split='training': no split 'training'; expected ")
    assert "train" in message
    assert "test" in message


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        (
            "tiny_reviews",
            "expected a dataset with features 'image' and 'label', or 'text' alone, found text, stars",
        ),
        ("tiny_ragged", "data.size: expected a side in pixels that the images of 'tiny_ragged', which"),
        ("tiny_unlabelled", "expected a label from 0 to 6, found -1 (a split without labels?)"),
        ("emnist/nonsense", "data.name='emnist/nonsense' can't be opened"),
    ],
)
def test_data_of_the_wrong_kind_are_one_line(name: str, complaint: str, tmp_path: Path) -> None:
    assert complaint in _complaint(name, tmp_path)


def test_texts_are_prepared_without_tensorflow_and_read_as_blocks_of_bytes(tmp_path: Path) -> None:
    fields = {"name": "tiny_text", "data_dir": str(tmp_path), "train_split": "train", "test_split": "test"}
    found = load(ConfigDict(fields | {"block": 10}))
    one, other = TEXTS["train"]
    orders = [f"{one}\n{other}", f"{other}\n{one}"]  # TFDS shuffles by keys
    assert found.train.images.tobytes() in [text.encode()[:30] for text in orders]
    np.testing.assert_array_equal(found.train.images.ravel()[1:], found.train.labels.ravel()[:-1])
    text = TEXTS["test"][0].encode()
    assert [bytes(row) for row in found.test.images] == [text[:10], text[10:20], text[20:30]]
    assert (found.num_classes, found.is_text, found.mean) == (256, True, ())


LEGACY = {"type": "stranger.Image", "content": {"shape": [4, 4, 1]}}
PRESENT = {
    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "featuresDict": {
        "features": {"image": {"pythonClassName": "stranger.Image", "image": {"dtype": "uint8"}}}
    },
}
DISGUISED = {"python_class_name": "tensorflow_datasets.core.features.x/../../stranger.Image"}


@pytest.mark.parametrize("features", [LEGACY, PRESENT, DISGUISED], ids=["legacy", "present", "disguised"])
def test_a_directory_that_names_a_class_of_others_is_refused_before_that_is_imported(
    features: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    prepared = tmp_path / "data" / "odd_images" / "1.0.0"
    prepared.mkdir(parents=True)
    (prepared / "features.json").write_text(json.dumps(features))
    (prepared / "dataset_info.json").write_text(json.dumps({"name": "odd_images", "version": "1.0.0"}))
    complaint = _complaint("odd_images", tmp_path / "data")
    assert complaint.startswith(f"data.data_dir: {prepared / 'features.json'} names '")
    assert "stranger" not in sys.modules


def test_the_home_directory_of_nobody_is_refused() -> None:
    assert "no home directory of such a user" in _complaint("tiny_colours", Path("~nosuchuser/x"))
