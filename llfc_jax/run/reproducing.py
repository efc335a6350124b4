"""A figure or a table of a paper: run, and put beside what was published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from llfc_jax.reporting import reading, writing
from llfc_jax.run import points, sweep
from llfc_jax.run.published import Results, Row
from llfc_jax.run.reproduction import find
from llfc_jax.storage import files

FILE = "reproduction.json"


def run(
    name: str, config: ConfigDict, directory: Path, command: str, alone: str
) -> tuple[Path, dict[str, Any]]:
    """Run what isn't finished, and look up what was published.

    Args:
        name: a key of `REPRODUCTIONS`.
        config: of its runs.
        directory: the workdir.
        command: what the user typed, for the record.
        alone: what makes a single run of several, for the record of each.

    Returns:
        The report page, and what has been written to `reproduction.json`.

    Raises:
        UserError: bad input.
    """
    entry = find(name)
    axes = points.parse(entry.sweep)
    page = sweep.run(config, axes, directory, command, alone)
    made = [directory / point for point in points.points(config, axes)]
    runs = [writing.read_results(run) for run in made if (run / writing.RESULTS).exists()]  # none: diverged
    record = {
        "name": name,
        "source": entry.source,
        "title": entry.title,
        "rows": [
            {
                "quantity": row.quantity,
                "unit": row.unit,
                "ours": _values(row, runs),
                "published": row.published,
            }
            for row in entry.rows
        ],
    }
    with files.writing(directory):
        files.write_json(directory / FILE, record)
    return page, record


def _values(row: Row, runs: Sequence[Results]) -> list[float | None]:
    return [_value(row, results) for results in runs if _is_of(row, results["config"])]


def _value(row: Row, results: Results) -> float | None:
    """None where fields of the user's own have left out what it is found by."""
    try:
        return row.find(results)
    except (LookupError, ValueError):
        return None


def _is_of(row: Row, config: Mapping[str, Any]) -> bool:
    flat = dict(reading.flat(config))
    return all(flat.get(field) == value for field, value in row.fields.items())
