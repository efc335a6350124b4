"""Symmetries beyond permutations: scalings, signs, rotations, invertible maps of groups of units.

Which maps a group of units allows is decided by the operations that its axes pass through (`exponents`):
ReLU allows positive scalings, odd functions signs, sums of squares rotations, a product of queries with keys
or of values with outputs all invertible maps. A LayerNorm subtracts the mean, so it allows the rotations that
fix the direction (1, ..., 1). The scale of a norm allows rotations where it doesn't vary, as after
`maps.fold_scales`. Of queries with keys that rotary positions turn, pairs may be multiplied as complex
numbers (`rotary`).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import jax

from llfc_jax.errors import UserError
from llfc_jax.program.flat import flatten
from llfc_jax.symmetry.exponent_rules import equations
from llfc_jax.symmetry.exponents import KINDS, MATRICES, ROTARY, TURNS, Equations, Key
from llfc_jax.symmetry.factors import expand
from llfc_jax.symmetry.nullspace import nullspace
from llfc_jax.symmetry.places import Places
from llfc_jax.symmetry.reading import leaf_spec
from llfc_jax.symmetry.rotary import Pairs, paired, with_rotary
from llfc_jax.symmetry.spec import (
    LeafSpec,
    PermutationSpec,
    Positions,
    around,
    readable_path,
    shape_of_permutation,
)
from llfc_jax.symmetry.trace import permutation_spec
from llfc_jax.symmetry.values import named_axes
from llfc_jax.types import PyTree

_LARGER = {
    "invertible": (),
    "orthogonal": ("invertible",),
    "mean-fixing orthogonal": ("invertible", "orthogonal"),
    "sign": ("invertible", "orthogonal"),
    "scaling": ("invertible",),
}
"""Kind of map -> kinds that have all of its maps."""


@dataclass(frozen=True)
class Action:
    """One map T of the units of a group, and the powers of it that act on the model's arrays.

    Attributes:
        group: the permutation that moves these units; of pairs, which none moves, a name of `Symmetry.units`.
        kind: one of `exponents.KINDS`, or `exponents.ROTARY`.
        size: number of units.
        powers: path -> piece and axis of the array -> e: T^e acts along it; of matrices T for 1, T^-T for -1.
        uniform: paths of arrays that must not vary, for T to be a symmetry.
        pairs: of units that T multiplies as complex numbers; none where it isn't made of such.
    """

    group: str
    kind: str
    size: int
    powers: Mapping[str, Mapping[tuple[int, int], Fraction]]
    uniform: tuple[str, ...] = ()
    pairs: Pairs = ()


@dataclass(frozen=True)
class Symmetry:
    """All symmetries found of a model.

    Hashable, so that it can be a static argument of a jitted function.

    Attributes:
        spec: its permutations.
        actions: name -> a family of maps, of any kind but permutations.
        units: where the units are that maps act on: as in `spec`, and those that no permutation moves.
    """

    spec: PermutationSpec
    actions: Mapping[str, Action]
    units: PermutationSpec

    def __hash__(self) -> int:
        return hash((self.spec, frozenset(self.actions), self.units))

    def __getitem__(self, name: str) -> Action:
        if name not in self.actions:
            found = ", ".join(self.actions) or "none"
            raise UserError(f"symmetry: expected one that the network has ({found}); found {name!r}")
        return self.actions[name]

    @property
    def uniform(self) -> frozenset[tuple[str, int]]:
        """The arrays that some maps need uniform, by path and piece."""
        paths = {path for action in self.actions.values() for path in action.uniform}
        return frozenset((path, i) for path in paths for i, _ in enumerate(self.units.leaves[path].pieces))

    def folded_by(self, action: Action) -> frozenset[tuple[str, int]]:
        """The arrays, by path and piece, that a scaling can make uniform: with one number for each unit."""
        if action.kind != "scaling":
            return frozenset()
        shape = shape_of_permutation(self.units, action.group)
        return frozenset(
            (path, piece)
            for path, of in action.powers.items()
            for piece, _ in of
            if math.prod(self.units.leaves[path].pieces[piece].view) == math.prod(shape)
        )

    def kept_by(self, action: Action) -> tuple[str, ...]:
        """The arrays that a map needs uniform and that no scaling folds into another layer.

        Such as the scale of a last norm before tied embeddings: unless it is uniform, the map is no symmetry.
        """
        folded = {place for one in self.actions.values() for place in self.folded_by(one)}
        return tuple(
            path
            for path in action.uniform
            if not folded.issuperset((path, i) for i, _ in enumerate(self.units.leaves[path].pieces))
        )

    @property
    def foldable(self) -> "Symmetry":
        """The same without maps that need arrays uniform which can't be made so."""
        kept = {name: action for name, action in self.actions.items() if not self.kept_by(action)}
        return Symmetry(self.spec, kept, self.units)


