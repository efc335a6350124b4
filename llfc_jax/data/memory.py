"""How much of a data set is held in memory; the rest is streamed."""

import math

from llfc_jax.data.dataset import Examples
from llfc_jax.runtime.environment import memory_bytes
from llfc_jax.runtime.limits import host_memory_bytes

_SHARE = 4
"""One part in so many of the memory is a data set's, unless `data.memory` says otherwise."""
_OF_ALLOWED = 4
"""Of a set that doesn't fit, a split or subset may take one part in so many of what is allowed."""


def allowed_bytes(gib: float | None) -> int:
    """What data may take: `data.memory`, else a quarter of the memory, or the device's if less."""
    return min(host_memory_bytes(), memory_bytes()) // _SHARE if gib is None else int(gib * 2**30)


def held_if_small(examples: Examples, allowed: int) -> Examples:
    """The same examples, in memory if they take little of what is allowed and aren't cropped anew."""
    if examples.is_cropped_anew:
        return examples
    taken = examples.size * math.prod(examples.shape) * examples.dtype.itemsize
    return examples.hold() if taken <= allowed // _OF_ALLOWED else examples
