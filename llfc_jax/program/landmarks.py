"""The values at which a network can be looked into: results of its contractions, nonlinearities, sums.

The choice decides what is shown and what it is called. What is measured between landmarks is exact for any.
"""

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from llfc_jax.program.flat import Flat, Instruction
from llfc_jax.program.operations import (
    CONTRACTIONS,
    COPIES,
    ELEMENTWISE,
    INDEXED,
    STRUCTURAL,
    Role,
    dependents,
    is_linear,
    role,
)

ROOT = -1
"""Above all activations in the tree of dominators: the input and the weights."""


class Kind(enum.Enum):
    """What a node is, for the measures that look at some kinds alone."""

    CONTRACTION = "contraction"
    """A weight with a value that depends on the input, its bias included."""
    EMBEDDING = "embedding"
    """Rows of a weight."""
    NONLINEARITY = "nonlinearity"
    """Of each number of one activation."""
    NORMALIZATION = "normalization"
    """Of one activation, by statistics that are its own or that the network keeps."""
    ATTENTION = "attention"
    """Softmax."""
    POOLING = "pooling"
    SUM = "sum"
    """Of several activations."""
    PRODUCT = "product"
    """Of several activations: gates, queries with keys, attention with values."""
    CONCATENATION = "concatenation"
    AFFINE = "affine"
    """Weights added to or multiplied with an activation, unit by unit."""
    SELECTION = "selection"
    """Numbers left out, repeated, or padded with zeros."""
    COPY = "copy"
    """The same numbers in another form."""
    OTHER = "other"


MERGES = (Kind.SUM, Kind.PRODUCT, Kind.CONCATENATION)
"""Kinds that have several activations for inputs."""


@dataclass(frozen=True)
class Landmark:
    """A value, and why it is one."""

    value: int
    kind: Kind
    label: str
    """What it is called in results and figures: dense, conv, relu, ..."""
    contraction: int | None = None
    """Its instruction."""


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
        self.needed = self._reachable([*flat.outputs, *self.named])
        self.roles = {index: role(flat, flat.instructions[index]) for index in self.needed}
        self.consumers = {}
        for index in self.needed:
            for operand in dict.fromkeys(flat.instructions[index].operands):
                self.consumers.setdefault(operand, []).append(index)

    def _reachable(self, values: Iterable[int]) -> list[int]:
        found: set[int] = set()
        waiting = [self.producer[value] for value in values if value in self.producer]
        while waiting:
            index = waiting.pop()
            if index not in found:
                found.add(index)
                operands = self.flat.instructions[index].operands
                waiting.extend(self.producer[x] for x in operands if x in self.producer)
        return sorted(found)

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

    def only_consumer(self, value: int) -> int | None:
        """The instruction that reads a value, if it is one and nobody else looks at the value."""
        found = self.consumers.get(value, [])
        return found[0] if len(found) == 1 and value not in self.named else None


def landmarks(flat: Flat, named: Collection[int]) -> list[Landmark]:
    """All landmarks of a program, in the order of computation.

    Args:
        flat: the program.
        named: values that are landmarks whatever they are; others make way for those that say the same.
    """
    analysis = Analysis(flat, {value for value in named if flat.moves(value)})
    regions, moved = _regions(analysis)
    inside = moved.union(*regions.values()) - {analysis.producer[exit] for exit in regions}
    found: dict[int, Landmark] = {}
    absorbed: set[int] = set()
    for index in analysis.needed:
        if index in inside or index in absorbed:
            continue
        for landmark, taken in _at(analysis, index, regions):
            found[landmark.value] = landmark
            absorbed |= taken
    _follow_names(analysis, found)
    return [found[value] for value in sorted(found)]


