"""Moving a network along its symmetries beyond permutations; norms' scales, folded for rotations' sake."""

import string
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.program.widening import widened
from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.exponents import MATRICES, ROTARY, TURNS
from llfc_jax.symmetry.spec import (
    LeafSpec,
    PermutationSpec,
    Piece,
    apply_permutation,
    check_fit,
    identity,
    readable_path,
    shape_of_permutation,
)
from llfc_jax.types import Array, PRNGKey, PyTree

Maps: TypeAlias = dict[str, Array]
"""Name -> indices of a permutation, numbers of a scaling or of signs, or a matrix."""


def shape_of_map(symmetry: Symmetry, name: str) -> tuple[int, ...]:
    """The shape of what `apply_maps` takes under a name."""
    if name in symmetry.spec.sizes:
        return shape_of_permutation(symmetry.spec, name)
    action = symmetry[name]
    shape = shape_of_permutation(symmetry.units, action.group)
    return (*shape, action.size) if is_matrix(action) else shape


def is_matrix(action: Action) -> bool:
    """Whether its maps are given as matrices, not as a number for each unit."""
    return action.kind in (*MATRICES, ROTARY)


def still_map(symmetry: Symmetry, name: str) -> Array:
    """What moves nothing, of any kind but permutations: ones, or the identity."""
    shape = shape_of_map(symmetry, name)
    return jnp.broadcast_to(jnp.eye(shape[-1]) if is_matrix(symmetry[name]) else 1.0, shape)


def apply_maps(symmetry: Symmetry, maps: Maps, variables: PyTree) -> PyTree:
    """Moves a network along its symmetries: permutes its units, then maps them by T.

    Can be jitted and differentiated in `maps` and `variables`.

    Args:
        symmetry: of the model.
        maps: name -> a permutation's indices, or T: numbers `(size,)` of a scaling or of signs, a matrix
            `(size, size)`. For what moves within others, their sizes are in front. What is left out stays.
        variables: the network's arrays.

    Returns:
        Variables of the same formats that compute the same function, but for rounding to these.

    Raises:
        UserError: the network lacks a symmetry of that name; a map has another shape, or isn't one of its
            kind; an array that T needs to be uniform varies.
    """
    check_fit(symmetry.spec, variables)
    for name, value in maps.items():
        expected = shape_of_map(symmetry, name)
        if jnp.shape(value) != expected:
            raise UserError(f"{name}: expected shape {expected}, found {jnp.shape(value)}")
        if name in symmetry.actions and not isinstance(value, jax.core.Tracer):
            _check_kind(name, symmetry[name], np.asarray(value))
    permutation = {name: maps[name] for name in symmetry.spec.sizes if name in maps}
    if permutation:
        variables = apply_permutation(symmetry.spec, identity(symmetry.spec) | permutation, variables)
    for name, value in maps.items():
        if name in symmetry.actions:
            _check_uniform(name, symmetry[name], variables)
            variables = act(symmetry.units, symmetry[name], value, variables)
    return variables


def _check_kind(name: str, action: Action, value: np.ndarray) -> None:
    size, kind = value.shape[-1], action.kind
    turned = np.swapaxes(value, -1, -2) @ value if kind in TURNS else np.eye(size)
    for good, expected in (
        (bool(np.isfinite(value).all()), "finite numbers"),
        (kind != "scaling" or bool((value > 0).all()), "positive numbers"),
        (kind != "sign" or bool((abs(value) == 1).all()), "1 and -1"),
        (kind not in TURNS or np.allclose(turned, np.eye(size), atol=1e-4), "an orthogonal matrix"),
        (
            kind != "mean-fixing orthogonal" or np.allclose(value.sum(-1), 1, atol=1e-3),
            "a rotation that fixes the mean's direction, (1, ..., 1)",
        ),
        (
            np.allclose(commuting(action, jnp.asarray(value)), value, atol=1e-4) or not action.pairs,
            "a complex number for each pair",
        ),
        (
            kind not in ("invertible", ROTARY) or bool((np.linalg.matrix_rank(value) == size).all()),
            "an invertible matrix",
        ),
    ):
        if not good:
            raise UserError(f"{name}: expected {expected}; found another map")


