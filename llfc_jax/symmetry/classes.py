"""Symmetries beyond permutations: scalings, signs, rotations, invertible maps of groups of units.

Which maps a group of units allows is decided by the operations that its axes pass through (`exponents`):
ReLU allows positive scalings, odd functions signs, sums of squares rotations, a product of queries with keys
or of values with outputs all invertible maps. A LayerNorm subtracts the mean, so it allows the rotations that
fix the direction (1, ..., 1). The scale of a norm allows rotations where it doesn't vary: `fold_scales` makes
it 1, by the scaling of the norm's scale into the next layer. Maps that depend on more, such as the rotations
that commute with rotary positions, are not looked for.
"""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.program.flat import Flat, flatten
from llfc_jax.symmetry.exponents import KINDS, MATRICES, TURNS, Equations, Key, equations
from llfc_jax.symmetry.factors import expand
from llfc_jax.symmetry.nullspace import nullspace
from llfc_jax.symmetry.positions import axes_of
from llfc_jax.symmetry.spec import (
    PermutationSpec,
    Piece,
    apply_permutation,
    around,
    check_fit,
    readable_path,
    shape_of_permutation,
)
from llfc_jax.symmetry.trace import permutation_spec
from llfc_jax.symmetry.units import name_like
from llfc_jax.symmetry.values import axes_of_values
from llfc_jax.types import Array, PRNGKey, PyTree

_LARGER = {
    "invertible": (),
    "orthogonal": ("invertible",),
    "mean-fixing orthogonal": ("invertible", "orthogonal"),
    "sign": ("invertible", "orthogonal"),
    "scaling": ("invertible",),
}
"""Kind of map -> kinds that have all of its maps."""

Maps: TypeAlias = dict[str, Array]
"""Name -> indices of a permutation, numbers of a scaling or of signs, or a matrix."""


@dataclass(frozen=True)
class Action:
    """One map T of the units of a group, and the powers of it that act on the model's arrays.

    Attributes:
        group: the permutation that moves these units.
        kind: one of `exponents.KINDS`.
        size: number of units.
        powers: path -> axis of that array -> e: T^e acts along it; of matrices T for 1, T^-T for -1.
        uniform: paths of arrays that must not vary, for T to be a symmetry.
    """

    group: str
    kind: str
    size: int
    powers: Mapping[str, Mapping[int, Fraction]]
    uniform: tuple[str, ...] = ()


@dataclass(frozen=True)
class Symmetry:
    """All symmetries found of a model.

    Attributes:
        spec: its permutations.
        actions: name -> a family of maps, of any kind but permutations.
    """

    spec: PermutationSpec
    actions: Mapping[str, Action]

    def __getitem__(self, name: str) -> Action:
        if name not in self.actions:
            found = ", ".join(self.actions) or "none"
            raise UserError(f"symmetry: expected one that the network has ({found}); found {name!r}")
        return self.actions[name]


def symmetries(apply: Callable[..., PyTree], variables: PyTree, inputs: PyTree) -> Symmetry:
    """Derives which linear maps of units leave a model's outputs unchanged, beside permutations.

    Args:
        apply: variables, inputs -> outputs; traced, not run.
        variables: arrays or `jax.ShapeDtypeStruct`s.
        inputs: one batch of the same.

    Example:
        >>> weights = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 3))}
        >>> found = symmetries(lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"], weights, jnp.ones((2, 5)))
        >>> print(describe_actions(found))
        P0 scaling (8): in[1]^1, out[0]^-1
    """
    spec = permutation_spec(apply, variables, inputs)
    flat = flatten(apply, variables, inputs)
    axes, used = axes_of_values(flat)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    names = name_like(spec, {path: axes_of(axes[value]) for value, path in enumerate(paths)}, used)
    keys = {
        value: [
            Key(value, i, name)
            for i, axis in enumerate(axes_of(known))
            for factor in expand(axis)
            if (name := names.get(factor)) is not None
        ]
        for value, known in enumerate(axes)
    }
    found = equations(flat, keys)
    actions: dict[str, Action] = {}
    for group in spec.sizes:
        own: list[Action] = []
        for kind in KINDS:
            for action in _actions(found, flat, spec, paths, group, kind):
                larger = [one for one in own if one.kind in (kind, *_LARGER[kind])]
                if not _is_made_of(larger, action):
                    own.append(action)
                    same = sum(one.kind == kind for one in own)
                    actions[f"{group} {kind} {same}" if same > 1 else f"{group} {kind}"] = action
    return Symmetry(spec, actions)


