"""A permutation assigned together with all maps within what it moves, such as rotations within each head.

What giving B's head j to A's head i is worth, the maps within say: the best rotation of queries with keys,
the best order of the queries of a group. Each has a closed form where the others are held, and is found for
all pairs of heads at once; so heads are assigned by `V[i, j] = sum <A_i, g_ij(B_j)>`. Assigned before what is
within is known, they would be matched to noise.

All by NumPy, which has nothing to compile.
"""

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from llfc_jax.matching.assignment import host_assignment
from llfc_jax.matching.leaves import Leaves
from llfc_jax.matching.similarity import accumulator, at_assigned, family
from llfc_jax.runtime import sharding
from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.maps import Maps, is_matrix, nearest
from llfc_jax.symmetry.spec import around
from llfc_jax.types import AnyArray

_SWEEPS = 4
"""Over the maps within: of two that meet on an array, each is found again once the other is known."""

Slot: TypeAlias = str
"""What moves an axis of an array: a permutation, or an action of the units that it is of, by name."""

Similarities: TypeAlias = dict[tuple[Slot, ...], AnyArray]
"""`S[i, j, k, l, ...]`: what A has at i, and at k within it, times what B has at j, and at l within it."""


class _Family(NamedTuple):
    """A permutation, and what moves units within what it moves.

    Attributes:
        groups: its units, then those within, outer before inner.
        sizes: of all groups.
        actions: name -> what acts on units that have none within; matrices first.
    """

    groups: tuple[str, ...]
    sizes: Mapping[str, int]
    actions: Mapping[str, Action]

    def group_of(self, slot: Slot) -> str:
        return self.actions[slot].group if slot in self.actions else slot

    def pairs(self, slot: Slot) -> tuple[str, ...]:
        """The groups that a slot's maps tell pairs of positions of: what it is within, and its own."""
        group = self.group_of(slot)
        return (*around(group, self.groups), group)

    def letters(self, *groups: str) -> str:
        """Of these groups' positions, in A and in B."""
        numbers = [self.groups.index(group) for group in groups]
        return "".join(string.ascii_lowercase[i] + string.ascii_uppercase[i] for i in numbers)


def assigned_with_inner_maps(
    symmetry: Symmetry, name: str, actions: Sequence[str], a: Leaves, b: Mapping[str, AnyArray]
) -> Maps:
    """The best assignment of a permutation, and the maps within what it moves that are best for that.

    Args:
        symmetry: of the networks.
        name: of a permutation that moves within no other.
        actions: rotations, of any kind, and signs that may be used.
        a: A's arrays that are compared.
        b: B's arrays.

    Returns:
        Maps for `apply_maps`: this permutation, those within it, and the actions within it; none if no array
        that is compared tells heads apart.
    """
    sizes = symmetry.units.sizes
    own = family(name, sizes)
    acting = [one for one in actions if len(family(symmetry[one].group, own)) == 1]
    acting.sort(key=lambda one: not is_matrix(symmetry[one]))
    members = _Family(own, sizes, {one: symmetry[one] for one in acting if symmetry[one].group in own[1:]})
    similarity = _similarities(symmetry, members, a, b)
    if not similarity:
        return {}
    slots = dict.fromkeys(slot for moving in similarity for slot in moving if slot != name)
    found = {slot: _unknown(members, slot) for slot in slots}
    for _ in range(_SWEEPS):
        for group in reversed(own[1:]):
            found |= _best(members, group, similarity, found)
    chosen: dict[str, AnyArray] = {name: host_assignment(_worth(members, name, similarity, found))}
    for group in own[1:]:
        chosen |= _at_assigned(members, group, found, chosen)
    return {one: moved for one, moved in chosen.items() if one in symmetry.spec.sizes or one in found}


def _similarities(symmetry: Symmetry, members: _Family, a: Leaves, b: Mapping[str, AnyArray]) -> Similarities:
    """Of all arrays, summed where the same moves them; whatever else moves them is held."""
    found: Similarities = {}
    for path in a:
        single = accumulator(a[path], b[path])
        whole_a, whole_b = (array.astype(single) for array in sharding.fetch((a[path], b[path])))
        for number, piece in enumerate(symmetry.units.leaves[path].pieces):
            for moving in _moving(symmetry, members, path, number):
                of_a = string.ascii_lowercase[: len(piece.view)]
                of_b = "".join(x.upper() if i in moving else x for i, x in enumerate(of_a))
                paired = "".join(of_a[i] + of_b[i] for i in moving)
                both = piece.of(whole_a), piece.of(whole_b).conj()
                own = np.einsum(f"{of_a},{of_b}->{paired}", *both, optimize=True).real
                slots = (*moving.values(),)
                found[slots] = found[slots] + own if slots in found else own
    return found


