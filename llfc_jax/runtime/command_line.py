"""The manners of the command line: one line for bad input, logs in a file."""

import _thread
import contextlib
import difflib
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from llfc_jax.errors import UserError

DEFAULT_CONFIG = "configs/digits_mlp.py"


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `UserError`, or what the operating system refuses, into one line and exit code 2."""
    try:
        yield
    except UserError as error:
        _fail(str(error), code=2)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", code=2)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from here", code=130)


def name_config(argv: list[str]) -> None:
    """Insert the default configuration where none is named.

    As the flag's own default it would be loaded, and the overrides checked, before errors can be caught.
    """
    if not any(arg.lstrip("-").partition("=")[0] == "config" for arg in argv[1:]):
        argv.insert(1, f"--config={DEFAULT_CONFIG}")


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parse flags as absl does, except that `--help` is a success.

    Raises:
        UserError: names the flag or field, and the valid choices.
    """
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            flags.FLAGS.config.keys()  # a file that couldn't be read complains only when it is used
        return rest
    except SystemExit as stop:  # after --help, with absl's code 1
        raise SystemExit(0) from stop
    except Exception as error:  # whatever the user's file raises, besides the flag library's own errors
        if "config" in flags.FLAGS:
            _explain_config(argv)
        last_line = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(last_line[0]) from error


def split_names(config: ConfigDict) -> None:
    """Take the names in `--config.measures=lmc,llfc`, which arrive as one, apart."""
    if isinstance(names := config.get("measures"), tuple):
        config.measures = tuple(name for one in names for name in str(one).split(","))


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Send the logs and warnings of all libraries to `path`, appending, instead of to the terminal.

    XLA's own log, which knows the terminal alone, is silenced where JAX isn't imported yet.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    handler = _LogFile(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("llfc_jax").setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable
    with warnings.catch_warnings():
        yield


class _LogFile(logging.FileHandler):
    """A file that is made, with its directory, by the first record, and never in the way of the work."""

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (its name in the standard library)
        del record


def _log_unraisable(unraisable: Any) -> None:
    """Log what Python can only print, such as the end of coroutines that Orbax leaves behind an error.

    An interrupt that came while it was inside such a callback is sent again.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _thread.interrupt_main()
    logging.getLogger("python").warning("ignored in %r: %r", unraisable.object, unraisable.exc_value)


def _fail(line: str, code: int) -> None:
    print(f"llfc_jax: {line}", file=sys.stderr)
    sys.exit(code)


def _explain_config(argv: Sequence[str]) -> None:
    """Raise with a better reason than the flag library's, if one of the config flags is at fault."""
    values = _flag_values(argv)
    path = Path(values.get("config", DEFAULT_CONFIG).partition(":")[0])
    if not path.is_file():
        known = sorted(str(file) for file in Path("configs").glob("*.py") if file.stem != "__init__")
        raise UserError(f"--config: no file {path}; expected one of {', '.join(known) or 'configs/*.py'}")
    try:
        config = ConfigFileFlagParser("config").parse(values.get("config", DEFAULT_CONFIG))
    except Exception as error:  # whatever the user's file raises
        last_line = str(error).strip().splitlines()[-1:] or [""]
        raise UserError(f"--config={path}: {type(error).__name__}: {last_line[0]}") from error
    for name in values:
        if name.startswith("config."):
            _check_field(config, name.split(".")[1:])


def _flag_values(argv: Sequence[str]) -> dict[str, str]:
    """Flag -> value, from `--flag=value` and `--flag value`."""
    values = {}
    for arg, following in itertools.pairwise([*argv[1:], ""]):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-"):
            values[name] = value if equals else following
    return values


def _check_field(config: ConfigDict, keys: list[str]) -> None:
    for depth, key in enumerate(keys):
        if not isinstance(config, ConfigDict) or key not in config:
            choices = sorted(config) if isinstance(config, ConfigDict) else []
            close = difflib.get_close_matches(key, choices, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            parent = ".".join(["config", *keys[:depth]])
            raise UserError(
                f"{parent} has no field {key!r}: {hint}expected one of {', '.join(choices) or 'nothing'}"
            )
        config = config[key]
