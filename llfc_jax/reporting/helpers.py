"""Figures drawn by several processes, as Matplotlib draws one at a time in each.

A helper is a process of its own that knows nothing but what it is sent: the results, then names of figures.
It imports no JAX, and ends with its input, however the process that started it has ended.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import IO, Any

MOST = 3
"""More would import Matplotlib longer than they draw."""

_HELPER = "from llfc_jax.reporting import helpers; helpers.serve()"

_count = 0


@contextlib.contextmanager
def helped() -> Iterator[None]:
    """A stretch in which figures are drawn on all cores."""
    global _count
    before, _count = _count, min(MOST, (os.cpu_count() or 1) - 1)
    try:
        yield
    finally:
        _count = before


def draw_each(draw: Callable[[str], Any], names: Iterable[str], results: Any) -> Iterator[Any]:
    """What is drawn by each name, in their order, here and by helpers where there are any.

    Args:
        draw: name -> what is drawn here; also where a helper has ended before it was.
        names: of the figures.
        results: of which helpers draw it.
    """
    waiting = deque(names)
    drawn: dict[str, Future[Any]] = {name: Future() for name in waiting}
    for _ in range(_count):
        threading.Thread(target=_have_drawn, args=(results, waiting, drawn), daemon=True).start()
    try:
        for name, future in drawn.items():
            while waiting and not future.done():
                with contextlib.suppress(IndexError):  # a helper was faster
                    own = waiting.popleft()
                    drawn[own].set_result(draw(own))
            yield draw(name) if future.exception() else future.result()
    finally:
        waiting.clear()


def serve() -> None:
    """In a helper: answer names with figures, until there are no more."""
    from llfc_jax.reporting import drawing

    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    results = pickle.load(asked)
    with contextlib.suppress(EOFError):
        while True:
            pickle.dump(drawing.draw_one(pickle.load(asked), results), answers)
            answers.flush()


def _have_drawn(results: Any, waiting: deque[str], drawn: dict[str, Future[Any]]) -> None:
    """By one helper, what waits."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        contextlib.suppress(OSError, IndexError),  # none can be started, or nothing waits any more
        subprocess.Popen(
            [sys.executable, "-c", _HELPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what is wrong with a figure is said where it is drawn again
            env=environment,
            process_group=0,  # which Ctrl-C of a terminal doesn't reach
        ) as helper,
    ):
        assert helper.stdin is not None
        assert helper.stdout is not None
        _send(results, helper.stdin)
        while True:
            name = waiting.popleft()
            try:
                _send(name, helper.stdin)
                drawn[name].set_result(pickle.load(helper.stdout))
            except Exception as error:  # whatever it is: who waits must not wait for ever
                drawn[name].set_exception(error)
                return


def _send(item: Any, to: IO[bytes]) -> None:
    pickle.dump(item, to)
    to.flush()
