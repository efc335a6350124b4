"""What a program looks up by position, and which units are taken to move alike for it.

Where each example looks up an expert, the units of an expert move in an order of its own as long as examples
are kept apart (`chosen.py`). Where they are not, or the position is none that is followed, as the counter of
a loop, all experts are taken to have one order. This is a symmetry, but not all of it, and is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jax.extend.core import JaxprEqn, Literal

from llfc_jax.symmetry.factors import Axes, Axis, Factor, dependencies, expand, flatten
from llfc_jax.symmetry.provenance import Lines, shown
from llfc_jax.symmetry.rule import shape_of


class Lookup(NamedTuple):
    """A part of an array at a position along some axes that isn't known before the program runs.

    Attributes:
        eqn: that looks it up.
        along: the axes along which it does.
        kept: the others.
    """

    eqn: JaxprEqn
    along: Axis
    kept: Axis


class Used(NamedTuple):
    """What the primitives of a program read, in order."""

    factors: list[Factor]
    lookups: list[Lookup]


def lookups(eqn: JaxprEqn, operands: Sequence[Axes]) -> Iterator[Lookup]:
    """What a primitive looks up, if anything."""
    for axes, found in zip(operands, _looked_up(eqn), strict=False):
        if found:
            along = flatten(axis for i, axis in enumerate(axes) if i in found)
            yield Lookup(eqn, along, flatten(axis for i, axis in enumerate(axes) if i not in found))


def _looked_up(eqn: JaxprEqn) -> tuple[set[int], ...]:
    """For each of the first operands, the axes along which it is looked up."""
    params = eqn.params
    match eqn.primitive.name:
        case "gather":
            sizes, dimensions = params["slice_sizes"], params["dimension_numbers"].start_index_map
            return ({i for i in dimensions if sizes[i] == 1},)
        case "dynamic_slice":
            cut = zip(shape_of(eqn.invars[0]), params["slice_sizes"], eqn.invars[1:], strict=False)
            return ({i for i, (n, kept, at) in enumerate(cut) if kept < n and not isinstance(at, Literal)},)
        case "ragged_dot_general":
            return set(), {*params["ragged_dot_dimension_numbers"].rhs_group_dimensions}
    return ()


def alike(
    arrays: Mapping[str, Axes], found: Sequence[Lookup], names: Mapping[Factor, str], lines: Lines
) -> dict[str, tuple[str, ...]]:
    """For each axis of each array, the lookups for which its units are taken to move alike at all positions.

    Those of units that are only on arrays that are looked up: on any other array they move alike anyway.
    """
    known = [(one.eqn, {*expand(one.along)}, {*expand(one.kept)}) for one in found]
    on_leaves = [{*expand(flatten(axes))} for axes in arrays.values()]
    why: dict[Factor, tuple[str, ...]] = {}
    for factor in names:
        leaves = [own for own in on_leaves if factor in own]
        told = dependencies(factor)
        by_leaf = [
            [eqn for eqn, along, kept in known if factor in kept and along & own and not along & told]
            for own in leaves
        ]
        if all(by_leaf):
            why[factor] = tuple(shown(eqn, lines) for eqns in by_leaf for eqn in eqns)
    return {path: tuple(_joined(axis, why) for axis in axes) for path, axes in arrays.items()}


def _joined(axis: Axis, why: Mapping[Factor, Sequence[str]]) -> str:
    return ", ".join(dict.fromkeys(reason for factor in expand(axis) for reason in why.get(factor, ())))
