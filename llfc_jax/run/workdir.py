"""The directory of one run: who owns it, and who is at work in it.

Everything in it that is used again, checkpoints and results too, carries the configuration that it was made
by, and none of another is taken, whichever of the files are left.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llfc_jax.errors import UserError
from llfc_jax.runtime import processes
from llfc_jax.storage import checkpoint
from llfc_jax.storage.files import read_json, write_json, writing

CONFIG, RESULTS, CHECKPOINTS = "config.json", "results.json", "checkpoints"

_WRITTEN = ("report.html", "curves.csv", "layers.csv", "runs.csv", "measures.csv")
"""What a run writes anew each time, and what doesn't say of which run it is."""

_HOW = ("fsdp", "data.memory", "data.workers")
"""Fields that say how things are computed, not what: a run may go on otherwise, on another machine."""

_AFTER_TRAINING = (
    "measures",
    "lmc",
    "llfc",
    "path",
    "plane",
    "principal_angles",
    "align",
    "merge",
    "corrections",
    "eval",
    "sample",
    "verdict",
)
"""Sections that say what is done with the networks once they are there."""

_NO_LOCKS_HERE = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""What file systems without locks on directories answer, such as some of a network."""


@contextlib.contextmanager
def claimed(
    workdir: Path,
    config: dict[str, Any],
    *,
    flag: str = "--workdir",
    outgrown: dict[str, Any] | None = None,
) -> Iterator[None]:
    """Make `workdir` the place of this configuration, and of this process for a while.

    Of several processes the first does so; the others look whether they see it.

    Args:
        workdir: made if it isn't there.
        config: what everything in it is made by.
        flag: what an error advises to change.
        outgrown: another configuration, all of whose runs are this one's, too; what it says of them together
            makes way.

    Raises:
        UserError: it belongs to another configuration, another process is at work in it, it can't be
            written, or it was deleted meanwhile.
    """
    directory, config = None, json.loads(json.dumps(config))
    try:
        with processes.in_turn():
            if processes.is_first():
                with writing(workdir):
                    workdir.mkdir(parents=True, exist_ok=True)
                    directory = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)
                _lock(directory, workdir, flag)
                check_owner(workdir, config, flag=flag, outgrown=outgrown)
                with writing(workdir):
                    if outgrown and what(outgrown) != what(config) and is_finished(workdir, outgrown):
                        (workdir / RESULTS).unlink()
                    if recorded(workdir) in (None, outgrown):
                        write_json(workdir / CONFIG, config)
            elif not (workdir / CONFIG).exists():
                raise UserError(f"{flag}={workdir}: expected a directory that all processes share")
        yield
        if not (workdir / CONFIG).exists():
            raise UserError(f"{workdir} was deleted while this run was at work; the same command starts anew")
    finally:
        if directory is not None:
            os.close(directory)


def check_owner(
    workdir: Path,
    config: dict[str, Any],
    *,
    flag: str = "--workdir",
    outgrown: dict[str, Any] | None = None,
) -> None:
    """Check that all there is in `workdir` was made by this configuration, or the outgrown one.

    Raises:
        UserError: something was made by another one, or by no run.
    """
    config = json.loads(json.dumps(config))
    fitting = [what(one) for one in (config, outgrown) if one is not None]
    owners = [*_owners(workdir)]
    if not owners and (taken := [name for name in _WRITTEN if (workdir / name).exists()]):
        raise UserError(
            f"{workdir} holds {', '.join(taken)}, which no run there has written; choose another {flag}"
        )
    for path, owner in owners:
        if what(owner) not in fitting:
            field, theirs, ours = _first_difference(what(owner), what(config))
            place = workdir if path.name == CONFIG else path
            raise UserError(
                f"{place} belongs to another run: config.{field} was {theirs!r} there and is {ours!r} now; "
                f"choose another {flag}{_hint(workdir, field)}"
            )


def recorded(workdir: Path) -> Any:
    """The configuration that a workdir belongs to; None where it says none."""
    return read_json(workdir / CONFIG) if (workdir / CONFIG).exists() else None


def is_finished(workdir: Path, config: dict[str, Any]) -> bool:
    """Whether the results of this very configuration are there."""
    results = workdir / RESULTS
    if not results.exists():
        return False
    return what(_config_of(read_json(results))) == what(json.loads(json.dumps(config)))


def what(config: Any) -> Any:
    """What makes the numbers of a configuration as JSON has it."""
    return _without(config, _HOW)


def training(config: Any) -> Any:
    """What makes the networks of a configuration as JSON has it."""
    return _without(config, (*_HOW, *_AFTER_TRAINING))


def _without(config: Any, fields: Sequence[str]) -> Any:
    """The same without some fields.

    Example:
        >>> _without({"seed": 0, "data": {"name": "digits", "workers": 2}}, ("data.workers",))
        {'seed': 0, 'data': {'name': 'digits'}}
    """
    if not isinstance(config, dict):
        return config
    parts = [field.partition(".") for field in fields]
    return {
        name: _without(value, [rest for section, _, rest in parts if section == name])
        for name, value in config.items()
        if name not in fields
    }


def _owners(workdir: Path) -> Iterator[tuple[Path, Any]]:
    """Every file and checkpoint that says by which configuration it was made."""
    if (workdir / CONFIG).exists():
        yield workdir / CONFIG, read_json(workdir / CONFIG)
    for network in sorted((workdir / CHECKPOINTS).glob("*")):
        for step in checkpoint.steps(network):
            if (config := checkpoint.read_metadata(network, step).get("config")) is not None:
                yield network / str(step), config
    if (workdir / RESULTS).exists() and (config := _config_of(read_json(workdir / RESULTS))) is not None:
        yield workdir / RESULTS, config


def _config_of(results: Any) -> Any:
    """On record in `results.json`."""
    return results.get("config") if isinstance(results, dict) else None


def _lock(directory: int, workdir: Path, flag: str) -> None:
    """Until the process ends, however it ends: the lock lies on the open directory, and leaves no file."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another process is at work in {workdir}; wait for its end, or choose another {flag}"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise


def _hint(workdir: Path, field: str) -> str:
    """How to measure the networks of a run in another way, where no other training is asked for."""
    if field.partition(".")[0] not in _AFTER_TRAINING:
        return ""
    a, b = (f"--config.pair.{name}={workdir / CHECKPOINTS / name}" for name in "ab")
    return f", and to take its networks as they are, add {a} {b}"


def _first_difference(theirs: Any, ours: Any, field: str = "") -> tuple[str, Any, Any]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in [*ours, *theirs]:
            if theirs.get(name) != ours.get(name):
                return _first_difference(theirs.get(name), ours.get(name), f"{field}.{name}".lstrip("."))
    return field, theirs, ours
