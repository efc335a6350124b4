"""Ctrl-C: at whatever moment it comes, the process ends with one line and the exit code that shells expect.

Raising `KeyboardInterrupt` does not do. Python drops what is raised in a finaliser or in a callback of C
code, libraries catch it where they try imports, extensions crash where it comes into theirs, and nothing is
raised while XLA compiles. So the handler ends the process, and so does a thread that the signal wakes,
wherever the main thread is. Nothing is lost: every file is whole or absent at any time, as for `kill -9`.

Imports little, and what it can after the handler is set: until then, Ctrl-C is Python's.
"""

import _signal as signal  # without the enumerations that `signal` puts around it
import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import NoReturn

LINE = "llfc_jax: interrupted; the same command goes on from here"
EXIT_CODE = 130  # 128 + SIGINT
GRACE_S = 5.0
"""For what is cleaned up on the way out, such as a download begun."""

_SHOW_CURSOR, _CLEAR_LINE = "\x1b[?25h", "\r\x1b[K"
_unsaid = [LINE]
_came, _cleaning = False, False


def install() -> None:
    """Take over Ctrl-C for this process, until it ends."""
    signal.signal(signal.SIGINT, _interrupt)
    import atexit
    import threading

    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # runs last: all is done and said by then
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(woken,), daemon=True).start()


@contextlib.contextmanager
def cleaned_up() -> "Iterator[None]":
    """A stretch that has something to clean up, for which Ctrl-C raises `KeyboardInterrupt` in it.

    The process ends after it in any case, whatever became of the exception.
    """
    global _cleaning
    _cleaning = True
    try:
        yield
    finally:
        _cleaning = False
        if _came:
            end()


def end() -> "NoReturn":
    """End the process with the one line, by a way on which nothing can be raised any more."""
    with contextlib.suppress(IndexError, OSError):
        terminal = _SHOW_CURSOR + _CLEAR_LINE if os.isatty(2) else ""
        os.write(2, f"{terminal}{_unsaid.pop()}\n".encode())
    os._exit(EXIT_CODE)


def _interrupt(number: int, frame: "FrameType | None") -> None:
    global _came
    again, _came = _came, True
    if again or not _cleaning:
        end()
    raise KeyboardInterrupt


def _watch(woken: int) -> None:
    """End the process where the main thread can't: in a call of C code, or where the exception was lost."""
    import time

    while os.read(woken, 1)[0] != signal.SIGINT:  # other signals that have a handler wake it, too
        pass
    time.sleep(GRACE_S if _cleaning else 0.2)  # first to go is the main thread, as long as it can
    end()
