"""What the steps of loops that Python has run say of their axes: one part stands for all."""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jax.extend.core import JaxprEqn

from llfc_jax.symmetry.chosen import each_once
from llfc_jax.symmetry.factors import Axes, Axis, factors_of, new_axis, size_of
from llfc_jax.symmetry.known import (
    Among,
    Chosen,
    Coordinates,
    Known,
    Partial,
    Positions,
    as_numbers,
    axes_of,
    settle_value,
    surroundings,
    told_of,
)
from llfc_jax.symmetry.lookups import Used
from llfc_jax.symmetry.rule import shape_of
from llfc_jax.symmetry.rules import RULES
from llfc_jax.symmetry.unification import settle, take, unify
from llfc_jax.symmetry.unrolled import Loop, Plan

Propagate: TypeAlias = Callable[[JaxprEqn, Sequence[Known], Used, Axis], Sequence[Known]]


@dataclass
class Propagation:
    """The axes of the results of a program's steps, one after the other.

    Attributes:
        plan: which steps are parts of loops.
        propagate: the axes of the results of any other step.
        used: what primitives read, in order; appended to.
        ambient: what the iterations of the loops around are counted by.
    """

    plan: Plan
    propagate: Propagate
    used: Used
    ambient: Axis
    number: int = 0
    """Of the next step."""
    _made: dict[int, Sequence[Known]] = field(default_factory=dict)

    def __call__(self, eqn: JaxprEqn, operands: Sequence[Known]) -> Sequence[Known]:
        """The axes of the next step's results."""
        step, plan = self.number, self.plan
        self.number += 1
        if step in plan.again:
            self._made[step] = self._made[plan.again[step]]
            return self._made[step]
        loops = plan.inside.get(step, {})
        if step in plan.taken:
            results: Sequence[Known] = self._taken(eqn, operands[0], plan.taken[step])
        elif step in plan.joined:
            results = self._joined(eqn, operands[0], plan.joined[step])
        elif step in plan.sums:
            terms = self._terms(operands, plan.sums[step].read)
            if not plan.sums[step].whole:
                shown = map(axes_of, (*terms, *operands))
                self._made[step] = [Partial(next(filter(None, shown), ()), terms)]
                return self._made[step]
            results = self._summed(eqn, terms, plan.sums[step].loops)
        else:
            taken = [
                Positions((), plan.counted[step, i].axis, plan.counted[step, i])
                if (step, i) in plan.counted
                else operand
                for i, operand in enumerate(operands)
            ]
            results = self.propagate(eqn, taken, self.used, self.ambient)
        if loops:
            results = self._made[step] = [_within(loops, value) for value in results]
        return results

    def _taken(self, eqn: JaxprEqn, operand: Known, taken: Sequence[tuple[Loop, int]]) -> Sequence[Known]:
        """One position of some dimensions, or of their major factors, and what is cut out of the others."""
        positions = isinstance(operand, Positions)  # which they stay
        axes, among = _taken_apart(eqn, axes_of(operand) if positions else operand, self.ambient)
        self.used.factors.extend(factors_of([axes]))
        dimensions = {dimension for _, dimension in taken}
        cut = _cut_beside(eqn, axes, dimensions)
        mixed = {*dimensions, *(i for i, axis in enumerate(cut) if axis is not axes[i])}
        left = tuple(one for one in among if not mixed & {*one.along})
        if left != among:
            settle(axes, eqn, (*self.ambient, *surroundings(left)))
        found = [*cut]
        for loop, dimension in taken:
            found[dimension] = new_axis(size_of(cut[dimension]) // loop.size)
            unify(cut[dimension], (*loop.axis, *found[dimension]), eqn)
        around = (*left, *(_of(loop) for loop, _ in taken))
        result: Known = told_of(tuple(found), around)
        if isinstance(operand, Positions):
            result = Positions(tuple(found), operand.into, (operand.source, *taken))
        return self._settled(eqn, operand, [result for _ in eqn.outvars])

    def _joined(self, eqn: JaxprEqn, operand: Known, loop: Loop) -> Sequence[Known]:
        """All positions in front of the axis that is joined."""
        dimension = eqn.params["dimension"]
        axes, among = _taken_apart(eqn, operand, self.ambient)
        self.used.factors.extend(factors_of([axes]))
        left = tuple(one for one in among if one.source is not loop and dimension not in one.along)
        found = (*axes[:dimension], (*loop.axis, *axes[dimension]), *axes[dimension + 1 :])
        if any(dimension in one.along for one in among):
            settle(found, eqn, (*self.ambient, *surroundings(left)))
        return self._settled(eqn, operand, [told_of(found, left)])

    def _terms(self, operands: Sequence[Known], read: Sequence[int]) -> tuple[Known, ...]:
        found: list[Known] = []
        for i in read:
            operand = operands[i]
            found += operand.terms if isinstance(operand, Partial) else [operand]
        return tuple(found)

    def _summed(self, eqn: JaxprEqn, terms: Sequence[Known], loops: Container[object]) -> Sequence[Known]:
        """A sum of what doesn't depend on positions."""
        arrays: list[Axes] = []
        left: list[Among] = []
        for term in terms:
            axes, among = _taken_apart(eqn, term, self.ambient)
            others = tuple(one for one in among if one.source not in loops)
            settle(axes, eqn, (*self.ambient, *surroundings(others)))
            arrays.append(axes)
            left += others
        self.used.factors.extend(factors_of(arrays))
        among = tuple(each_once(eqn, left))
        results = [told_of(axes, among) for axes in RULES["add"](eqn, arrays)]
        return self._settled(eqn, terms[0], results)

    def _settled(self, eqn: JaxprEqn, operand: Known, results: Sequence[Known]) -> Sequence[Known]:
        for value in (operand, *results):
            settle_value(value, eqn, self.ambient)
        return results


def _cut_beside(eqn: JaxprEqn, axes: Axes, done: Container[int]) -> Axes:
    """What a slice cuts out of dimensions other than those of loops."""
    for i, shape in enumerate(shape_of(eqn.invars[0])) if eqn.primitive.name == "slice" else ():
        positions = np.arange(eqn.params["start_indices"][i], eqn.params["limit_indices"][i])
        if i not in done:
            axes = take(axes, i, positions, shape, eqn)
    return axes


def _of(loop: Loop) -> Among:
    return Among((loop.axis,), loop, ())


def _within(loops: Iterable[Loop], value: Known) -> Known:
    """Told to be of one position of each loop, even where nothing in it depends on that."""
    if isinstance(value, Positions | Coordinates):
        return value
    among = value.among if isinstance(value, Chosen) else ()
    missing = (_of(loop) for loop in loops if all(one.source is not loop for one in among))
    return told_of(axes_of(value), (*among, *missing))


def _taken_apart(eqn: JaxprEqn, value: Known, ambient: Axis) -> tuple[Axes, tuple[Among, ...]]:
    if isinstance(value, Chosen):
        return value.axes, value.among
    return as_numbers(value, eqn, ambient), ()
