"""What there is to know of a flat program before its landmarks are looked for."""

from dataclasses import dataclass, field
from functools import cached_property

from llfc_jax.program.flat import Flat, Instruction, behind
from llfc_jax.program.operations import Role, dependents, keeps_lines, role

ROOT = -1
"""Above all activations in the tree of dominators: the input and the weights."""


@dataclass
class Analysis:
    """What is known of a flat program while its landmarks are looked for."""

    flat: Flat
    named: set[int]
    """Values that are landmarks because somebody named them."""
    needed: list[int] = field(init=False)
    """Instructions that the outputs and named values depend on."""
    roles: dict[int, Role] = field(init=False)
    consumers: dict[int, list[int]] = field(init=False)
    """Value -> needed instructions that read it."""
    producer: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        flat = self.flat
        self.producer = {
            result: index
            for index, instruction in enumerate(flat.instructions)
            for result in instruction.results
        }
        self.needed = behind(flat, [*flat.outputs, *self.named])
        self.roles = {index: role(flat, flat.instructions[index]) for index in self.needed}
        self.consumers = {}
        for index in self.needed:
            for operand in dict.fromkeys(flat.instructions[index].operands):
                self.consumers.setdefault(operand, []).append(index)

    def __getitem__(self, index: int) -> Instruction:
        return self.flat.instructions[index]

    @cached_property
    def dominator(self) -> dict[int, int]:
        """Value that depends on weights and inputs -> the last one that all ways to it pass; or ROOT."""
        above: dict[int, int] = {ROOT: ROOT}
        depth = {ROOT: 0}

        def meet(x: int, y: int) -> int:
            while x != y:
                x, y = (above[x], y) if depth[x] >= depth[y] else (x, above[y])
            return x

        for index in self.needed:
            if self.roles[index] is Role.NONE:
                continue
            first, *others = dependents(self.flat, self[index]) or (ROOT,)
            common = first
            for other in others:
                common = meet(common, other)
            for result in self[index].results:
                above[result], depth[result] = common, depth[common] + 1
        return above

    @cached_property
    def weights_on_lines(self) -> set[int]:
        """What is made of weights and is linear in them."""
        flat = self.flat
        found = {*flat.constants, *range(flat.num_leaves)}
        for index in self.needed:
            if keeps_lines(flat, self[index], found):
                found.update(self[index].results)
        return found

    def only_consumer(self, value: int) -> int | None:
        """The instruction that reads a value, if it is one and nobody else looks at the value."""
        found = self.consumers.get(value, [])
        return found[0] if len(found) == 1 and value not in self.named else None