def _at(
    analysis: Analysis, index: int, regions: Mapping[int, Collection[int]]
) -> Iterator[tuple[Landmark, set[int]]]:
    """The landmarks that an instruction makes, and the later instructions that belong to them."""
    flat, instruction = analysis.flat, analysis[index]
    exits = [value for value in instruction.results if flat.moves(value)]
    if not exits:
        return
    value = exits[0]
    if value in regions:
        kind, label = _of_region([analysis[i] for i in regions[value]])
        if kind is Kind.NORMALIZATION:
            value, taken = _through(analysis, value, lambda _: True)
            yield Landmark(value, kind, label), taken
        else:
            yield Landmark(value, kind, label), set()
        return
    match analysis.roles[index]:
        case Role.CONTRACTION:
            value, taken = _with_bias(analysis, index, value)
            label = "conv" if instruction.primitive == "conv_general_dilated" else "dense"
            yield Landmark(value, Kind.CONTRACTION, label, contraction=index), taken
        case Role.LOOKUP:
            yield Landmark(value, Kind.EMBEDDING, "embedding"), set()
        case Role.MERGE:
            yield from ((Landmark(x, *_of_merge(instruction)), set()) for x in _seen(analysis, exits))
        case Role.NONLINEAR if not _goes_on(analysis, value):
            yield from ((Landmark(x, *_of_nonlinear(instruction)), set()) for x in _seen(analysis, exits))
        case Role.LINEAR if instruction.primitive in ("reduce_sum", "reduce_window_sum"):
            if dependents(flat, instruction):
                value, taken = _scaled(analysis, value)
                yield Landmark(value, Kind.POOLING, "pool"), taken
        case Role.LINEAR if _with_weight(flat, instruction):
            value, taken = _through(analysis, value, lambda _: True)
            label = _of_weights(analysis, {index, *taken})
            kind = Kind.NORMALIZATION if label == "norm" else Kind.AFFINE
            yield Landmark(value, kind, label), taken


def _seen(analysis: Analysis, values: Iterable[int]) -> list[int]:
    """Those that somebody reads."""
    wanted = {*analysis.flat.outputs, *analysis.named}
    return [value for value in values if value in analysis.consumers or value in wanted]


def _regions(analysis: Analysis) -> tuple[dict[int, set[int]], set[int]]:
    """Where several paths from one activation meet, and none of them passes a weight's contraction.

    The whole is one thing then: a GELU, a softmax, a normalisation.

    Returns:
        Exit -> instructions of each outermost such region that is nonlinear, and the instructions of those
        that are linear, such as a rotation of positions.
    """
    owner: dict[int, int] = {}
    regions: dict[int, set[int]] = {}
    for index in analysis.needed:
        if analysis.roles[index] is not Role.MERGE or len(analysis[index].results) > 1:
            continue
        (exit,) = analysis[index].results
        entry = analysis.dominator[exit]
        if entry == ROOT or (region := _between(analysis, entry, exit)) is None:
            continue
        region |= _before_softmax(analysis, entry, region, regions)
        regions[exit] = region
        owner.update(dict.fromkeys(region, exit))
    outermost = {exit: region for exit, region in regions.items() if owner[analysis.producer[exit]] == exit}
    nonlinear = {
        exit: region
        for exit, region in outermost.items()
        if analysis.flat.moves(exit)
        and not all(is_linear(analysis.flat, analysis[index]) for index in region)
    }
    linear = (region for exit, region in outermost.items() if exit not in nonlinear)
    return nonlinear, set().union(*linear)


def _before_softmax(
    analysis: Analysis, entry: int, region: set[int], regions: Mapping[int, set[int]]
) -> set[int]:
    """The exponential, and the maximum that is subtracted before it, of what goes on to divide by a sum."""
    found: set[int] = set()
    sums = any(analysis[index].primitive == "reduce_sum" for index in region)
    while sums and entry in analysis.producer and entry not in analysis.named:
        index = analysis.producer[entry]
        if any(reader not in region | found for reader in analysis.consumers[entry]):
            break
        if entry in regions and any(analysis[i].primitive == "reduce_max" for i in regions[entry]):
            found |= regions[entry]
            break
        if analysis[index].primitive != "exp" and analysis[index].primitive not in STRUCTURAL:
            break
        found.add(index)
        (entry,) = dependents(analysis.flat, analysis[index]) or (ROOT,)
    exponential = any(analysis[index].primitive == "exp" for index in region | found)
    return found if exponential else set()


