"""Names for the pytrees that flow through the package."""

from typing import Any, NamedTuple, TypeAlias

import jax

Array: TypeAlias = jax.Array
AnyArray: TypeAlias = Any
"""JAX's or NumPy's, in functions that take either and use what both have."""
PRNGKey: TypeAlias = jax.Array
PyTree: TypeAlias = Any

Params: TypeAlias = PyTree
"""Trainable parameters: a pytree of float arrays."""

Variables: TypeAlias = PyTree
"""All of a network's state: any pytree of arrays, such as Linen's `{"params": ..., "batch_stats": ...}`."""

Features: TypeAlias = dict[str, Array]
"""Layer name -> activations of one batch, `(batch, ...)`. Their order means nothing: jit sorts keys."""

Permutation: TypeAlias = dict[str, Array]
"""Permutation name -> int32 index array `p`; the permuted axis is `old[p]`.

`P0/P1` moves within `P0`: it has a row for each of the new positions of that."""


class Batch(NamedTuple):
    """Examples with what is needed to count each of them once."""

    images: PyTree
    """(n, h, w, c); or a pytree of arrays (n, ...), for networks that see something else."""
    labels: PyTree
    """(n,) int32, or (n, T, ...) for sequences; a pytree of arrays, for a loss that takes one; None where
    nothing looks at them."""
    mask: Array
    """(n,) float32: 1 for an example, 0 for padding; or (n, T, ...): 1 for each position that counts."""
