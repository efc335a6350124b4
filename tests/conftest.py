"""Strictness for all tests, and one compilation cache for them and the processes that they start."""

import atexit
import os
import shutil
import tempfile

os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="llfc_jax_tests_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # what takes the time is compiling
atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402 (it reads the environment once, when it is imported)

from llfc_jax.runtime import compilation  # noqa: E402

compilation.avoid_slow_fusions()  # as the command does: the same programs give the same numbers, bit for bit
jax.config.update("jax_numpy_rank_promotion", "raise")
