"""The manners of the command line: one line for bad input, logs in a file."""

import argparse
import contextlib
import difflib
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from llfc_jax.errors import UserError, first_line
from llfc_jax.runtime import interrupts, limits, output, processes

ADVICE = "a smaller config.model.width, eval.batch_size, eval.alpha_chunk or data split needs less"

_ASKED = re.compile(r"allocat\D*(\d+) bytes|\((\d+)B\)")
"""In messages of XLA, of CPUs and of accelerators."""


def run(command: Callable[[], None]) -> int:
    """Run a command; what is wrong with its input, or with the machine, becomes one line on standard error.

    Returns:
        The exit code: 0, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM.
    """
    try:
        with output.readable():
            limits.check_address_space()
            command()
            line, code = "", 0
    except SystemExit as stop:  # after --help
        line, code = "", stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:  # where `interrupts` is not installed, as in somebody's own process
        line, code = interrupts.line(signal.SIGINT), interrupts.exit_code(signal.SIGINT)
    except UserError as error:
        line, code = f"llfc_jax: {error}", 2
    except OSError as error:
        line, code = f"llfc_jax: {error.filename or 'a file'}: {error.strerror or error}", 2
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            line, code = f"llfc_jax: {out_of_memory(error)}", 2
        elif processes.is_loss(error):
            logging.getLogger(__name__).warning("what another process doesn't answer to", exc_info=error)
            line, code = f"llfc_jax: {processes.LOST}", processes.LOST_CODE
        elif processes.count() > 1:
            line, code = traceback.format_exc(), 1
        else:
            raise
    if line and processes.speaks(line):
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)
    if processes.count() > 1:
        processes.end(code)
    return code


def out_of_memory(error: BaseException) -> str:
    """What was asked for, what there is, and what needs less."""
    if isinstance(error, MemoryError):
        what, there = "memory", limits.host_memory_bytes()
    else:
        from llfc_jax.runtime import environment  # with JAX, whose error it is

        what, there = "the device's memory", environment.memory_bytes()
    found = _ASKED.search(str(error))
    asked = f"{int(found[1] or found[2]) / 2**30:,.1f} GiB asked for at once" if found else first_line(error)
    return f"out of {what}: {asked}, of {there / 2**30:,.1f} GiB that are there in all; {ADVICE}"


class Parser(argparse.ArgumentParser):
    """A parser of flags whose complaints are one line; `--help` shows a text as it is written."""

    def __init__(self, usage: str, text: str | None, epilog: str = "") -> None:
        super().__init__(
            usage=usage,
            description=(text or "").strip(),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Instead of the usage and exit code 2.

        Raises:
            UserError: always.
        """
        raise UserError(message.removeprefix("argument "))

    def print_help(self, file: Any = None) -> None:
        """As results are printed: argparse says nothing where the text can't be written."""
        del file
        output.show(self.format_help().rstrip())

    def parse_all(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the flags.

        Raises:
            UserError: one is unknown, or has no value.
        """
        found, rest = self.parse_known_args(arguments)
        for flag in rest:
            name = flag.partition("=")[0]
            if not flag.startswith("-"):
                raise UserError(f"unexpected argument {flag!r}: fields are set as --config.FIELD=VALUE")
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(known)}"
            raise UserError(f"{name}: no such flag; {hint}")
        return found


@contextlib.contextmanager
def logs_to(path: Path) -> Iterator[None]:
    """Send the logs and warnings of all libraries to `path`, appending, instead of to the terminal.

    XLA's own log, which knows the terminal alone, is silenced where JAX isn't imported yet.
    """
    from absl import logging as absl_logging  # Orbax's

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    handler = _LogFile(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("llfc_jax").setLevel(logging.INFO)
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable  # to the end of the process, when the last of them come
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
    """Log what Python can only print, such as the end of coroutines that Orbax leaves behind an error."""
    logging.getLogger("python").warning("ignored in %r: %r", unraisable.object, unraisable.exc_value)
