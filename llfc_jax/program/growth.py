"""Along which axes the samples and the positions of a batch lie, by traces with one more of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.program.axes import grown_axes, unit_axes
from llfc_jax.program.flat import Flat, flatten, signature
from llfc_jax.program.nodes import FeaturesFn
from llfc_jax.types import Variables


class Axes(NamedTuple):
    """Value -> the axis of its samples, those of its positions, and that of its units."""

    samples: Mapping[int, int]
    positions: Mapping[int, tuple[int, ...]]
    units: Mapping[int, int]


def axes_of(
    flat: Flat, features_fn: FeaturesFn, variables: Variables, inputs: Any, counted: tuple[int, ...]
) -> Axes:
    """The axes of every value of a program, where they are told apart.

    A value's axis of samples is the one that alone grows with the inputs' first axis; its positions lie along
    the axes that alone grow with the further axes of a mask (n, T, ...). Values that have no such axis, as
    what was pooled over positions, are left out, and so is attention's pattern, with two for one.

    Args:
        flat: the program.
        features_fn: what it was traced from.
        variables: of the network.
        inputs: shapes of what it was traced with.
        counted: (n,), or (n, T, ...) where positions are to be told apart.
    """
    units = unit_axes(flat)
    samples, *positions = (
        _grown(flat, features_fn, variables, inputs, counted, axis) for axis in range(len(counted))
    )
    if samples is None:  # a batch of one leaves no trace where it is broadcast
        samples = {value: 0 for value, aval in enumerate(flat.avals) if aval.shape[:1] == counted[:1]}
    told = [own for own in positions if own is not None]
    if len(told) == len(positions):
        found = {value: tuple(own[value] for own in told) for value in _in_all(samples, told)}
        apart = {value: axes for value, axes in found.items() if len({samples[value], *axes}) == len(counted)}
    else:
        apart = _by_shape(flat, counted, samples, units)
    return Axes(samples, apart if positions else {}, units)


def rows(inputs: Any) -> int:
    """The leading axis of the first array that has one."""
    return next((np.shape(leaf)[0] for leaf in jax.tree.leaves(inputs) if np.ndim(leaf)), 0)


def _grown(
    flat: Flat,
    features_fn: FeaturesFn,
    variables: Variables,
    inputs: Any,
    counted: tuple[int, ...],
    axis: int,
) -> dict[int, int] | None:
    """Value -> its axis that grows with one of the inputs'.

    None where it can't be told: the network takes this size alone, or the inputs don't have the axis.
    """
    size = counted[axis]

    def has_it(shape: tuple[int, ...]) -> bool:
        return shape[: axis + 1] == counted[: axis + 1]

    def one_more(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if not has_it(leaf.shape):
            return leaf
        return jax.ShapeDtypeStruct((*leaf.shape[:axis], size + 1, *leaf.shape[axis + 1 :]), leaf.dtype)

    if rows(inputs) != counted[0] or not any(has_it(leaf.shape) for leaf in jax.tree.leaves(inputs)):
        return None
    try:
        larger = flatten(features_fn, variables, jax.tree.map(one_more, inputs))
    except Exception:  # the caller's function may not be for this size, and says so in any way it likes
        return None
    if signature(larger) != signature(flat):
        return None
    if _constants_differ(flat, larger):  # as a mean's divisor may, but not for the same inputs
        anew = lambda *given: features_fn(*given)  # noqa: E731, of one function JAX keeps the trace
        _check_same_again(flat, flatten(anew, variables, inputs))
    return grown_axes(flat, larger, size)


def _check_same_again(flat: Flat, again: Flat) -> None:
    if signature(again) != signature(flat) or _constants_differ(flat, again):
        raise UserError("apply: expected a pure function; found other numbers in it each time it is called")


def _constants_differ(flat: Flat, other: Flat) -> bool:
    """In numbers; constants of other shapes are those of other numbers of samples."""

    def differ(x: Any, y: Any) -> bool:
        return x is not y and np.shape(x) == np.shape(y) and not np.array_equal(x, y, equal_nan=True)

    inexact = (value for value in flat.constants if jnp.issubdtype(flat.avals[value].dtype, jnp.inexact))
    return any(differ(flat.constants[value], other.constants[value]) for value in inexact)


def _in_all(samples: Mapping[int, int], positions: Sequence[Mapping[int, int]]) -> list[int]:
    return [value for value in samples if all(value in own for own in positions)]


def _by_shape(
    flat: Flat, counted: tuple[int, ...], samples: Mapping[int, int], units: Mapping[int, int]
) -> dict[int, tuple[int, ...]]:
    """The axes of the mask's sizes, where there is one for each beside the samples' and the units'."""
    found = {}
    for value, sample_axis in samples.items():
        shape, others = flat.avals[value].shape, {sample_axis, units.get(value)}
        axes = tuple(axis for axis, size in enumerate(shape) if axis not in others and size in counted[1:])
        if tuple(shape[axis] for axis in axes) == counted[1:]:
            found[value] = axes
    return found
