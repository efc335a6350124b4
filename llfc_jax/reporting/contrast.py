"""Several runs as one: their paths side by side in the same figures and tables."""

from collections.abc import Mapping
from typing import Any

from llfc_jax.errors import UserError
from llfc_jax.measures import MEASURES
from llfc_jax.reporting import reading
from llfc_jax.reporting.reading import Results
from llfc_jax.results import NetworkKey, PathKey

BY_PATH = (*MEASURES, "alignment", "weights", "samples")
"""What is keyed by path."""

SHARED = (
    *(("model", field) for field in ("stages", "parameters")),
    *(("data", field) for field in ("name", "fingerprint", "test_examples", "measured_train_examples")),
    ("config", "verdict"),
)
"""What runs must have in common, by section of `results.json`."""


def combine(runs: Mapping[str, Results]) -> dict[str, Any]:
    """Results whose paths and networks bear the name of their run: `RUN|a-b`.

    Args:
      runs: Name -> results, of one architecture and data set.

    Raises:
      UserError: if they have different architectures, data, or alphas at which features were looked at.
    """
    check_alike(runs)
    first = next(iter(runs.values()))
    combined: dict[str, Any] = {
        "schema_version": first["schema_version"],
        "config": {"name": " · ".join(runs), "verdict": first["config"].get("verdict", {})},
        "data": first["data"],
        "model": first["model"],
    }
    for section in ("endpoints", *BY_PATH):
        entries = {
            str(_in_run(key, name, section)): entry
            for name, results in runs.items()
            for key, entry in results.get(section, {}).items()
        }
        combined |= {section: entries} if entries else {}
    _check_alphas(combined)
    return combined


def check_alike(runs: Mapping[str, Results]) -> None:
    """Check that runs can be put side by side.

    Raises:
      UserError: they have different architectures, data or criteria.
    """
    first_name, first = next(iter(runs.items()))
    for name, results in runs.items():
        for section, field in SHARED:
            expected, found = (
                dict(reading.flat({field: each[section].get(field)})) for each in (first, results)
            )
            for own in [*expected, *found]:
                if found.get(own) != expected.get(own):
                    raise UserError(
                        f"{name}: expected the {section}'s {own} of {first_name}, "
                        f"{_short(expected.get(own))}; found {_short(found.get(own))}"
                    )


def _in_run(key: str, run: str, section: str) -> NetworkKey | PathKey:
    return (
        NetworkKey.parse(key)._replace(run=run) if section == "endpoints" else PathKey.parse(key).in_run(run)
    )


def _check_alphas(combined: Results) -> None:
    """Figures give a colour to each alpha at which features were looked at; curves have a common axis."""
    for section in set(BY_PATH) - {"lmc"}:
        found = {tuple(entry.get("alphas", ())) for entry in combined.get(section, {}).values()}
        if len(found) > 1:
            raise UserError(f"llfc.alphas: expected the same in all runs; found {sorted(found)}")


def _short(value: Any) -> str:
    return f"{value[0]} ... {value[-1]} ({len(value)})" if isinstance(value, list) else str(value)