def symmetries(apply: Callable[..., PyTree], variables: PyTree, inputs: PyTree) -> Symmetry:
    """Derives which linear maps of units leave a model's outputs unchanged, beside permutations.

    Args:
        apply: variables, inputs -> outputs; traced, not run.
        variables: arrays or `jax.ShapeDtypeStruct`s.
        inputs: one batch of the same.

    Example:
        >>> import jax.numpy as jnp
        >>> weights = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 3))}
        >>> found = symmetries(lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"], weights, jnp.ones((2, 5)))
        >>> print(describe_actions(found))
        P0 scaling (8): in[1]^1, out[0]^-1
    """
    spec = permutation_spec(apply, variables, inputs)
    flat = with_rotary(flatten(apply, variables, inputs))
    axes, names, _ = named_axes(flat, variables, spec)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    places = Places(flat, axes, names)
    found = equations(places)
    moving = {factor: name for factor, name in names.items() if name is not None}
    sizes = {**spec.sizes, **{name: factor.size for factor, name in moving.items()}}
    leaves = {
        path: leaf_spec(
            axes[value],
            flat.avals[value].shape,
            moving,
            join=not any(key.part for key in found.of(value)),
        )
        for value, path in enumerate(paths)
    }
    units = PermutationSpec(sizes, leaves)
    pairs = {
        name: own
        for value, axis, own in paired(flat)
        for factor in expand(axes[value][axis])
        if (name := moving.get(factor)) is not None
    }
    actions: dict[str, Action] = {}
    for group in sizes:
        actions |= _of_group(found, places, units, paths, group, pairs.get(group, ()))
    return Symmetry(spec, actions, units)


def _of_group(
    found: Equations, places: Places, units: PermutationSpec, paths: list[str], group: str, pairs: Pairs
) -> dict[str, Action]:
    """Name -> the maps of a group's units, those left out that are products of others."""
    own: dict[str, Action] = {}
    for kind in ("invertible",) if pairs else KINDS:
        larger = [one for one in own.values() if one.kind in _LARGER[kind]]
        for action in _actions(found, places, units, paths, group, kind):
            if not _is_made_of(larger, action):
                larger.append(action)
                action = replace(action, kind=ROTARY if pairs else kind, pairs=pairs)
                same = sum(one.kind == action.kind for one in own.values()) + 1
                own[f"{group} {action.kind} {same}" if same > 1 else f"{group} {action.kind}"] = action
    return own


