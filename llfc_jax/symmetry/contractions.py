"""The contractions of weights with activations in any model, and how permutations move those weights."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import lax

from llfc_jax.program.flat import Flat, Instruction, Values
from llfc_jax.program.operations import weight_operand
from llfc_jax.symmetry.reading import leaf_spec
from llfc_jax.symmetry.spec import Factors, LeafSpec, PermutationSpec, Piece, around, check_fit, made_of
from llfc_jax.symmetry.values import named_axes
from llfc_jax.types import Array, PyTree


@dataclass(frozen=True)
class Contraction:
    """W H of a weight with an activation, for each position of a batch: numbers of the flat program.

    Of a loop that Python has run, all its parts, whose weights are side by side along axes in front.

    Attributes:
        parts: the instructions that compute it, one for each part.
        weights: the value W of each.
        entries: the value H of each.
        loops: the sizes of the axes in front.
        leaf: how permutations move W.
        view: the shape of W with its groups, if any, as an axis of their own.
        batch: the axes of the view that W and H share without a sum.
        rows: those that the result has.
        columns: those that are summed over.
    """

    parts: tuple[int, ...]
    weights: tuple[int, ...]
    entries: tuple[int, ...]
    loops: tuple[int, ...]
    leaf: LeafSpec
    view: tuple[int, ...]
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of W as matrices: batch, rows, columns."""
        count, height, width = (
            math.prod(self.view[axis] for axis in axes) for axes in (self.batch, self.rows, self.columns)
        )
        return count, height, width

    def weight(self, values: Values) -> Array:
        """W, of all parts."""
        each = jnp.stack([values[weight] for weight in self.weights])
        return each.reshape(self.leaf.shape)

    def matrices(self, weight: Array) -> Array:
        """W as `(batch, rows, columns)`."""
        order = (*self.batch, *self.rows, *self.columns)
        return jnp.transpose(weight.reshape(self.view), order).reshape(self.shape)

    def weight_of(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        order = (*self.batch, *self.rows, *self.columns)
        array = matrices.reshape([self.view[axis] for axis in order])
        return jnp.transpose(array, np.argsort(order).tolist()).reshape(self.leaf.shape)

    def moved_along(self, roles: str) -> LeafSpec:
        """How permutations move W along some of its axes alone.

        Args:
            roles: names of attributes, such as `rows`.
        """
        pieces = tuple(Piece(piece.positions, self._named(piece, roles)) for piece in self.leaf.pieces)
        return made_of(self.leaf.shape, pieces)

    @property
    def columns_alone(self) -> LeafSpec:
        """How permutations move the columns of `by_columns`."""
        shape = self._without_rows
        pieces = []
        for piece in self.leaf.pieces:
            own = [
                positions if size == left else range(left)
                for positions, size, left in zip(piece.positions, self.leaf.shape, shape, strict=False)
            ]
            named = [
                factors if size == left else ((left, None),)
                for factors, size, left in zip(
                    self._named(piece, "columns"), self.leaf.shape, shape, strict=False
                )
            ]
            whole = Piece((*own, range(shape[-1])), (*named, ((shape[-1], None),)))
            pieces += [] if whole in pieces else [whole]
        return made_of(shape, tuple(pieces))

    def by_columns(self, matrices: Array) -> Array:
        """Arrays `(batch, columns, columns)` as W is, its rows last and those of columns."""
        view = [self.view[axis] for axis in (*self.batch, *self.columns)]
        array = matrices.reshape(*view, -1)
        order = np.argsort((*self.batch, *self.columns)).tolist()
        return jnp.transpose(array, (*order, len(order))).reshape(self._without_rows)

    @property
    def _without_rows(self) -> tuple[int, ...]:
        """The shape of W with rows left out, and the columns once more at its end."""
        shape, start = [], 0
        for size in self.leaf.shape:
            own = self._axes_of_view(start, size)
            shape.append(math.prod(1 if axis in self.rows else self.view[axis] for axis in own))
            start += len(own)
        return (*shape, self.shape[2])

    def _axes_of_view(self, start: int, size: int) -> range:
        """The axes of the view that one of W's is, from `start` on."""
        end = start + 1
        while math.prod(self.view[start:end]) < size:
            end += 1
        return range(start, end)

    def _named(self, piece: Piece, roles: str) -> tuple[Factors, ...]:
        """The factors of a piece; a name on axes of other roles only where what has one moves within it."""
        kept = {axis for role in roles.split() for axis in getattr(self, role)}
        axes: list[list[tuple[int, str | None, bool]]] = []
        start = 0
        for own, size in zip(piece.axes, self.leaf.shape, strict=True):
            in_view = self._axes_of_view(start, size)
            factors, before = [], 1
            for count, name in own:
                # Where an axis is groups times the rest, the factors that make up the groups come first.
                axis = in_view[-1] if before >= self.view[start] else start
                factors.append((count, name, axis in kept))
                before *= count
            axes.append(factors)
            start += len(in_view)
        named = {name for factors in axes for _, name, own in factors if name and own}
        around_them = {outer for name in named for outer in around(name, piece.perms)}
        return tuple(
            tuple((count, name if own or name in around_them else None) for count, name, own in factors)
            for factors in axes
        )


def contractions(flat: Flat, variables: PyTree, spec: PermutationSpec) -> tuple[Contraction, ...]:
    """All contractions of a weight with a value that depends on the inputs, in the order of computation.

    Those of weights in a loop over time or in a branch are left out; a scan over layers is unrolled.

    Args:
        flat: the model, flattened.
        variables: arrays or `jax.ShapeDtypeStruct`s, those that it was flattened with.
        spec: its symmetries.

    Raises:
        UserError: the spec was not derived from this model.
    """
    check_fit(spec, variables)
    axes, names, plan = named_axes(flat, variables, spec)
    moving = {factor: name for factor, name in names.items() if name is not None}
    found = []
    for index, instruction in enumerate(flat.instructions):
        position = weight_operand(flat, instruction)
        layout = None if position is None else _layout(flat, instruction, position)
        if position is None or layout is None or index in plan.again:
            continue
        parts, loops = plan.parts(index)
        operands = [flat.instructions[part].operands for part in parts]
        weights, entries = (tuple(own[side] for own in operands) for side in (position, 1 - position))
        sizes = tuple(loop.size for loop in loops)
        shape = (*sizes, *flat.avals[weights[0]].shape)
        leaf = leaf_spec((*(loop.axis for loop in loops), *axes[weights[0]]), shape, moving)
        view, *roles = layout
        batch, rows, columns = (tuple(axis + len(sizes) for axis in own) for own in roles)
        batch = (*range(len(sizes)), *batch)
        found.append(Contraction(parts, weights, entries, sizes, leaf, (*sizes, *view), batch, rows, columns))
    return tuple(found)


def entry_matrices(flat: Flat, contraction: Contraction, values: Values) -> Array:
    """H as `(batch, observations, columns)`: a convolution sees a patch for each position of its result."""
    width = contraction.shape[2]
    each = [
        _entry(flat, flat.instructions[part], entry, width, values)
        for part, entry in zip(contraction.parts, contraction.entries, strict=True)
    ]
    return jnp.concatenate(each)


def _entry(flat: Flat, instruction: Instruction, value: int, width: int, values: Values) -> Array:
    entry, params = values[value], instruction.eqn.params
    side = instruction.operands.index(value)
    if instruction.primitive == "conv_general_dilated":
        numbers, kernel = params["dimension_numbers"], flat.avals[instruction.operands[1]].shape
        patches = lax.conv_general_dilated_patches(
            entry,
            [kernel[axis] for axis in numbers.rhs_spec[2:]],
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            dimension_numbers=numbers,
        )
        patches = jnp.moveaxis(patches, numbers.out_spec[1], -1)
        return jnp.moveaxis(patches.reshape(-1, params["feature_group_count"], width), 1, 0)
    contracting, batch = (dims[side] for dims in params["dimension_numbers"])
    rest = [axis for axis in range(entry.ndim) if axis not in (*contracting, *batch)]
    count = math.prod(entry.shape[axis] for axis in batch)
    return jnp.transpose(entry, (*batch, *rest, *contracting)).reshape(count, -1, width)


def _layout(
    flat: Flat, instruction: Instruction, position: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """The view of a contraction's weight, and which of its axes are batch, rows, columns; None if unknown."""
    params, shape = instruction.eqn.params, flat.avals[instruction.operands[position]].shape
    if instruction.primitive == "dot_general":
        contracting, batch = (dims[position] for dims in params["dimension_numbers"])
        rows = tuple(axis for axis in range(len(shape)) if axis not in (*contracting, *batch))
        return shape, tuple(batch), rows, tuple(contracting)
    if position != 1 or params["batch_group_count"] != 1:
        return None
    out, *columns = params["dimension_numbers"].rhs_spec
    groups = params["feature_group_count"]
    if groups == 1:
        return shape, (), (out,), tuple(columns)
    view = (*shape[:out], groups, shape[out] // groups, *shape[out + 1 :])
    return view, (out,), (out + 1,), tuple(axis + (axis > out) for axis in columns)