def _actions(
    found: Equations, flat: Flat, spec: PermutationSpec, paths: list[str], group: str, kind: str
) -> list[Action]:
    """A basis of the maps of one kind."""
    rows = [row for row in found.rows[kind] if all(key.group == group for key in row)]
    everywhere = dict.fromkeys(key for keys in found.keys.values() for key in keys if key.group == group)
    order = sorted(everywhere, key=lambda key: (key.value < flat.num_leaves, -key.value))
    needed = {leaf for key in found.constant if key.group == group for leaf in flat.leaves[key.value]}
    actions = []
    for solution in nullspace(rows, order, modulo_2=kind == "sign"):
        powers: dict[str, dict[int, Fraction]] = {}
        own = sorted(key for key, power in solution.items() if power and key.value < flat.num_leaves)
        for key in own:
            powers.setdefault(paths[key.value], {})[key.axis] = solution[key]
        flip = -1 if own and kind != "sign" and solution[own[0]] < 0 else 1
        powers = {path: {i: flip * e for i, e in of.items()} for path, of in powers.items()}
        whole = kind not in MATRICES or all(abs(e) == 1 for of in powers.values() for e in of.values())
        if powers and whole:
            uniform = tuple(paths[leaf] for leaf in sorted(needed)) if kind in TURNS else ()
            actions.append(Action(group, kind, spec.sizes[group], powers, uniform))
    return sorted(actions, key=lambda action: sum(map(len, action.powers.values())))


def _is_made_of(larger: list[Action], action: Action) -> bool:
    """Whether all maps of an action are products of those of others."""
    vectors = [
        {(path, axis): power for path, of in one.powers.items() for axis, power in of.items()}
        for one in (*larger, action)
    ]
    variables = sorted({place for vector in vectors for place in vector})
    parity = action.kind in ("sign", *TURNS)  # a rotation is its own contragredient
    free = [len(nullspace(rows, variables, modulo_2=parity)) for rows in (vectors[:-1], vectors)]
    return free[0] == free[1]


def describe_actions(symmetry: Symmetry) -> str:
    """Returns the symmetries beyond permutations as text: each map, its size, the axes and powers."""
    lines = []
    for name, action in symmetry.actions.items():
        moved = [
            f"{readable_path(path)}[{i}]" + ("" if action.kind in ("sign", *TURNS) else f"^{power}")
            for path, of in action.powers.items()
            for i, power in of.items()
        ]
        needs = f"; where uniform: {', '.join(map(readable_path, action.uniform))}" if action.uniform else ""
        outer = [f" in each of {symmetry.spec.sizes[o]}" for o in around(action.group, symmetry.spec.sizes)]
        lines.append(f"{name} ({action.size}{''.join(reversed(outer))}): {', '.join(moved)}{needs}")
    return "\n".join(lines) or "no symmetry beyond permutations"


def shape_of_map(symmetry: Symmetry, name: str) -> tuple[int, ...]:
    """The shape of what `apply_maps` takes under a name."""
    if name in symmetry.spec.sizes:
        return shape_of_permutation(symmetry.spec, name)
    action = symmetry[name]
    shape = shape_of_permutation(symmetry.spec, action.group)
    return (*shape, action.size) if action.kind in MATRICES else shape


