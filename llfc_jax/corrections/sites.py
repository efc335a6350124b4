"""Where a unit's scale and shift can be folded into the parameters, read off any program."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.program.axes import output_axes
from llfc_jax.program.flat import Flat, arguments, behind, run
from llfc_jax.program.kinds import Kind
from llfc_jax.program.nodes import Node, Program
from llfc_jax.program.operations import COPIES, STRUCTURAL, dependents
from llfc_jax.types import Array, Variables


class Fold(NamedTuple):
    """A leaf, and the operand that it becomes."""

    leaf: int
    operand: int
    axis: int
    """Of the operand, along which units lie."""


class Site(NamedTuple):
    """A node whose own parameters end in a scale and a shift of each unit."""

    node: Node
    axis: int
    """Of its value, along which units lie."""
    gain: Fold
    shift: Fold


def sites(program: Program) -> tuple[Site, ...]:
    """Nodes whose units' scale and shift lie in parameters, the network's output excepted.

    Normalisations are; so are contractions with a bias, unless a normalisation follows and undoes it.
    """
    normalised = {entry for node in program.of_kind(Kind.NORMALIZATION) for entry in node.entries}
    found = (
        _site(program.flat, node)
        for node in program.of_kind(Kind.CONTRACTION, Kind.NORMALIZATION)
        if node.value not in program.ends and node.value not in normalised and node.unit_axis is not None
    )
    return tuple(site for site in found if site is not None)


def scaled(flat: Flat, variables: Variables, fold: Fold, factor: Array) -> Array:
    """The leaf whose operand is `factor` (units,) times what it was."""
    leaves = jax.tree.leaves(variables)
    return leaves[fold.leaf] * _of_leaf(flat, variables, fold, factor)


def shifted(flat: Flat, variables: Variables, fold: Fold, offset: Array) -> Array:
    """`offset` (units,), laid out as the leaf."""
    return _of_leaf(flat, variables, fold, offset)


def _of_leaf(flat: Flat, variables: Variables, fold: Fold, per_unit: Array) -> Array:
    """Numbers of units as numbers of a leaf's entries: each has that of the unit that it belongs to."""
    operand = partial(_operand, flat, variables, fold)
    leaf = jax.tree.leaves(variables)[fold.leaf]
    value, slope = jax.jvp(operand, (leaf,), (jnp.ones_like(leaf),))
    shape = [per_unit.shape[0] if axis == fold.axis else 1 for axis in range(value.ndim)]
    spread = jnp.broadcast_to(per_unit.reshape(shape), value.shape).astype(value.dtype)
    _, back = jax.vjp(operand, leaf)
    (weighted,), (weights,) = back(slope * spread), back(slope)
    return weighted / jnp.where(weights == 0, 1, weights)


def _operand(flat: Flat, variables: Variables, fold: Fold, leaf: Array) -> Array:
    leaves = jax.tree.leaves(variables)
    changed = jax.tree.unflatten(
        jax.tree.structure(variables), [*leaves[: fold.leaf], leaf, *leaves[fold.leaf + 1 :]]
    )
    return run(flat, arguments(flat, changed, ()), behind(flat, [fold.operand]))[fold.operand]


def _site(flat: Flat, node: Node) -> Site | None:
    """The gain and the shift that a node's value ends in, if it ends in both."""
    ends: dict[int, tuple[Fold | None, Fold | None]] = {}
    for index in node.instructions:
        ends.update(dict.fromkeys(flat.instructions[index].results, _end(flat, node, index, ends)))
    gain, shift = ends[node.value]
    if gain is None or shift is None or node.unit_axis is None:
        return None
    return Site(node, node.unit_axis, gain, shift)


def _end(
    flat: Flat, node: Node, index: int, ends: Mapping[int, tuple[Fold | None, Fold | None]]
) -> tuple[Fold | None, Fold | None]:
    """The gain and the shift that an instruction's result ends in."""
    instruction = flat.instructions[index]
    weights = [x for x in instruction.operands if flat.is_weight(x)]
    before = [ends.get(x, (None, None)) for x in dependents(flat, instruction)]
    fits = flat.avals[instruction.results[0]].shape == node.shape
    if node.contraction is not None and node.contraction.instruction == index:
        free = output_axes(flat, instruction, node.contraction.weight)
        return _fold(flat, node.contraction.weight, free[0] if len(free) == 1 else None), None
    match instruction.primitive, len(weights):
        case "mul", 1:
            return _fold(flat, weights[0], node.unit_axis if fits else None), None
        case "mul", 0:  # a normalised activation times what holds the gain
            gains = [gain for gain, _ in before if gain is not None]
            return (gains[0] if len(gains) == 1 else None), None
        case "add", 1 if len(before) == 1:
            return before[0][0], _fold(flat, weights[0], node.unit_axis if fits else None)
        case name, 0 if name in COPIES and len(before) == 1:
            return before[0]
    return None, None


def _fold(flat: Flat, operand: int, axis: int | None) -> Fold | None:
    """The first leaf in which an operand is linear."""
    made_by = behind(flat, [operand])
    for leaf in sorted(flat.leaves[operand]):
        if axis is not None and all(_linear_in(flat, leaf, index) for index in made_by):
            return Fold(leaf, operand, axis)
    return None


def _linear_in(flat: Flat, leaf: int, index: int) -> bool:
    instruction = flat.instructions[index]
    given = [leaf in flat.leaves[x] for x in instruction.operands]
    if not any(given) or instruction.primitive in STRUCTURAL:
        return True
    name = instruction.primitive
    return sum(given) == 1 and (name == "mul" or (name == "div" and given[0]))
