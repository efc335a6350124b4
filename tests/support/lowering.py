"""One context for all programs that a thread of tests lowers.

A context takes JAX 4 ms, as long as lowering a small program. In one for all, they don't see each other.
"""

import threading
from typing import Any

from llfc_jax.runtime import compilation


def in_one_context() -> None:
    """From now on; by versions of JAX that were tried."""
    if compilation.TAKES_FLAGS:
        from jax._src.interpreters import mlir

        make, kept = mlir.make_ir_context, threading.local()

        def of_this_thread() -> Any:
            if not hasattr(kept, "context"):
                kept.context = make()
            return kept.context

        mlir.make_ir_context = of_this_thread
