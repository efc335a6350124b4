"""The processes of one run: how they find each other, agree, take turns, and end together.

The same command is started several times, and each process holds the devices it sees. JAX joins them: arrays
are split over all devices, and every process runs the same programs on them, in the same order. What is
decided outside such programs, by files or clocks, is decided by the first process for all. It alone writes
results and speaks to the terminal; checkpoints are written by all of them, which share a file system.

Imports JAX when it is needed, so that a wrong flag is told at once.
"""

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

from llfc_jax.errors import UserError, first_line
from llfc_jax.runtime import interrupts

T = TypeVar("T")

PATIENCE_S = 120.0
"""How long to wait for the others at the start."""

HEARTBEAT_S = 30
"""After how much silence a process is taken for dead; one that a computation waits for is missed at once."""

REPORT_S = 60 * 60
"""For the first process to write the report, when the others are done."""

GRACE_S = 5.0
"""For ending together, where the others may be anywhere."""

LOST = f"another process of this run has ended, or can't be reached; {interrupts.GOES_ON}"
LOST_CODE = 3

_MARKS = (
    "gloo",
    "nccl",
    "unavailable",
    "deadline_exceeded",
    "heartbeat",
    "barrier failed",
    "connection reset",
    "connection closed",
)
"""Of errors in a computation whose other part doesn't answer."""

_FOREVER_MS = 7 * 24 * 60 * 60 * 1000
"""As long as the others are alive, which is watched elsewhere."""

_rounds = itertools.count()
_joined = False


class Place(NamedTuple):
    """Where a process stands among those of its run; what is None, JAX asks the cluster."""

    coordinator_address: str | None
    """HOST:PORT, at which the first process listens."""
    num_processes: int | None
    process_id: int | None


def find_place(coordinator: str | None, count: str | None, index: str | None) -> Place | None:
    """By flags, else by JAX's environment variables, else by SLURM's; None for a process alone.

    Args:
        coordinator: of `--coordinator`.
        count: of `--processes`: a number, or `auto`.
        index: of `--process`.

    Raises:
        UserError: one is missing, or no such value.

    Example:
        >>> print(*find_place("node1:1234", "2", "0"), find_place(None, "1", None))
        node1:1234 2 0 None
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    count = count or os.environ.get("JAX_NUM_PROCESSES")
    index = index or os.environ.get("JAX_PROCESS_ID")
    if count is None and coordinator is None and index is None:
        count = "auto" if int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1 else "1"
    if count == "auto":
        return Place(None, None, None)
    number = _whole(count, "--processes", "auto, or a whole number above 0", 1)
    if number == 1:
        return None
    host, _, port = (coordinator or "").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port[:6]) < 2**16:
        raise UserError(f"--coordinator: expected HOST:PORT, where process 0 listens; found {coordinator}")
    return Place(
        coordinator, number, _whole(index, "--process", f"a whole number in [0, {number - 1}]", 0, number - 1)
    )


@contextlib.contextmanager
def told_of_errors(place: Place) -> Iterator[None]:
    """A stretch before processes have joined: one that can't go on says so, tells the others, and ends."""
    try:
        yield
    except UserError as error:
        line = f"llfc_jax: {error}"
        print(line, file=sys.stderr, flush=True)  # before the others come, if they do
        with contextlib.suppress(UserError), joined(place, wrong=error):
            pass
        speaks(line)
        raise SystemExit(2) from error


@contextlib.contextmanager
def joined(place: Place, wrong: UserError | None = None) -> Iterator[None]:
    """A stretch as one of several processes, up to the end of this one, which is by `end`.

    Args:
        place: of this process.
        wrong: why it can't go on.

    Raises:
        UserError: the others can't be found in bounded time, or the first can't listen where it shall; or
            one of them can't go on.
    """
    global _joined
    if place.coordinator_address and place.process_id == 0:
        _check_free(place)
    import jax

    options: dict[str, Any] = (
        {} if place.num_processes is None else {"cluster_detection_method": "deactivate"}
    )
    watch = threading.Timer(PATIENCE_S, _nobody_came, [place])  # JAX would abort, with a trace of C++
    watch.daemon = True
    watch.start()
    try:
        with _without_proxies():
            jax.distributed.initialize(
                **place._asdict(),
                initialization_timeout=int(PATIENCE_S) + 60,
                heartbeat_timeout_seconds=HEARTBEAT_S,
                shutdown_timeout_seconds=REPORT_S,
                **options,
            )
    except Exception as error:  # of gRPC, or of what JAX knows of clusters
        hint = "" if options else "; expected SLURM, a TPU pod, Open MPI or Kubernetes"
        raise UserError(f"{_where(place)}: {first_line(error)}{hint}") from error
    finally:
        watch.cancel()
    interrupts.take_back()
    _joined = True
    with in_turn():
        if wrong is not None:
            raise wrong
    agree({"--processes": place.num_processes})
    yield


