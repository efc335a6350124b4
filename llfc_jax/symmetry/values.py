"""The axes of every value that a flat program computes, and the permutations that move them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from llfc_jax.program.flat import Flat
from llfc_jax.symmetry.factors import Axes, Factor, factors_of, fix, new_axes, new_axis
from llfc_jax.symmetry.known import Known, as_numbers, axes_of
from llfc_jax.symmetry.lookups import Used
from llfc_jax.symmetry.rotary import paired
from llfc_jax.symmetry.spec import PermutationSpec
from llfc_jax.symmetry.steps import is_summed
from llfc_jax.symmetry.trace import constants, propagate
from llfc_jax.symmetry.unification import settle, unify
from llfc_jax.symmetry.units import name_like
from llfc_jax.symmetry.unrolled import Loop, Plan, Together, plan
from llfc_jax.symmetry.unrolled_rules import Propagation
from llfc_jax.types import PyTree


class Named(NamedTuple):
    """What moves the values of a program.

    Attributes:
        axes: of every value.
        names: of what moves each class; None if it stays.
        plan: the loops that Python has run.
    """

    axes: list[Axes]
    names: dict[Factor, str | None]
    plan: Plan


def named_axes(flat: Flat, variables: PyTree, spec: PermutationSpec) -> Named:
    """The axes of every value of a program, and the name of what moves each class.

    Raises:
        UserError: the spec was not derived from this program.
    """
    axes, used, loops = _axes_of_values(flat)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    turned = [axes[value][axis] for value, axis, _ in paired(flat)]
    names = name_like(spec, dict(zip(paths, axes, strict=False)), used, turned)
    return Named(axes, names, loops)


def _axes_of_values(flat: Flat) -> tuple[list[Axes], list[Factor], Plan]:
    """The axes of every value of a program, all statements made, what its primitives read, and its loops."""
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

    visit = Propagation(_plan(flat), propagate, used, ())
    for instruction in flat.instructions:
        operands = [read(operand) for operand in instruction.operands]
        results = visit(instruction.eqn, operands)
        known.update(zip(instruction.results, results, strict=True))
    outputs = [as_numbers(read(value), "an output") for value in flat.outputs]
    fix(factors_of(outputs), "an output")
    axes = [axes_of(known.get(value, ())) for value in range(len(flat.avals))]
    return axes, used.factors, visit.plan


def _plan(flat: Flat) -> Plan:
    """The loops that Python has run, and those over the iterations of scans that do nothing but add.

    All of one scan are counted by one axis, as the scan's iterations are; those of other scans are none.
    """
    scans = [(is_summed(eqn), new_axis(len(made)), made) for eqn, made in flat.unrolled]

    def is_loop(loop: Loop) -> bool:
        for free, axis, made in scans:
            if any(_in_each(flat, own, made) for own in loop.steps):
                if free and len(made) == loop.size:
                    unify(loop.axis, axis, "a scan")
                return free and len(made) == loop.size
        return True

    return plan(flat.instructions, flat.constants, flat.outputs, is_loop)


def _in_each(flat: Flat, together: Together, made: Sequence[range]) -> bool:
    """Whether steps are of different iterations of a scan."""
    results = (flat.instructions[i].results for i in together)
    values = [own[0] for own in results if own]
    of = [next((i for i, own in enumerate(made) if value in own), None) for value in values]
    return None not in of and len({*of}) > 1
