"""What is done to each layer, done at once to those of one shape: far fewer kernels to compile."""

from collections.abc import Callable, Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.types import Array

MOST_BYTES = 8 * 2**20
"""Of the arguments in a stack: what fits in a CPU's cache, so that a pass over it takes no longer."""


def each_of(fn: Callable[..., Array], layers: Sequence[tuple[Array, ...]]) -> Array:
    """`fn` of the arrays of each layer, which are stacked with those of layers of the same shapes.

    Args:
        fn: its result is of one shape for all layers.
        layers: one at least.

    Returns:
        The results, along a first axis of the layers.

    Example:
        >>> layers = [(jnp.ones(2),), (jnp.ones(3),), (jnp.full(2, 5.0),)]
        >>> each_of(jnp.sum, layers).tolist()
        [2.0, 3.0, 10.0]
    """
    alike: dict[Hashable, list[int]] = {}
    for index, arrays in enumerate(layers):
        alike.setdefault(tuple((x.shape, x.dtype) for x in arrays), []).append(index)
    results, order = [], []
    for indices in alike.values():
        at_once = max(1, MOST_BYTES // sum(x.size * x.dtype.itemsize for x in layers[indices[0]]))
        for start in range(0, len(indices), at_once):
            part = indices[start : start + at_once]
            stacks = [jnp.stack(arrays) for arrays in zip(*(layers[i] for i in part), strict=True)]
            results.append(jax.vmap(fn)(*stacks))
            order += part
    return jnp.concatenate(results)[np.argsort(order)]