def _between(analysis: Analysis, entry: int, exit: int) -> set[int] | None:
    """The instructions on the ways from entry to exit; None if one of them stands for itself."""
    flat, found = analysis.flat, set()
    waiting = [exit]
    while waiting:
        index = analysis.producer[waiting.pop()]
        if index in found:
            continue
        found.add(index)
        instruction = analysis[index]
        of_its_own = analysis.roles[index] in (Role.CONTRACTION, Role.LOOKUP) or (
            instruction.primitive in CONTRACTIONS and len(dependents(flat, instruction)) > 1
        )
        if of_its_own or instruction.primitive in ("scan", "while", "cond"):
            return None
        for operand in dependents(flat, instruction):
            if operand == entry:
                continue
            if operand in analysis.named:
                return None
            waiting.append(operand)
    return found


def _of_region(instructions: Collection[Instruction]) -> tuple[Kind, str]:
    names = {instruction.primitive for instruction in instructions}
    reduces = names & {"reduce_sum", "reduce_window_sum", "reduce_max", "cumsum"}
    if "exp" in names and reduces:
        return Kind.ATTENTION, "softmax"
    if reduces and names & {"rsqrt", "sqrt", "div", "pow", "integer_pow"}:
        return Kind.NORMALIZATION, "norm"
    if reduces or (names & {"max"} and names <= {"max", *STRUCTURAL}):
        return Kind.POOLING, "pool"
    for mark, label in (
        ({"erf"}, "gelu"),
        ({"erfc"}, "gelu"),
        ({"tanh", "integer_pow"}, "gelu"),
        ({"logistic", "mul"}, "silu"),
        ({"log1p"}, "softplus"),
        ({"expm1"}, "elu"),
        ({"gt", "select_n"}, "relu"),
        ({"tanh"}, "tanh"),
    ):
        if mark <= names:
            return Kind.NONLINEARITY, label
    return (Kind.NONLINEARITY if names <= ELEMENTWISE | STRUCTURAL else Kind.OTHER), "nonlinearity"


def _of_merge(instruction: Instruction) -> tuple[Kind, str]:
    match instruction.primitive:
        case "add" | "sub" | "add_any":
            return Kind.SUM, "add"
        case "mul":
            return Kind.PRODUCT, "gate"
        case name if name in CONTRACTIONS:
            return Kind.PRODUCT, "product"
        case "concatenate":
            return Kind.CONCATENATION, "concat"
        case "max" | "min" | "select_n" | "pow" | "atan2" | "div":
            return Kind.NONLINEARITY, instruction.primitive
    return Kind.OTHER, instruction.primitive


def _of_nonlinear(instruction: Instruction) -> tuple[Kind, str]:
    match instruction.primitive:
        case "max":
            return Kind.NONLINEARITY, "relu"
        case "logistic":
            return Kind.NONLINEARITY, "sigmoid"
        case "reduce_max" | "reduce_window_max" | "reduce_min" | "reduce_window":
            return Kind.POOLING, "pool"
        case name if name in CONTRACTIONS:
            return Kind.PRODUCT, "product"
        case "mul":
            return Kind.NONLINEARITY, "square"
        case name if name in ELEMENTWISE:
            return Kind.NONLINEARITY, name
    return Kind.OTHER, instruction.primitive


def _goes_on(analysis: Analysis, value: int) -> bool:
    """Whether an elementwise nonlinearity is the first part of one: ReLU6 is a maximum, then a minimum."""
    flat, index = analysis.flat, analysis.producer[value]
    if analysis[index].primitive not in ELEMENTWISE:
        return False
    while (following := analysis.only_consumer(value)) is not None:
        instruction = analysis[following]
        if instruction.primitive not in ELEMENTWISE or _with_weight(flat, instruction):
            return False
        match analysis.roles[following]:
            case Role.NONLINEAR:
                return True
            case Role.LINEAR:
                (value,) = instruction.results
            case _:
                return False
    return False


def _with_weight(flat: Flat, instruction: Instruction) -> bool:
    """Whether a weight is added to or multiplied with an activation, number by number."""
    return instruction.primitive in ("add", "sub", "mul", "div") and any(
        flat.is_weight(operand) for operand in instruction.operands
    )


def _chain(analysis: Analysis, value: int) -> Iterator[int]:
    """The linear instructions of one activation that follow each other from a value on."""
    while (index := analysis.only_consumer(value)) is not None:
        if analysis.roles[index] is not Role.LINEAR or len(analysis[index].results) > 1:
            return
        if analysis[index].primitive in ("reduce_sum", "reduce_window_sum", *CONTRACTIONS):
            return
        yield index
        (value,) = analysis[index].results