def _moving(symmetry: Symmetry, members: _Family, path: str, number: int) -> Iterator[dict[int, Slot]]:
    """For each axis of a piece that the permutation moves, it and the axes of what moves within it.

    None where what is within is there twice: it isn't known for pairs of heads.
    """
    slots: dict[int, Slot] = {}
    rank: dict[int, int] = {}
    piece = symmetry.units.leaves[path].pieces[number]
    view = [(axis, group) for axis, factors in enumerate(piece.axes) for _, group in factors]
    for place, (axis, group) in enumerate(view):
        acting = [n for n, action in members.actions.items() if (number, axis) in action.powers.get(path, ())]
        slot = next((n for n in acting if members.group_of(n) == group), group)
        if group in members.groups and slot is not None and slot in (*acting, *symmetry.spec.sizes):
            slots[place], rank[place] = slot, members.groups.index(group)
    inner = sorted((i for i in slots if rank[i]), key=rank.__getitem__)
    if len({rank[i] for i in inner}) == len(inner):
        yield from ({i: slots[i]} | {j: slots[j] for j in inner} for i in slots if not rank[i])


def _unknown(members: _Family, slot: Slot) -> AnyArray:
    """The average of all maps: of permutations each position equally, of rotations and signs nothing."""
    pairs = members.pairs(slot)
    shape = [members.sizes[group] for group in pairs for _ in range(2)]
    return np.full(shape, 0.0 if slot in members.actions else 1 / shape[-1], np.float32)


def _worth(
    members: _Family, slot: Slot, similarity: Similarities, found: Mapping[Slot, AnyArray]
) -> AnyArray:
    """`W[i, j, ..., k, l]`: of what a slot moves, with all other maps as found, the products summed."""
    kept = members.letters(*members.pairs(slot))

    def summed(moving: tuple[Slot, ...], own: AnyArray) -> AnyArray:
        others = [other for other in moving if members.group_of(other) not in members.pairs(slot)]
        letters = [members.letters(*map(members.group_of, moving))]
        letters += [members.letters(*members.pairs(other)) for other in others]
        return np.einsum(
            f"{','.join(letters)}->{kept}", own, *(found[other] for other in others), optimize=True
        )

    return sum(summed(moving, own) for moving, own in similarity.items() if slot in moving)


def _best(
    members: _Family, group: str, similarity: Similarities, found: Mapping[Slot, AnyArray]
) -> dict[Slot, AnyArray]:
    """The best maps of some units for all pairs of what they are within, the others' held."""
    worth = {
        slot: _worth(members, slot, similarity, found) for slot in found if members.group_of(slot) == group
    }
    matrices = {slot for slot in worth if slot in members.actions and is_matrix(members.actions[slot])}
    best = {slot: np.asarray(nearest(members.actions[slot], worth[slot])) for slot in matrices}
    permuted = worth.keys() - matrices
    if permuted:
        alike: AnyArray = sum(abs(worth[s]) if s in members.actions else worth[s] for s in permuted)
        chosen = np.eye(alike.shape[-1], dtype=alike.dtype)[host_assignment(alike)]
        for slot in permuted:
            turned = slot in members.actions
            best[slot] = np.where((worth[slot] < 0) & turned, -chosen, chosen)
    return best


def _at_assigned(
    members: _Family, group: str, found: Mapping[Slot, AnyArray], chosen: dict[str, AnyArray]
) -> dict[str, AnyArray]:
    """The maps of some units for the pairs that were chosen: their permutation, then what acts on them."""
    outer = around(group, members.groups)
    slots = [slot for slot in found if members.group_of(slot) == group]
    own: dict[Slot, AnyArray] = {slot: at_assigned(found[slot], outer, chosen) for slot in slots}
    shape = [members.sizes[other] for other in members.pairs(group)]
    order = np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape)
    for slot in slots:
        if slot not in members.actions or not is_matrix(members.actions[slot]):
            order = abs(own[slot]).argmax(-1).astype(np.int32)
    moved = {group: order}
    for slot in slots:
        # Actions move units that have been permuted.
        maps = np.take_along_axis(own[slot], order[..., None, :], -1)
        if slot in members.actions:
            matrix = is_matrix(members.actions[slot])
            moved[slot] = maps if matrix else np.diagonal(maps, axis1=-2, axis2=-1)
    return moved
