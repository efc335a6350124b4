"""What a terminal shows while a stage runs: one bar with an ETA, then one line."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Advance = Callable[[int, str], None]

_console = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """One line for the reader, and for the log."""
    logging.getLogger(__name__).info(line)
    _console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def bar(label: str, total: int | None) -> Iterator[Advance]:
    """A bar that vanishes when its stage is over (and never shows where nobody watches, as in a pipe).

    Without a total it only says that something goes on.

    Yields:
        `advance(steps, note)`.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console, transient=True, disable=not _console.is_terminal) as progress:
        task = progress.add_task(label, total=total, note="")

        def advance(steps: int, note: str) -> None:
            progress.update(task, advance=steps, note=note)

        yield advance


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """The items, with a bar that advances by each."""
    with bar(label, total) as advance:
        for item in items:
            yield item
            advance(1, "")