def count() -> int:
    """How many processes there are."""
    if not _joined:
        return 1
    import jax

    return jax.process_count()


def index() -> int:
    """Which of them this one is."""
    if not _joined:
        return 0
    import jax

    return jax.process_index()


def is_first() -> bool:
    """Whether this is the one that writes and speaks."""
    return index() == 0


def exchange(text: str) -> list[str]:
    """What each process says, in their order; all wait until the last has spoken."""
    if count() == 1:
        return [text]
    prefix = f"llfc_jax/{next(_rounds)}"
    _client().key_value_set(f"{prefix}/{index()}", f":{text}")
    said = (_client().blocking_key_value_get(f"{prefix}/{i}", _FOREVER_MS) for i in range(count()))
    return [one[1:] for one in said]


def of_first(decide: Callable[[], T]) -> T:
    """What the first process decides, of JSON's types, for all.

    Raises:
        UserError: in all processes, where it comes up in the first.
    """
    if count() == 1:
        return decide()
    said: dict[str, Any] = {}
    if is_first():
        try:
            said = {"decided": decide()}
        except UserError as error:
            said = {"error": str(error)}
    said = json.loads(exchange(json.dumps(said))[0])
    if "error" in said:
        raise UserError(said["error"])
    return said["decided"]


def agree(facts: Mapping[str, Any]) -> None:
    """Check that all processes have the same.

    Args:
        facts: name -> value of JSON's types.

    Raises:
        UserError: names the first process and fact that differ; the same in all processes.
    """
    first, *others = (json.loads(said) for said in exchange(json.dumps(facts)))
    for number, other in enumerate(others, start=1):
        for name in {**first, **other}:
            if first.get(name) != other.get(name):
                raise UserError(
                    f"{name}: expected the same in all processes; "
                    f"found {first.get(name)!r} in process 0 and {other.get(name)!r} in process {number}"
                )


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """A stretch of work on files: the first process goes through it before the others do, side by side.

    Raises:
        UserError: in all processes, where it comes up in one.
    """
    if not is_first():
        _raise_any(exchange(""))
    line = ""
    try:
        yield
    except UserError as error:
        if count() == 1:
            raise
        line = str(error)
    if is_first():
        _raise_any(exchange(line))
        line = ""
    _raise_any(exchange(line))


def speaks(line: str) -> bool:
    """Whether this process is to say why it ends: another than the first is, if that doesn't say the same."""
    if count() == 1:
        return True
    with contextlib.suppress(Exception):  # by now anybody may be gone
        if is_first():
            _client().key_value_set("llfc_jax/said", line, allow_overwrite=True)
        else:
            return _client().blocking_key_value_get("llfc_jax/said", int(400 * GRACE_S)) != line
    return True


def end(code: int) -> NoReturn:
    """End this process: when all have done their work; after an error, soon, whatever the others do."""
    sys.stdout.flush()
    if code == LOST_CODE:  # at once: XLA may be about to abort, of which there would be a second line
        os._exit(code)
    import jax

    if code:
        watch = threading.Timer(GRACE_S, os._exit, [code])
        watch.daemon = True
        watch.start()
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
    os._exit(code)


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another process doesn't answer."""
    text = str(error).lower()
    return count() > 1 and any(mark in text for mark in _MARKS)


def _client() -> Any:
    """What processes can tell each other before, beside and without computations."""
    from jax._src import distributed  # there is no public way that waits as long as one likes

    return distributed.global_state.client


def _raise_any(lines: list[str]) -> None:
    for number, line in enumerate(lines):
        if line:
            raise UserError(f"process {number}: {line}" if number else line)


@contextlib.contextmanager
def _without_proxies() -> Iterator[None]:
    """A stretch in which connections are direct: gRPC would look for the other processes behind a proxy."""
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ |= kept


def _check_free(place: Place) -> None:
    """That nobody else listens there: JAX would crash."""
    port = int(str(place.coordinator_address).rpartition(":")[2])
    try:
        with socket.create_server(("", port)):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"{_where(place)}: process 0 can't listen at {port}: {reason}") from error


def _nobody_came(place: Place) -> None:
    who = "no answer from process 0" if place.process_id else "not all processes came"
    with contextlib.suppress(OSError):
        print(f"llfc_jax: {_where(place)}: {who} within {PATIENCE_S:.0f} s", file=sys.stderr, flush=True)
    os._exit(2)


def _where(place: Place) -> str:
    return f"--coordinator={address}" if (address := place.coordinator_address) else "--processes=auto"


def _whole(text: str | None, flag: str, expected: str, least: int, most: int | None = None) -> int:
    found = int(text) if text is not None and text.isdecimal() and len(text) < 10 else -1
    if found < least or (most is not None and found > most):
        raise UserError(f"{flag}: expected {expected}; found {text}")
    return found
