"""What a network is made of, in any framework: named nodes in the order of computation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax

from llfc_jax.errors import UserError
from llfc_jax.program.flat import Flat
from llfc_jax.program.kinds import Kind
from llfc_jax.types import Features, PyTree, Variables

INPUT = "input"
"""What nodes that read the network's inputs have among theirs."""

FeaturesFn = Callable[[Variables, Any], tuple[PyTree, Features]]
"""Variables, inputs -> outputs and named features."""


@dataclass(frozen=True)
class Contraction:
    """The contraction of a weight with a value of the input, by numbers of the flat program."""

    instruction: int
    weight: int
    entry: int
    """The other operand, H."""
    result: int
    entry_samples: int | None
    """The axis of H along which samples lie; None where no axis is theirs alone."""
    result_samples: int | None
    entry_positions: tuple[int, ...] = ()
    """The axes of H along which the positions of a sequence lie, where they are told apart."""
    result_positions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Node:
    """The part of a network from the landmarks before it, and the weights it reads, to one landmark."""

    name: str
    kind: Kind
    named: bool
    """Whether somebody gave it its name."""
    label: str
    """dense, conv, relu, norm, ...: what `kind` is of, for people."""
    inputs: tuple[str, ...]
    """Names of nodes, or `INPUT`."""
    weights: tuple[str, ...]
    """Paths of the leaves that it reads itself."""
    shape: tuple[int, ...]
    """For the inputs that the program was read with."""
    sample_axis: int | None
    """Along which samples lie; None where no axis is theirs alone."""
    unit_axis: int | None
    """Along which units or channels lie; None where it isn't known."""
    value: int = field(repr=False)
    entries: tuple[int, ...] = field(repr=False)
    """The values of the nodes among the inputs, in their order."""
    instructions: tuple[int, ...] = field(repr=False)
    """From the entries to the value; what is made of weights or inputs alone is left out."""
    contraction: Contraction | None = field(default=None, repr=False)
    position_axes: tuple[int, ...] = ()
    """Along which the positions of a mask (n, T, ...) lie; empty where they aren't told apart."""

    def __hash__(self) -> int:
        return hash((self.name, self.value))  # nodes are looked up at every batch


@dataclass(frozen=True)
class Program:
    """A network whose inside is known: without weights, hashable, a static argument of any jitted function.

    `describe` prints it.
    """

    features_fn: FeaturesFn
    nodes: tuple[Node, ...]
    signature: str
    """Of the instructions, by which a trace at another batch size is recognised."""
    input_shapes: tuple[tuple[tuple[int, ...], str], ...]
    """Shapes and dtypes of the inputs that the program was read with."""
    counted: tuple[int, ...]
    """How many samples they are and, for a mask (n, T, ...), of how many positions."""
    skipped: tuple[tuple[str, str], ...] = field(compare=False)
    """Names of the caller's that are no features (n, ...) of the network, and why."""
    unread: tuple[str, ...] = field(compare=False)
    """Paths of leaves that nothing reads."""
    aliases: tuple[tuple[str, str], ...]
    """Further names of the caller's, and the node of that value."""
    flat: Flat = field(compare=False, repr=False)

    def __str__(self) -> str:
        from llfc_jax.program.describe import describe

        return describe(self)

    def __hash__(self) -> int:
        return hash((self.signature, self.input_shapes))

    def __getitem__(self, name: str) -> Node:
        if name not in self._by_name:
            found = ", ".join(self._by_name)
            raise UserError(f"node: expected one of {found}; found {name!r}")
        return self._by_name[name]

    def of_kind(self, *kinds: Kind) -> tuple[Node, ...]:
        """The nodes of some kinds, in the order of computation."""
        return tuple(node for node in self.nodes if node.kind in kinds)

    @property
    def features(self) -> tuple[Node, ...]:
        """The nodes whose values are representations of their own: not the same numbers in another form."""
        return tuple(node for node in self.nodes if node.kind is not Kind.COPY)

    @property
    def unmeasured(self) -> dict[str, str]:
        """What was named and has no samples to be compared, and why."""
        return dict(self.skipped) | {
            node.name: f"expected one row for each sample; found shape {node.shape}"
            for node in self.nodes
            if node.named and node.sample_axis is None
        }

    @property
    def output(self) -> int:
        """The value that the network returns, or the first of them."""
        return self.ends[0]

    @property
    def ends(self) -> tuple[int, ...]:
        """The values that the network returns."""
        outputs, _ = jax.tree.unflatten(self.flat.structure, self.flat.outputs)
        return tuple(jax.tree.leaves(outputs))

    @property
    def outputs(self) -> PyTree:
        """Shapes of what the network returns."""
        outputs, _ = jax.tree.unflatten(self.flat.structure, [self.flat.avals[x] for x in self.flat.outputs])
        return outputs

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}


def apply_of(network: "Program | Callable[[Variables, Any], PyTree]") -> Callable[[Variables, Any], PyTree]:
    """Variables, inputs -> outputs, of a program or of what is such a function already."""
    return partial(outputs_of, network) if isinstance(network, Program) else network


def outputs_of(program: Program, variables: Variables, inputs: Any) -> PyTree:
    """What the network returns, its features left out."""
    return program.features_fn(variables, inputs)[0]
