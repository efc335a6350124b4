"""The directory of one run, and who owns it."""

import json
from pathlib import Path
from typing import Any

from llfc_jax.errors import UserError
from llfc_jax.storage.files import read_json, write_json, writing

CONFIG, RESULTS = "config.json", "results.json"


def check_owner(workdir: Path, config: dict[str, Any]) -> None:
    """Check that `workdir` belongs to this configuration, or to none yet.

    Raises:
        UserError: it belongs to another one.
    """
    if not (workdir / CONFIG).exists():
        return
    config, owner = json.loads(json.dumps(config)), read_json(workdir / CONFIG)
    if owner != config:
        field, theirs, ours = _first_difference(owner, config)
        raise UserError(
            f"{workdir} belongs to another run: config.{field} was {theirs!r} there and is {ours!r} now; "
            f"choose another directory{_hint(workdir, field)}"
        )


def _hint(workdir: Path, field: str) -> str:
    """How to measure the networks of a run in another way, where no other training is asked for."""
    if field.partition(".")[0] not in ("measures", "lmc", "llfc", "align", "merge", "corrections", "eval"):
        return ""
    a, b = (f"--config.pair.{name}={workdir / 'checkpoints' / name}" for name in "ab")
    return f", and to take its networks as they are, add {a} {b}"


def claim(workdir: Path, config: dict[str, Any]) -> None:
    """Make `workdir` the place of this configuration.

    Raises:
        UserError: it belongs to another configuration, or can't be written.
    """
    check_owner(workdir, config)
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        if not (workdir / CONFIG).exists():
            write_json(workdir / CONFIG, config)


def _first_difference(theirs: Any, ours: Any, field: str = "") -> tuple[str, Any, Any]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in [*ours, *theirs]:
            if theirs.get(name) != ours.get(name):
                return _first_difference(theirs.get(name), ours.get(name), f"{field}.{name}".lstrip("."))
    return field, theirs, ours
