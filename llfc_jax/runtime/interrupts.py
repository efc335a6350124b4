"""Ctrl-C: at whatever moment it comes, the process ends with one line and the exit code that shells expect.

A handler that only raises `KeyboardInterrupt` is not enough. Python drops what is raised in a finaliser or in
a callback of C code, libraries catch it where they try imports, and nothing is raised while XLA compiles. So
the handler also leaves a mark, and a thread that the signal wakes ends the process after a moment's grace,
wherever the main thread is. Nothing is lost: every file is whole or absent at any time.

Imports little, since it has to be in place before the imports that take long.
"""

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

LINE = "llfc_jax: interrupted; the same command goes on from here"
EXIT_CODE = 130  # 128 + SIGINT
GRACE_S = 5.0
"""For what is cleaned up on the way out, such as a download begun."""

_SHOW_CURSOR, _CLEAR_LINE = "\x1b[?25h", "\r\x1b[K"
_came = threading.Event()
_cleaning = threading.Event()
_ending = threading.Lock()


def install() -> None:
    """Take over Ctrl-C for this process, until it ends.

    While `cleaned_up` runs the process unwinds; at other times, as in imports before and in the interpreter's
    own clean-up after, there is nothing to undo, and it ends at once.
    """
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGINT, _interrupt)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(woken,), daemon=True).start()
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # runs last: all is done and said by then


def came() -> bool:
    """Whether there was a Ctrl-C, whatever became of the exception that it raised."""
    return _came.is_set()


@contextlib.contextmanager
def cleaned_up() -> Iterator[None]:
    """A stretch in which Ctrl-C raises `KeyboardInterrupt`, for the sake of what has to be undone."""
    _cleaning.set()
    try:
        yield
    finally:
        _cleaning.clear()


def end() -> NoReturn:
    """End the process with the one line, by a way on which nothing can be raised any more."""
    if _ending.acquire(blocking=False):
        terminal = _SHOW_CURSOR + _CLEAR_LINE if os.isatty(2) else ""
        with contextlib.suppress(OSError):
            os.write(2, f"{terminal}{LINE}\n".encode())
        os._exit(EXIT_CODE)
    while True:  # the other thread is about to
        time.sleep(1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    again = _came.is_set()
    _came.set()
    if again or not _cleaning.is_set():
        end()
    raise KeyboardInterrupt


def _watch(woken: int) -> None:
    while os.read(woken, 1)[0] != signal.SIGINT:  # other signals that have a handler wake it, too
        pass
    time.sleep(GRACE_S)
    end()
