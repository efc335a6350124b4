"""One context for all programs that a process of tests lowers.

A context takes JAX 4 ms, as long as lowering a small program. In one for all, they don't see each other.
"""

import functools

from llfc_jax.runtime import compilation


def in_one_context() -> None:
    """From now on; by versions of JAX that were tried."""
    if compilation.TAKES_FLAGS:
        from jax._src.interpreters import mlir

        mlir.make_ir_context = functools.cache(mlir.make_ir_context)
