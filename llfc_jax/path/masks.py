"""What a mask says: which examples count, and which positions of a sequence.

A mask is (n,), 1 for an example and 0 for padding, or (n, T, ...), 1 for each position that counts. An
example all of whose positions are hidden is padding.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.types import Array


def of_samples(mask: Any) -> Any:
    """(n,): 1 for the examples of which anything counts; of NumPy or JAX, as the mask is.

    Example:
        >>> of_samples(jnp.array([[1, 1, 0], [0, 0, 0]]))
        Array([1, 0], dtype=int32)
    """
    return mask if mask.ndim == 1 else mask.max(tuple(range(1, mask.ndim)))


def spread(mask: Array, shape: Sequence[int]) -> Array:
    """The mask of every loss of an array of this shape, whose first axes are those of the mask.

    Raises:
        UserError: they aren't.
    """
    if tuple(shape[: mask.ndim]) != mask.shape:
        expected = ", ".join(map(str, mask.shape))
        raise UserError(f"loss_fn: expected losses ({expected}, ...), one for each label; found {shape}")
    return jnp.broadcast_to(jnp.expand_dims(mask, range(mask.ndim, len(shape))), shape)


def samples_first(array: Array, sample_axis: int | None, position_axes: Sequence[int], mask: Array) -> Array:
    """An array with samples along its first axis, and zero at its hidden positions, if it has any.

    Args:
        array: of any shape.
        sample_axis: along which samples lie; the first, if it isn't known.
        position_axes: along which the positions of the mask lie, in the mask's order; empty if it has none.
        mask: (n,), or (n, T, ...).
    """
    array = hide_positions(array, sample_axis, position_axes, mask)
    return array if not sample_axis else jnp.moveaxis(array, sample_axis, 0)


def hide_positions(array: Array, sample_axis: int | None, position_axes: Sequence[int], mask: Array) -> Array:
    """An array whose hidden positions are zero; as it is, if it or the mask has none.

    Args:
        array: of any shape.
        sample_axis: along which samples lie.
        position_axes: along which the positions of the mask lie, in the mask's order; empty if it has none.
        mask: (n,), or (n, T, ...).
    """
    if sample_axis is None or not position_axes:
        return array
    kept = counted(array.ndim, sample_axis, position_axes, mask)
    return jnp.where(kept, array, jnp.zeros((), array.dtype))


def counted(ndim: int, sample_axis: int | None, position_axes: Sequence[int], mask: Array) -> Array:
    """Whether an entry of an array counts, to be broadcast; by its sample alone where it has no positions."""
    axes = (sample_axis or 0, *position_axes)
    mask = mask if position_axes else of_samples(mask)
    order = sorted(range(len(axes)), key=axes.__getitem__)
    return jnp.expand_dims((mask > 0).transpose(order), [axis for axis in range(ndim) if axis not in axes])