def apply_maps(symmetry: Symmetry, maps: Maps, variables: PyTree) -> PyTree:
    """Moves a network along its symmetries: permutes its units, then maps them by T.

    Can be jitted and differentiated in `maps` and `variables`.

    Args:
        symmetry: of the model.
        maps: name -> a permutation's indices, or T: numbers `(size,)` of a scaling or of signs, a matrix
            `(size, size)`. For what moves within others, their sizes are in front. What is left out stays.
        variables: the network's arrays.

    Returns:
        Variables that compute the same function.

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
            _check_kind(name, symmetry[name].kind, np.asarray(value))
    permutation = {name: maps[name] for name in symmetry.spec.sizes if name in maps}
    if permutation:
        still = {
            name: jnp.broadcast_to(jnp.arange(size), shape_of_permutation(symmetry.spec, name))
            for name, size in symmetry.spec.sizes.items()
        }
        variables = apply_permutation(symmetry.spec, still | permutation, variables)
    for name, value in maps.items():
        if name in symmetry.actions:
            _check_uniform(name, symmetry[name], variables)
            variables = act(symmetry.spec, symmetry[name], value, variables)
    return variables


def _check_kind(name: str, kind: str, value: np.ndarray) -> None:
    size = value.shape[-1]
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
        (kind != "invertible" or bool((np.linalg.matrix_rank(value) == size).all()), "an invertible matrix"),
    ):
        if not good:
            raise UserError(f"{name}: expected {expected}; found another map")


def _check_uniform(name: str, action: Action, variables: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        where = jax.tree_util.keystr(path)
        if where in action.uniform and not isinstance(leaf, jax.core.Tracer):
            values = np.asarray(leaf)
            if np.ptp(values) > 1e-5 * np.abs(values).max():
                raise UserError(f"{name}: expected {readable_path(where)} uniform, as by fold_scales")


def act(spec: PermutationSpec, action: Action, value: Array, variables: PyTree) -> PyTree:
    """A network with T^e applied along every axis that T acts on.

    Args:
        spec: the model's permutations.
        action: what T acts on.
        value: T; not checked.
        variables: the network's arrays.
    """

    def move(path: tuple[object, ...], leaf: Array) -> Array:
        where = jax.tree_util.keystr(path)
        if where not in action.powers:
            return leaf
        leaf, leaf_spec = jnp.asarray(leaf), spec.leaves[where]
        for piece in leaf_spec.pieces:
            block = piece.of(leaf)
            for axis, power in action.powers[where].items():
                block = _along(piece, axis, action, value, power, block)
            if len(leaf_spec.pieces) == 1:
                return block.reshape(leaf.shape)
            leaf = leaf.at[piece.index].set(block.reshape(piece.shape))
        return leaf

    return jax.tree_util.tree_map_with_path(move, variables)


def _along(piece: Piece, axis: int, action: Action, value: Array, power: Fraction, block: Array) -> Array:
    start = sum(len(factors) for factors in piece.axes[:axis])
    own = [start + i for i, (_, name) in enumerate(piece.axes[axis]) if name == action.group]
    letters = string.ascii_letters[: block.ndim]
    within = around(action.group, [name for name in piece.perms if name])
    outer = "".join(letters[piece.perms.index(name)] for name in within)
    for i in own:
        if action.kind in ("scaling", "sign"):
            factor = value ** float(power)
            block = jnp.einsum(f"{letters},{outer}{letters[i]}->{letters}", block, factor)
            continue
        matrix = (
            value if power > 0 or action.kind != "invertible" else jnp.swapaxes(jnp.linalg.inv(value), -1, -2)
        )
        new = letters.replace(letters[i], "Z")
        block = jnp.einsum(
            f"{outer}Z{letters[i]},{letters}->{new}", matrix, block, precision=jax.lax.Precision.HIGHEST
        )
    return block


def random_maps(key: PRNGKey, symmetry: Symmetry, *names: str) -> Maps:
    """Draws maps of the given names: rotations uniformly, others around the identity."""
    drawn: Maps = {}
    for i, name in enumerate(names):
        own, kind, shape = jax.random.fold_in(key, i), symmetry[name].kind, shape_of_map(symmetry, name)
        normal = jax.random.normal(own, shape)
        match kind:
            case "scaling":
                drawn[name] = jnp.exp(normal / 2)
            case "sign":
                drawn[name] = jnp.where(normal > 0, 1.0, -1.0)
            case "invertible":
                drawn[name] = jnp.eye(shape[-1]) + 0.3 * normal / np.sqrt(shape[-1])
            case _:
                drawn[name] = nearest_rotation(normal, kind)
    return drawn


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
            undone[name] = jnp.linalg.inv(value) if kind == "invertible" else 1 / value
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


def _rescaled(symmetry: Symmetry, variables: PyTree, divisor: Callable[[Array, str], Array]) -> PyTree:
    """Divides norms' scales, and multiplies the next layer, where rotations need the scales uniform."""
    needed = {path for action in symmetry.actions.values() for path in action.uniform}
    for action in symmetry.actions.values():
        own = [path for path in needed if action.kind in ("scaling", "invertible") and path in action.powers]
        for path in own:
            factor = jnp.asarray(divisor(_leaf(variables, path), path))
            (power,) = action.powers[path].values()
            if not isinstance(factor, jax.core.Tracer) and not np.all(np.asarray(factor)):
                raise UserError(f"{readable_path(path)}: expected a scale without zeros; found one")
            variables = act(symmetry.spec, action, factor ** float(-1 / power), variables)
            needed.discard(path)
    if needed:
        raise UserError(f"{readable_path(min(needed))}: expected a scale that folds into the next layer")
    return variables


def _leaf(variables: PyTree, path: str) -> Array:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return next(leaf for where, leaf in leaves if jax.tree_util.keystr(where) == path)
