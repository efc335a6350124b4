"""Compiled programs, kept on disk for the next process."""

import os
from pathlib import Path

import jax

CACHE = ".jax_cache"
"""Its directory, beside the workdirs that share it."""


_FUSIONS = "xla_cpu_experimental_ynn_fusion_type"


def keep_programs(directory: Path) -> None:
    """Take compiled programs from `directory`, where an earlier process has left them, and leave new ones.

    A cache chosen by `JAX_COMPILATION_CACHE_DIR` stays the one in use. What can't be read, because it is
    damaged, is compiled again, and what can't be written is not kept: JAX warns, and the run goes on.

    Args:
        directory: made when the first program is compiled. What lies in it is run, so one that somebody else
            owns is not used.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or not _is_ours(directory):
        return
    jax.config.update("jax_compilation_cache_dir", str(directory.resolve()))
    # Small programs, too: there are dozens, and together they take longer than those above JAX's threshold.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def avoid_slow_fusions() -> None:
    """Keep XLA:CPU of jaxlib 0.10 from fusing whole tails of a network into one slow loop.

    It hands a chain of matrix products, and all between them, to a library that runs VGG's classifier, at
    some batch sizes, ten times slower than its products one by one. Call before the first computation; flags
    of the user's own stay. jaxlib 0.12 has the flag but not the fault.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.__version_info__ < (0, 11) and _FUSIONS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{_FUSIONS}=".strip()


def _is_ours(directory: Path) -> bool:
    return not directory.exists() or directory.stat().st_uid == os.getuid()
