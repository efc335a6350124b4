"""Strictness for all tests; one compilation cache for them, for what they start, and for the next run."""

import contextlib
import gc
import os
import time
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "llfc_jax" / "tests"
FORTNIGHT = 14 * 24 * 60 * 60

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # nobody looks for them in a program
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # what takes the time is compiling

import jax  # noqa: E402 (it reads the environment once, when it is imported)
import lowering  # noqa: E402
import pytest  # noqa: E402

from llfc_jax.reporting import helpers  # noqa: E402
from llfc_jax.runtime import compilation  # noqa: E402

compilation.avoid_slow_fusions()  # as the command does: the same programs give the same numbers, bit for bit
jax.config.update("jax_numpy_rank_promotion", "raise")

if compilation.TAKES_FLAGS:
    os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"  # workers have no cores to spare
if compilation.TAKES_FLAGS and jax.__version_info__ < (0, 12):  # which knows this one no more
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"  # half the time of compiling

lowering.in_one_context()
helpers.MOST = 0  # a helper takes longer to begin than it saves, where no core is idle
gc.disable()  # until all tests are imported, which leaves no garbage


def pytest_configure(config):
    """Forget programs compiled long ago: most are of code that is no more."""
    if hasattr(config, "workerinput"):
        return
    for program in CACHE.glob("*"):
        with contextlib.suppress(OSError):  # another run forgets it, too
            if program.stat().st_mtime < time.time() - FORTNIGHT:
                program.unlink()


def pytest_collection_modifyitems(items):
    """Files with slow tests go first: a worker that begins one of them last would end alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What was imported stays: it need not be searched for garbage again and again, nor the rest so often."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture(scope="module")
def unrendered():
    """Figures are made of whatever a run has found, but not laid out and encoded, at a second each."""
    from llfc_jax.reporting import drawing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_lay_out", lambda figure: None)
        patch.setattr(drawing, "_encode", lambda figure, suffix: suffix.encode())
        yield
