"""Several runs as one: their paths side by side in the same figures and tables."""

from collections.abc import Mapping
from typing import Any

from llfc_jax.errors import UserError
from llfc_jax.measures import MEASURES
from llfc_jax.report.reading import RUN_SEPARATOR, Results

BY_PATH = (*MEASURES, "theory", "alignment")
"""Measures keyed by path."""


def combine(runs: Mapping[str, Results]) -> dict[str, Any]:
    """Results whose paths and networks bear the name of their run: `RUN|a-b`.

    Args:
      runs: Name -> results, of one architecture and data set.

    Raises:
      UserError: if they have different stages or data.
    """
    first_name, first = next(iter(runs.items()))
    for name, results in runs.items():
        for section, field in (("model", "stages"), ("data", "name")):
            expected, found = first[section][field], results[section][field]
            if found != expected:
                raise UserError(
                    f"{name}: expected the {section}'s {field} of {first_name}, {_short(expected)}; "
                    f"found {_short(found)}"
                )
    combined: dict[str, Any] = {
        "schema_version": first["schema_version"],
        "config": {"name": " · ".join(runs)},
        "data": first["data"],
        "model": first["model"],
    }
    for section in ("endpoints", *BY_PATH):
        entries = {
            f"{name}{RUN_SEPARATOR}{key}": entry
            for name, results in runs.items()
            for key, entry in results.get(section, {}).items()
        }
        combined |= {section: entries} if entries else {}
    return combined


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value[0]} ... {value[-1]} ({len(value)})"
