"""The axes of every value that a flat program computes, and the permutations that move them."""

import jax

from llfc_jax.program.flat import Flat
from llfc_jax.symmetry.factors import Axes, Factor, factors_of, fix, new_axes
from llfc_jax.symmetry.known import Known, as_numbers, axes_of
from llfc_jax.symmetry.lookups import Used
from llfc_jax.symmetry.rotary import paired
from llfc_jax.symmetry.spec import PermutationSpec
from llfc_jax.symmetry.trace import constants, propagate
from llfc_jax.symmetry.unification import settle
from llfc_jax.symmetry.units import name_like
from llfc_jax.types import PyTree


def named_axes(
    flat: Flat, variables: PyTree, spec: PermutationSpec
) -> tuple[list[Axes], dict[Factor, str | None]]:
    """The axes of every value of a program, and the name of what moves each class; None if it stays.

    Raises:
        UserError: the spec was not derived from this program.
    """
    axes, used = _axes_of_values(flat)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    turned = [axes[value][axis] for value, axis, _ in paired(flat)]
    return axes, name_like(spec, dict(zip(paths, axes, strict=False)), used, turned)


def _axes_of_values(flat: Flat) -> tuple[list[Axes], list[Factor]]:
    """The axes of every value of a program, all statements made, and what its primitives read."""
    of_input = range(flat.num_leaves, flat.num_arguments)
    known: dict[int, Known] = {
        value: new_axes(flat.avals[value].shape, fixed="an input" if value in of_input else None)
        for value in range(flat.num_arguments)
    }
    for value in range(flat.num_leaves):
        settle(axes_of(known[value]), "a leaf")
    used = Used([], [])

    axes_of_constant = constants()

    def read(value: int) -> Known:
        return known[value] if value in known else axes_of_constant(flat.constants[value])

    for instruction in flat.instructions:
        operands = [read(operand) for operand in instruction.operands]
        results = propagate(instruction.eqn, operands, used)
        known.update(zip(instruction.results, results, strict=True))
    outputs = [as_numbers(read(value), "an output") for value in flat.outputs]
    fix(factors_of(outputs), "an output")
    return [axes_of(known.get(value, ())) for value in range(len(flat.avals))], used.factors
