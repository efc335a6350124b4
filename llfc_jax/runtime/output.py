"""Standard output: what the command was run for, whatever stands at the other end."""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from llfc_jax.errors import UserError
from llfc_jax.runtime import processes

_PLAIN = {
    "α": "alpha",
    "π": "pi",
    "θ": "theta",
    "σ": "sigma",
    "ρ": "rho",
    "½": "1/2",
    "–": "-",
    "−": "-",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "×": "x",
    "·": "*",
    "‖": "||",
    "²": "^2",
    "’": "'",
}
"""How to write, in ASCII, what tables and names of networks hold."""


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Let standard output and error be printed to, in whatever encoding, for as long as a command runs.

    Raises:
        UserError: standard output is closed.
    """
    if sys.stderr is None:  # print would take standard output instead
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        raise UserError("standard output is closed: expected a terminal, a file or a pipe")
    codecs.register_error("llfc_jax.plain", _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="llfc_jax.plain")
    yield


def show(text: str) -> None:
    """Print to standard output, now; of several processes, the first does.

    Raises:
        UserError: it is full, or nobody reads it any more.
    """
    if not processes.is_first():
        return
    try:
        print(text, flush=True)
    except (OSError, ValueError) as error:
        _discard_the_rest()
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"standard output: {reason}") from error


def divert_libraries(log: Path) -> None:
    """Send what libraries of C++ print to a file, for the rest of the process; Python prints as before."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for name in ("stdout", "stderr"):
            before = getattr(sys, name)
            descriptor = before.fileno()
            kept = open(os.dup(descriptor), "w", encoding=before.encoding, errors=before.errors)  # noqa: SIM115
            before.flush()
            setattr(sys, name, kept)
            os.dup2(file.fileno(), descriptor)


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unfit = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in unfit), error.end


def _discard_the_rest() -> None:
    """Python would try again, and complain, when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
