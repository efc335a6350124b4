"""What a paper published beside what was found, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from llfc_jax.reporting.console import written
from llfc_jax.reporting.groups import over_runs
from llfc_jax.reporting.overview import spread
from llfc_jax.storage.files import plain

_QUANTITIES = {"nats": "test_loss", "%": "test_error", "part": "llfc"}
"""Unit -> what `overview` knows it by."""


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
        table.add_row(row["quantity"], _ours(row["ours"], row["unit"]), row["published"] or "–")
    title = Text(f"{record['source']}: {record['title']}", "bold")
    return written(lambda console: console.print(title, table, "", note, sep="\n"), width, colour)


def _ours(values: Sequence[float | None], unit: str) -> str:
    """Of all runs.

    >>> _ours([0.011, 0.013], "%"), _ours([1.5], "nats"), _ours([], "%"), _ours([None], "%")
    ('1.20 ± 0.14 %', '1.500', 'not run', '–')
    """
    if not values:
        return "not run"
    found = spread(_QUANTITIES[unit], plain(over_runs(values)))
    return f"{found} %" if unit == "%" and found != "–" else found
