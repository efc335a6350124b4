"""First-time preparation of TFDS datasets on a machine without TensorFlow.

The builders of MNIST, CIFAR and their like compute nothing with TensorFlow: they, and the parts of TFDS that
extract archives and encode images, only use its file functions and its PNG and JPEG encoders. All of TFDS
reaches TensorFlow through one lazily imported module object. While a builder runs, `prepare` lets that object
resolve to a stand-in, which offers these few functions on top of the standard library and Pillow. A builder
that asks for more gets a `ModuleNotFoundError`, and the user a line that says so.
"""

import contextlib
import glob
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import numpy as np
from PIL import Image

from llfc_jax.errors import UserError, first_line
from llfc_jax.runtime import interrupts

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 60


def prepare(builder: Any, name: str) -> None:
    """Downloads the dataset of a TFDS builder and writes it as ArrayRecord.

    Archives that someone put into the data directory's `downloads/manual/<dataset>` save the download.
    Downloads go to a temporary directory, and a failure leaves nothing half-written behind. Without a network
    it fails within seconds.

    Args:
      builder: a `tfds.core.DatasetBuilder` whose data doesn't exist.
      name: the dataset's name, for messages.

    Raises:
      UserError: the dataset can't be prepared; says why, and what to do.
    """
    import tensorflow_datasets as tfds

    root = Path(builder.data_dir_root)
    contents = _describe(root)
    logging.getLogger(__name__).info("Preparing %s in %s", name, root)
    try:
        with (
            interrupts.cleaned_up(),
            _undone_on_failure(Path(builder.data_path)),
            _scratch_directory(root) as downloads,
            _tensorflow_stand_in(),
            _impatient_downloads(),
        ):
            builder.download_and_prepare(
                file_format="array_record",
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=_manual_dir(builder), try_download_gcs=False
                ),
            )
    except Exception as error:  # a builder can raise anything
        raise UserError(
            f"data.name={name!r} is not in data.data_dir={str(root)!r} ({contents}) and can't be prepared "
            f"there: {_explain(error, builder, name)}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the prints, informative logs and warnings of TFDS and of its downloads off the terminal."""
    loggers = [logging.getLogger(name) for name in ("absl", "urllib3")]
    levels = [logger.level for logger in loggers]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _describe(root: Path) -> str:
    if not root.exists():
        return "which does not exist"
    found = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return f"which holds {', '.join(found)}" if found else "which holds no datasets"


def _manual_dir(builder: Any) -> Path:
    """Where archives got by hand are looked for; one directory each, for MNIST's kin share file names."""
    return Path(builder.data_dir_root) / "downloads" / "manual" / builder.name


@contextlib.contextmanager
def _undone_on_failure(data_path: Path) -> Iterator[None]:
    """Removes directories that were made on the way to `data_path`, unless they hold anything."""
    default_variant = data_path.parent.parent / ".config" / "metadata.json"  # which TFDS writes up front
    candidates = (default_variant, default_variant.parent, data_path, *data_path.parents)
    absent = [path for path in candidates if not path.exists()]
    try:
        yield
    except BaseException:
        for path in absent:
            with contextlib.suppress(OSError):
                path.unlink() if path.is_file() else path.rmdir()
        raise


@contextlib.contextmanager
def _scratch_directory(root: Path) -> Iterator[str]:
    """A temporary directory in `root`, hence on the disk that has room for the data."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="downloads.", dir=root, ignore_cleanup_errors=True) as scratch:
        yield scratch


def _explain(error: BaseException, builder: Any, name: str) -> str:
    """Why the preparation failed, and what to do about it."""
    import requests

    elsewhere = "set data.data_dir to a directory that holds it"
    for link in _chain(error):
        if isinstance(link, requests.RequestException):
            host = urlparse(getattr(link.request, "url", "")).hostname
            archives = {info.filename for info in (builder.url_infos or {}).values() if info.filename}
            return (
                f"no connection to {host} ({type(link).__name__}); connect to a network, put "
                f"{', '.join(sorted(archives)) or 'its archives'} into {_manual_dir(builder)}, or {elsewhere}"
            )
        if isinstance(link, ImportError) and link.name == "tensorflow":
            return (
                f"its builder needs TensorFlow; {elsewhere}, made where TensorFlow is installed by "
                f"'tfds build {name} --file_format=array_record'"
            )
        if isinstance(link, ImportError):
            return f"its builder needs the package {link.name!r}; install it, or {elsewhere}"
    return f"{first_line(error)}; {elsewhere}, or to a place where it can be prepared"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _swapped(namespace: dict[str, Any], **values: Any) -> Iterator[None]:
    """Replaces entries of a module's or object's namespace for a while."""
    before = {name: namespace[name] for name in values if name in namespace}
    namespace.update(values)
    try:
        yield
    finally:
        for name in values:
            del namespace[name]
        namespace.update(before)


def _tensorflow_stand_in() -> contextlib.AbstractContextManager[None]:
    from tensorflow_datasets.core.utils import lazy_imports_utils

    # `_module` is where etils' lazy module caches what it imported.
    return _swapped(vars(lazy_imports_utils.tensorflow), _module=_stand_in())


@contextlib.contextmanager
def _impatient_downloads() -> Iterator[None]:
    """TFDS tries ten times, for three minutes, and without a time limit; two tries of a few seconds do.

    Downloads and extractions that run beside a failed one are waited for: afterwards they would be patient
    again, write into a directory that is being removed, and keep the process from ending.
    """
    from tensorflow_datasets.core.download import downloader, extractor

    open_url, workers = downloader._open_url, []

    def open_in_time(url: str, **kwargs: Any) -> Any:
        return open_url(url, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S), **kwargs)

    def own(
        make: Callable[..., Any],
    ) -> Callable[..., Any]:  # TFDS's own one is shared and can't be shut down
        def made(*args: Any, **kwargs: Any) -> Any:
            workers.append(make(*args, **kwargs))
            return workers[-1]

        return made

    downloads = {
        "MAX_RETRIES": 1,
        "_open_url": open_in_time,
        "get_downloader": own(downloader._Downloader),
    }
    extractions = {"get_extractor": own(extractor._Extractor)}
    with _swapped(vars(downloader), **downloads), _swapped(vars(extractor), **extractions):
        try:
            yield
        finally:
            for one in workers:
                one._executor.shutdown(cancel_futures=True)


class _Partial(SimpleNamespace):
    """A namespace that says, when asked for something it lacks, that TensorFlow is needed."""

    def __getattr__(self, name: str) -> Any:
        raise ModuleNotFoundError(f"tensorflow is needed for {name!r}", name="tensorflow")


def _encoder(image_format: str) -> Callable[[np.ndarray], SimpleNamespace]:
    def encode(image: np.ndarray) -> SimpleNamespace:
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, image_format)
        # TFDS expects an eager tensor.
        return SimpleNamespace(numpy=buffer.getvalue)

    return encode


def _stand_in() -> _Partial:
    """The little of TensorFlow's interface that TFDS's image builders use."""
    return _Partial(
        compat=_Partial(as_text=lambda text: text.decode() if isinstance(text, bytes) else text),
        executing_eagerly=lambda: True,
        image=_Partial(encode_jpeg=_encoder("jpeg"), encode_png=_encoder("png")),
        io=_Partial(
            gfile=_Partial(
                GFile=open,
                exists=os.path.exists,
                glob=glob.glob,
                isdir=os.path.isdir,
                listdir=os.listdir,
                remove=os.remove,
                walk=os.walk,
            )
        ),
    )
