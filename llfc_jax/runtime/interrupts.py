"""Ctrl-C, and SIGTERM, by which clusters end jobs: whenever one comes, one line and the exit code of shells.

Raising `KeyboardInterrupt` does not do. Python drops what is raised in a finaliser or in a callback of C
code, libraries catch it where they try imports, extensions crash where it comes into theirs, and nothing is
raised while XLA compiles. So the handler ends the process, and so does a thread that the signal wakes,
wherever the main thread is. Nothing is lost: every file is whole or absent at any time, as for `kill -9`.

Imports little, and what it can after the handlers are set: until then, signals are Python's, or wait.
"""

import _signal as signal  # without the enumerations that `signal` puts around it
import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None] | int

GOES_ON = "the same command goes on from here"
ANSWERED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""The signals, and what each has done to a process."""

GRACE_S = 5.0
"""For what is cleaned up on the way out, such as a download begun."""

_WITHOUT_CODES = ("dumb", "unknown")
"""Terminals, on which no bar has been drawn."""

_SHOW_CURSOR, _CLEAR_LINE = "\x1b[?25h", "\r\x1b[K"
_unsaid = ["the one line"]
_came, _cleaning = 0, False


def line(number: int) -> str:
    """What a process says that a signal ends."""
    return f"llfc_jax: {ANSWERED[number]}; {GOES_ON}"


def exit_code(number: int) -> int:
    """Of a process that a signal ends."""
    return 128 + number


def hold() -> None:
    """Have signals wait for `install`, be it in the program that this one becomes, or starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ANSWERED)


def install() -> None:
    """Take over the signals for this process, until it ends."""
    handle(_end_or_clean_up)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ANSWERED)
    import atexit
    import threading

    atexit.register(handle, signal.SIG_IGN)  # runs last: all is done and said by then
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(woken,), daemon=True).start()


def handle(handler: "Handler") -> None:
    """Have every signal answered by a handler."""
    for number in ANSWERED:
        signal.signal(number, handler)


@contextlib.contextmanager
def cleaned_up() -> "Iterator[None]":
    """A stretch that has something to clean up, for which a signal raises `KeyboardInterrupt` in it.

    The process ends after it in any case, whatever became of the exception.
    """
    global _cleaning
    _cleaning = True
    try:
        yield
    finally:
        _cleaning = False
        if _came:
            end(_came)


def end(number: int) -> None:
    """End the process with the one line, by a way on which nothing can be raised any more."""
    try:
        _unsaid.pop()
    except IndexError:  # the thread, or the call below this one, that is about to say it ends the process
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # where it is closed
        descriptor = sys.stderr.fileno()  # 2 may have been diverted
        draws = os.isatty(descriptor) and os.environ.get("TERM") not in _WITHOUT_CODES
        before = _SHOW_CURSOR + _CLEAR_LINE if draws else ""
        os.write(descriptor, f"{before}{line(number)}\n".encode())
    os._exit(exit_code(number))


def take_back() -> None:
    """Set the handlers again, if they are these: JAX, once it joins processes, has SIGTERM end nothing."""
    for number in ANSWERED:
        if signal.getsignal(number) is _end_or_clean_up:
            signal.signal(number, _end_or_clean_up)


def leave_to(send: "Callable[[int], None]") -> None:
    """Have a process that was started while signals were held answer those that come to this one."""
    signal.set_wakeup_fd(-1)
    handle(lambda number, frame: send(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ANSWERED)


def _end_or_clean_up(number: int, frame: "FrameType | None") -> None:
    global _came
    again, _came = _came, number
    if _cleaning and not again:
        raise KeyboardInterrupt
    end(number)


def _watch(woken: int) -> None:
    """End the process where the main thread can't: in a call of C code, or where the exception was lost."""
    import time

    while (number := os.read(woken, 1)[0]) not in ANSWERED:  # others that have a handler wake it, too
        pass
    time.sleep(GRACE_S if _cleaning else 0.2)  # first to go is the main thread, as long as it can
    end(number)