def _check_uniform(name: str, action: Action, variables: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        where = jax.tree_util.keystr(path)
        if where in action.uniform and not isinstance(leaf, jax.core.Tracer):
            values = np.asarray(widened(leaf))
            tolerance = max(1e-5, 4 * float(jnp.finfo(leaf.dtype).eps))
            if np.ptp(values) > tolerance * np.abs(values).max():
                raise UserError(f"{name}: expected {readable_path(where)} uniform, as by fold_scales")


def act(spec: PermutationSpec, action: Action, value: Array, variables: PyTree) -> PyTree:
    """A network with T^e applied along every axis that T acts on.

    Args:
        spec: of the units, such as the model's permutations.
        action: what T acts on.
        value: T; not checked.
        variables: the network's arrays.
    """

    def move(path: tuple[object, ...], leaf: Array) -> Array:
        where = jax.tree_util.keystr(path)
        if where not in action.powers:
            return leaf
        moved = act_on_leaf(spec.leaves[where], action, action.powers[where], value, widened(leaf))
        return moved.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(move, variables)


def act_on_leaf(
    leaf_spec: LeafSpec, action: Action, powers: Mapping[tuple[int, int], Fraction], value: Array, leaf: Array
) -> Array:
    """An array with T^e applied along each axis of each of its pieces that has a power e."""
    leaf = jnp.asarray(leaf)
    for i, piece in enumerate(leaf_spec.pieces):
        own = {axis: power for (of, axis), power in powers.items() if of == i}
        if own:
            block = piece.of(leaf)
            for axis, power in own.items():
                block = _along(piece, axis, action, value, power, block)
            if len(leaf_spec.pieces) == 1:
                return block.reshape(leaf.shape)
            leaf = leaf.at[piece.index].set(block.reshape(piece.shape))
    return leaf


def _along(piece: Piece, axis: int, action: Action, value: Array, power: Fraction, block: Array) -> Array:
    letters = string.ascii_letters[: block.ndim]
    outer = "".join(letters[i] for i in piece.within(action.group))
    for i in piece.moved_by(action.group, axis):
        if action.kind in ("scaling", "sign"):
            factor = value ** float(power)
            block = jnp.einsum(f"{letters},{outer}{letters[i]}->{letters}", block, factor)
            continue
        matrix = value if power > 0 or action.kind in TURNS else jnp.swapaxes(jnp.linalg.inv(value), -1, -2)
        new = letters.replace(letters[i], "Z")
        block = jnp.einsum(
            f"{outer}Z{letters[i]},{letters}->{new}", matrix, block, precision=jax.lax.Precision.HIGHEST
        )
    return block


def random_maps(key: PRNGKey, symmetry: Symmetry, *names: str) -> Maps:
    """Draws maps of the given names: rotations uniformly, others around the identity."""
    drawn: Maps = {}
    for i, name in enumerate(names):
        own, action, shape = jax.random.fold_in(key, i), symmetry[name], shape_of_map(symmetry, name)
        normal = jax.random.normal(own, shape)
        match action.kind:
            case "scaling":
                drawn[name] = jnp.exp(normal / 2)
            case "sign":
                drawn[name] = jnp.where(normal > 0, 1.0, -1.0)
            case "invertible":
                drawn[name] = jnp.eye(shape[-1]) + 0.3 * normal / np.sqrt(shape[-1])
            case "rotary":
                stretched = jnp.eye(shape[-1]) * jnp.exp(normal[..., :1] / 2)
                drawn[name] = commuting(action, stretched) @ nearest(action, normal)
            case _:
                drawn[name] = nearest(action, normal)
    return drawn


def commuting(action: Action, matrix: Array) -> Array:
    """The part of matrices that commutes with turning an action's pairs; all, where it has none.

    The nearest of those that multiply each pair by a complex number.
    """
    if not action.pairs:
        return matrix
    i, j = np.transpose(action.pairs)
    real = (matrix[..., i, i] + matrix[..., j, j]) / 2
    imaginary = (matrix[..., j, i] - matrix[..., i, j]) / 2
    found = jnp.zeros_like(matrix).at[..., i, i].set(real).at[..., j, j].set(real)
    return found.at[..., j, i].set(imaginary).at[..., i, j].set(-imaginary)


def nearest(action: Action, matrix: Array) -> Array:
    """Of an action's maps that are rotations, the Q with the largest <Q, M> (Procrustes)."""
    if not action.pairs:
        return nearest_rotation(matrix, action.kind)
    numbers = commuting(action, matrix)
    length = jnp.linalg.norm(numbers, axis=-1, keepdims=True)
    return jnp.where(length > 0, numbers / jnp.where(length > 0, length, 1), jnp.eye(action.size))


def nearest_rotation(matrix: Array, kind: str) -> Array:
    """The orthogonal matrix Q with the largest <Q, M> (Procrustes): U V^T of M = U S V^T.

    Of those that fix the mean's direction, U V^T within its complement.
    """
    size = matrix.shape[-1]
    fixed = jnp.full((size, size), 1 / size) if kind == "mean-fixing orthogonal" else jnp.zeros((size, size))
    centre = jnp.eye(size) - fixed
    inside = centre @ matrix @ centre + fixed * (1 + jnp.linalg.norm(matrix, axis=(-2, -1), keepdims=True))
    left, _, right = jnp.linalg.svd(inside, full_matrices=False)
    return left @ right


def inverse_maps(symmetry: Symmetry, maps: Maps) -> Maps:
    """The maps, without permutations, that undo these."""
    undone: Maps = {}
    for name, value in maps.items():
        kind = symmetry[name].kind
        if kind in TURNS:
            undone[name] = jnp.swapaxes(value, -1, -2)
        else:
            undone[name] = jnp.linalg.inv(value) if is_matrix(symmetry[name]) else 1 / value
    return undone


def fold_scales(symmetry: Symmetry, variables: PyTree) -> PyTree:
    """A network whose norms' scales are 1 where rotations need them uniform: folded into the next layer.

    Raises:
        UserError: a scale can't be folded, or has a zero.
    """
    return _rescaled(symmetry, variables, lambda scale, path: scale)


def scales_of(symmetry: Symmetry, variables: PyTree, reference: PyTree) -> PyTree:
    """A network with the scales of another where rotations need them uniform; the inverse of `fold_scales`.

    On the line between the two the scales then stay, and the layers behind them are interpolated as if they
    were folded.

    Raises:
        UserError: a scale can't be folded, or has a zero.
    """
    return _rescaled(symmetry, variables, lambda scale, path: scale / _leaf(reference, path))


def free_scalings(symmetry: Symmetry) -> list[str]:
    """The scalings by which no norm's scale is folded."""
    folded = {path for action in symmetry.actions.values() for path in action.uniform}
    return [
        name
        for name, action in symmetry.actions.items()
        if action.kind == "scaling" and not folded & action.powers.keys()
    ]


def shrinking(symmetry: Symmetry) -> list[str]:
    """The maps that can make weights smaller: by which no norm's scale is folded, and invertible ones."""
    invertible = [n for n, action in symmetry.actions.items() if action.kind in ("invertible", ROTARY)]
    return [*invertible, *free_scalings(symmetry)]


def _rescaled(symmetry: Symmetry, variables: PyTree, divisor: Callable[[Array, str], Array]) -> PyTree:
    """Divides norms' scales, and multiplies the next layer, where rotations need the scales uniform."""
    needed = symmetry.uniform
    for action in symmetry.actions.values():
        for path, piece in symmetry.folded_by(action) & needed:
            divided_by = jnp.asarray(divisor(_leaf(variables, path), path))
            factor = symmetry.units.leaves[path].pieces[piece].of(divided_by)
            (power,) = (power for (of, _), power in action.powers[path].items() if of == piece)
            if not isinstance(factor, jax.core.Tracer) and not np.all(np.asarray(factor)):
                raise UserError(f"{readable_path(path)}: expected a scale without zeros; found one")
            value = factor.reshape(shape_of_permutation(symmetry.units, action.group)) ** float(-1 / power)
            variables = act(symmetry.units, action, value, variables)
            needed = needed - {(path, piece)}
    if needed:
        raise UserError(f"{readable_path(min(needed)[0])}: expected a scale that folds into the next layer")
    return variables


def _leaf(variables: PyTree, path: str) -> Array:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return next(leaf for where, leaf in leaves if jax.tree_util.keystr(where) == path)
