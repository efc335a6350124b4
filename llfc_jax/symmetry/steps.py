"""A program as numbered steps: who makes and who reads each value, which are one, and what is summed."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.program.flat import Instruction
from llfc_jax.program.interpreter import interpret
from llfc_jax.program.scans import scan_of

SUMS = ("add", "add_any")


def steps_of(jaxpr: ClosedJaxpr | Jaxpr, count: int) -> tuple[list[Instruction], dict[int, Any], list[int]]:
    """The primitives of a program in the order of evaluation, its constants, and its outputs.

    Args:
        jaxpr: the program.
        count: of its operands, which are the first values.
    """
    steps: list[Instruction] = []
    constants: dict[int, Any] = {}
    last = count

    def new() -> int:
        nonlocal last
        last += 1
        return last - 1

    def constant(array: Any) -> int:
        value = new()
        constants[value] = array
        return value

    def visit(eqn: JaxprEqn, operands: Sequence[int]) -> Sequence[int]:
        results = tuple(new() for _ in eqn.outvars)
        steps.append(Instruction(eqn, tuple(operands), results))
        return results

    outputs = interpret(jaxpr, [*range(count)], constant, visit)
    return steps, constants, outputs


class Program:
    """Steps, and who makes and who reads each value; leaves of the same shape count as alike."""

    def __init__(
        self,
        steps: Sequence[Instruction],
        constants: Mapping[int, Any],
        outputs: set[int],
        leaves: Mapping[int, Any] | None = None,
    ) -> None:
        self.steps, self.constants, self.outputs, self.leaves = steps, constants, outputs, leaves or {}
        self.made_by = {
            value: (i, place) for i, s in enumerate(steps) for place, value in enumerate(s.results)
        }
        self.readers: dict[int, list[int]] = {}
        self.numbers: dict[int, int] = {}
        known: dict[Any, int] = {}
        for i, step in enumerate(steps):
            for value in step.operands:
                self.readers.setdefault(value, []).append(i)
            told = (step.primitive, parameters(step.eqn, whole=True))
            told = (*told, *map(self.identity, step.operands), i if step.eqn.effects else None)
            for place, value in enumerate(step.results):
                self.numbers[value] = known.setdefault((*told, place), value)

    def name(self, i: int) -> str:
        return self.steps[i].primitive

    def is_partial(self, value: int) -> bool:
        """Whether a value is a sum that only another sum reads."""
        made, readers = self.made_by.get(value), self.readers.get(value, [])
        summed = made is not None and self.name(made[0]) in SUMS
        return summed and len(readers) == 1 and self.name(readers[0]) in SUMS and value not in self.outputs

    def sum_of(self, i: int) -> tuple[set[int], list[int]]:
        """The steps of a sum that ends with a step, and its terms."""
        steps, terms, stack = {i}, list[int](), [*self.steps[i].operands]
        while stack:
            value = stack.pop()
            if self.is_partial(value):
                step = self.made_by[value][0]
                steps.add(step)
                stack.extend(self.steps[step].operands)
            else:
                terms.append(value)
        return steps, terms

    def scalar(self, value: int) -> Any:
        """The number that a constant without axes is; None for other values."""
        array = self.constants.get(value)
        if array is None or np.shape(array) or not jnp.issubdtype(jnp.result_type(array), jnp.number):
            return None
        return np.asarray(array).item()

    def identity(self, value: int) -> Any:
        """The same for values that are one, however often they are computed."""
        array = self.constants.get(value)
        if array is None:
            return self.numbers.get(value, value)
        number = self.scalar(value)
        return (id(array),) if number is None else (number, str(jnp.result_type(array)))


def is_summed(eqn: JaxprEqn) -> bool:
    """Whether a scan returns one thing alone: what its iterations make, stacked or added to what it carries.

    All else that it carries is handed on as it is. Of several things each could have an order of its own.
    """
    scan = scan_of(eqn)
    steps, constants, outputs = steps_of(scan.body, len(eqn.invars))
    program = Program(steps, constants, {*outputs})
    carried = [*range(scan.num_consts, scan.num_consts + scan.num_carry)]
    changed = [(before, after) for before, after in zip(carried, outputs, strict=False) if before != after]
    if len(changed) + len(outputs) - len(carried) != 1:
        return False
    for before, after in changed:
        made, readers = program.made_by.get(after), program.readers.get(before, [])
        if made is None or len(readers) != 1 or before in outputs or program.readers.get(after):
            return False
        terms = program.sum_of(made[0])[1] if program.name(made[0]) in SUMS else []
        if len(terms) != 2 or before not in terms:
            return False
    return True


def parameters(eqn: JaxprEqn, *, whole: bool = False) -> tuple[Any, ...]:
    """What an equation does; without where a slice begins, if not the whole is asked for."""
    params = dict(eqn.params)
    if eqn.primitive.name == "slice" and not whole:
        params["limit_indices"] = tuple(np.subtract(params["limit_indices"], params.pop("start_indices")))
    return tuple((name, _hashable(params[name])) for name in sorted(params))


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
