"""What a paper published beside what was found, for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from llfc_jax.reporting import reading
from llfc_jax.reporting.console import written

_SHOW: Mapping[str, Callable[[float | None], str]] = {
    "nats": reading.nats,
    "%": reading.percent,
    "part": reading.ratio,
}


def terminal(record: Mapping[str, Any], *, note: str, width: int = 100, colour: bool = False) -> str:
    """The title, a table of ours and theirs, and what to keep in mind.

    Args:
        record: the contents of `reproduction.json`.
        note: what else is to be said.
        width: columns at hand.
        colour: whether to use a terminal's colours.

    Returns:
        The text, without a final newline.
    """
    table = Table("", box=None, pad_edge=False, header_style="none")
    table.add_column("ours", justify="right")
    table.add_column("published")
    for row in record["rows"]:
        table.add_row(row["quantity"], over_runs(row["ours"], row["unit"]), row["published"] or "–")
    title = Text(f"{record['source']}: {record['title']}", "bold")
    return written(lambda console: console.print(title, table, "", note, sep="\n"), width, colour)


def over_runs(values: Sequence[float | None], unit: str) -> str:
    """The mean and standard deviation of what runs found, or all there is.

    Example:
        >>> over_runs([0.011, 0.013], "%"), over_runs([1.5], "nats"), over_runs([], "%")
        ('1.20 % ± 0.14 %', '1.500', 'not run')
    """
    if not values:
        return "not run"
    show, known = _SHOW[unit], [value for value in values if value is not None]
    if len(known) < 2:
        return show(known[0] if known else None)
    return f"{show(float(np.mean(known)))} ± {show(float(np.std(known, ddof=1)))}"
