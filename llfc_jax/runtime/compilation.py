"""Compiled programs, kept on disk for the next process."""

import contextlib
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import jax

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

CACHE = ".jax_cache"
"""Its directory, beside the workdirs that share it."""


TAKES_FLAGS = (0, 10) <= jax.__version_info__ < (0, 12, 1)
"""Whether flags were tried with this version of JAX: one that XLA doesn't know ends the process."""

_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"


def keep_programs(directory: Path) -> None:
    """Take compiled programs from `directory`, where an earlier process has left them, and leave new ones.

    A cache chosen by `JAX_COMPILATION_CACHE_DIR` stays the one in use. What can't be read, because it is
    damaged, is compiled again, and what can't be written is not kept: JAX warns, and the run goes on.

    Args:
        directory: made if it isn't there. What lies in it is run, so one that somebody else owns, or may
            write to, is not used.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(directory):
        warnings.warn(f"no programs are kept in {directory}: it isn't ours alone to write to", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(directory.resolve()))
    # Small programs, too: there are dozens, and together they take longer than those above JAX's threshold.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def avoid_slow_fusions() -> None:
    """Keep XLA:CPU from leaving convolutions, and what surrounds them, to the library YNNPACK.

    That runs the gradients of convolutions at a third of the speed of XLA's own, and makes one loop of all
    that leads to a pooling, in which VGG's classifier takes, at some batch sizes, ten times as long. Single
    matrix products and sums stay with it. Call before the first computation; flags of the user's own stay.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if TAKES_FLAGS and _FUSIONS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_FUSIONS}=individual_dot,reduce".strip()


def jit_once(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`jax.jit` of what runs but once, such as what draws weights: half as long to compile, the same numbers.

    On CPUs, by LLVM's first level instead of its second; not where all programs are optimised less than that.
    It is not to be called by what is traced.
    """
    less = jax.default_backend() == "cpu" and not jax.config.read("jax_disable_most_optimizations")
    options = {"xla_backend_optimization_level": 1} if less else None
    return jax.jit(function, compiler_options=options)


def _is_ours(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    status = directory.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