def _actions(
    found: Equations, places: Places, spec: PermutationSpec, paths: list[str], group: str, kind: str
) -> list[Action]:
    """A basis of the maps of one kind."""
    flat = places.flat
    rows = [row for row in found.rows[kind] if all(key.group == group for key in row)]
    everywhere = dict.fromkeys(key for keys in found.keys.values() for key in keys if key.group == group)
    order = sorted(everywhere, key=lambda key: (key.value < flat.num_leaves, -key.value))
    needed = {leaf for key in found.constant if key.group == group for leaf in flat.leaves[key.value]}
    actions = []
    for solution in nullspace(rows, order, modulo_2=kind == "sign"):
        own = sorted(key for key, power in solution.items() if power and key.value < flat.num_leaves)
        flip = -1 if own and kind != "sign" and solution[own[0]] < 0 else 1
        powers: dict[str, dict[tuple[int, int], Fraction]] = {}
        for key in own:
            path = paths[key.value]
            at = dict.fromkeys(_pieces(places, key, spec.leaves[path]), flip * solution[key])
            powers.setdefault(path, {}).update({(piece, key.axis): e for piece, e in at.items()})
        whole = kind not in MATRICES or all(abs(e) == 1 for of in powers.values() for e in of.values())
        if powers and whole:
            uniform = tuple(paths[leaf] for leaf in sorted(needed)) if kind in TURNS else ()
            actions.append(Action(group, kind, spec.sizes[group], powers, uniform))
    return sorted(actions, key=lambda action: sum(map(len, action.powers.values())))


def _pieces(places: Places, key: Key, leaf: LeafSpec) -> Iterator[int]:
    """The pieces of an array that a group is on at one of its places."""
    for block, keys in places.blocks(key.value) if leaf.cut else ():
        if key in keys:
            for i, piece in enumerate(leaf.pieces):
                if all(own[0] in of for own, of in zip(block.positions, piece.positions, strict=True)):
                    yield i
    if not leaf.cut:
        yield 0


def _is_made_of(larger: list[Action], action: Action) -> bool:
    """Whether all maps of an action are products of those of others."""
    vectors = [
        {(path, place): power for path, of in one.powers.items() for place, power in of.items()}
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
            where + ("" if action.kind in ("sign", *TURNS) else f"^{power}")
            for path, of in action.powers.items()
            for where, power in _axes(symmetry.units.leaves[path], action.group, path, of).items()
        ]
        needs = f"; where uniform: {', '.join(map(readable_path, action.uniform))}" if action.uniform else ""
        if kept := symmetry.kept_by(action):
            needs += f"; no layer takes in {', '.join(map(readable_path, kept))}"
        outer = [f" in each of {symmetry.units.sizes[o]}" for o in around(action.group, symmetry.units.sizes)]
        count = f"{len(action.pairs)} pairs" if action.pairs else action.size
        lines.append(f"{name} ({count}{''.join(reversed(outer))}): {', '.join(moved)}{needs}")
    return "\n".join(lines) or "no symmetry beyond permutations"


def _axes(
    leaf: LeafSpec, group: str, path: str, powers: Mapping[tuple[int, int], Fraction]
) -> dict[str, Fraction]:
    """The axes of an array, or of parts of it, that a map acts along, and with which power."""
    found = {}
    for (i, axis), power in powers.items():
        with_group = [j for j, piece in enumerate(leaf.pieces) if piece.moved_by(group, axis)]
        whole = all(powers.get((j, axis)) == power for j in with_group)
        part = "" if whole else _index(leaf.pieces[i].positions, leaf.shape)
        found[f"{readable_path(path)}{part}[{axis}]"] = power
    return found


def _index(positions: Sequence[Positions], shape: Sequence[int]) -> str:
    """What an array is indexed by for a part of it, shortened where that is no slice."""
    shown = []
    for own, size in zip(positions, shape, strict=True):
        first, *between, last = own if len(own) > 1 else (own[0], own[0])
        if isinstance(own, range):
            step = f":{own.step}" if own.step > 1 else ""
            shown.append(":" if len(own) == size else f"{first}:{last + 1}{step}")
        else:
            shown.append(f"({first}, {', '.join(map(str, between)) if len(own) < 6 else '...'}, {last})")
    while shown[-1] == ":":
        shown.pop()
    return f"[{', '.join(shown)}]"