def _through(analysis: Analysis, value: int, accept: Callable[[int], bool]) -> tuple[int, set[int]]:
    """The last value of the chain that a weight acts on, and the chain so far."""
    taken: list[int] = []
    last, kept = value, 0
    for index in _chain(analysis, value):
        taken.append(index)
        if _with_weight(analysis.flat, analysis[index]):
            if not accept(index):
                break
            (last,), kept = analysis[index].results, len(taken)
    return last, set(taken[:kept])


def _with_bias(analysis: Analysis, contraction: int, value: int) -> tuple[int, set[int]]:
    """A bias is added right behind; what is added and multiplied in turn, by leaves of others, is a norm."""
    flat, own = analysis.flat, _owners(analysis, contraction)
    acting = [i for i in _chain(analysis, value) if _with_weight(flat, analysis[i])]
    mine = {i for i in acting if _owners(analysis, i) <= own}
    if not mine and all(analysis[i].primitive in ("add", "sub") for i in acting):
        mine = set(acting[:1])
    return _through(analysis, value, lambda i: i in mine and analysis[i].primitive in ("add", "sub"))


def _owners(analysis: Analysis, index: int) -> frozenset[int]:
    """The leaves that act in an instruction, each as the first leaf of its module."""
    flat = analysis.flat
    weights = [x for x in analysis[index].operands if flat.is_weight(x)]
    return frozenset(flat.module_of[leaf] for weight in weights for leaf in flat.leaves[weight])


def _scaled(analysis: Analysis, value: int) -> tuple[int, set[int]]:
    """A sum divided by a constant is a mean."""
    taken: list[int] = []
    last, kept = value, 0
    for index in _chain(analysis, value):
        taken.append(index)
        if analysis[index].primitive in ("mul", "div") and not _with_weight(analysis.flat, analysis[index]):
            (last,), kept = analysis[index].results, len(taken)
            break
        if analysis[index].primitive not in STRUCTURAL:
            break
    return last, set(taken[:kept])


def _of_weights(analysis: Analysis, indices: Iterable[int]) -> str:
    """`norm` where a root of a weight divides, as that of a variance."""
    weights = {x for i in indices for x in analysis[i].operands if analysis.flat.is_weight(x)}
    behind = analysis._reachable(weights)
    primitives = {analysis[index].primitive for index in behind}
    if primitives & {"rsqrt", "sqrt", "pow"}:
        return "norm"
    return "scale" if any(analysis[index].primitive in ("mul", "div") for index in indices) else "bias"


def _follow_names(analysis: Analysis, found: dict[int, Landmark]) -> None:
    """Where a name is given to a moved copy of a landmark, the copy takes its place."""
    for value in sorted(analysis.named):
        if value in found:
            continue
        origin, passed = value, []
        while origin not in found and origin in analysis.producer:
            index = analysis.producer[origin]
            instruction = analysis[index]
            given = dependents(analysis.flat, instruction)
            if len(given) != 1 or instruction.primitive not in STRUCTURAL | INDEXED:
                break
            passed.append(instruction)
            (origin,) = given
            if origin in analysis.named or analysis.only_consumer(origin) is None:
                break
        if origin in found and origin not in analysis.named and analysis.only_consumer(origin) is not None:
            landmark = found.pop(origin)
            found[value] = Landmark(value, landmark.kind, landmark.label, landmark.contraction)
        else:
            found[value] = Landmark(
                value, *_of_structure(analysis, found.keys() | analysis.named - {value}, value)
            )


def _of_structure(analysis: Analysis, found: Collection[int], value: int) -> tuple[Kind, str]:
    """Of a named value at which nothing else was found, by what lies between it and the landmarks before."""
    primitives: dict[str, None] = {}
    waiting = [value]
    while waiting:
        instruction = analysis[analysis.producer[waiting.pop()]]
        primitives.setdefault(instruction.primitive)
        waiting += [x for x in dependents(analysis.flat, instruction) if x not in found]
    telling = [name for name in primitives if name not in COPIES]
    return (Kind.SELECTION, telling[0]) if telling else (Kind.COPY, next(iter(primitives)))
