"""What whoever waits is told: on a terminal, one bar per stage with an ETA; elsewhere a line now and then."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llfc_jax.runtime import processes

Item = TypeVar("Item")
Advance = Callable[[int, str], None]

SILENCE_S = 30.0
"""How long a stage may last in a pipe or file before it says how far it is."""

_console = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """One line for the reader, and for the log; of several processes, the first says it."""
    if not processes.is_first():
        return
    logging.getLogger(__name__).info(line)
    _console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def bar(label: str, total: int | None) -> Iterator[Advance]:
    """Show how far a stage is: by a bar that vanishes when it is over, or by lines where nobody watches.

    Without a total it only says that something goes on.

    Yields:
        `advance(steps, note)`.
    """
    with (
        _drawn(label, total)
        if _console.is_terminal and processes.is_first()
        else _told(label, total) as advance
    ):
        yield advance


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """The items, with a bar that advances by each; where there is none, one line when all are done."""
    started = time.monotonic()
    with bar(label, total) as advance:
        for item in items:
            yield item
            advance(1, "")
    if not _console.is_terminal:
        say(f"{label}: {time.monotonic() - started:.1f} s")


@contextlib.contextmanager
def _drawn(label: str, total: int | None) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console, transient=True) as progress:
        task = progress.add_task(label, total=total, note="" if total is None else "compiling")

        def advance(steps: int, note: str) -> None:
            progress.update(task, advance=steps, note=note)

        yield advance


@contextlib.contextmanager
def _told(label: str, total: int | None) -> Iterator[Advance]:
    started = said = time.monotonic()
    done = 0

    def advance(steps: int, note: str) -> None:
        nonlocal said, done
        done += steps
        if total and done < total and (now := time.monotonic()) - said >= SILENCE_S:
            said = now
            left = (now - started) * (total - done) / done
            say(f"{label}: {done} of {total}{f', {note}' if note else ''}, {_duration(left)} left")

    yield advance


def _duration(seconds: float) -> str:
    """For people.

    Example:
        >>> _duration(59.6), _duration(90), _duration(4000)
        ('60 s', '1.5 min', '1.1 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
