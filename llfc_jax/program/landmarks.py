"""The values at which a network can be looked into: results of its contractions, nonlinearities, sums.

The choice decides what is shown and what it is called. What is measured between landmarks is exact for any.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from llfc_jax.program.analysis import Analysis
from llfc_jax.program.flat import Flat, Instruction, behind
from llfc_jax.program.kinds import Kind, of_merge, of_nonlinear, of_region
from llfc_jax.program.operations import (
    CONTRACTIONS,
    COPIES,
    ELEMENTWISE,
    INDEXED,
    STRUCTURAL,
    Role,
    dependents,
    weight_operand,
)
from llfc_jax.program.regions import regions


@dataclass(frozen=True)
class Landmark:
    """A value, and why it is one."""

    value: int
    kind: Kind
    label: str
    """What it is called in results and figures: dense, conv, relu, ..."""
    contraction: int | None = None
    """Its instruction."""


def landmarks(flat: Flat, named: Collection[int]) -> list[Landmark]:
    """All landmarks of a program, in the order of computation.

    Args:
        flat: the program.
        named: values that are landmarks whatever they are; others make way for those that say the same.
    """
    analysis = Analysis(flat, {value for value in named if flat.moves(value)})
    nonlinear, moved = regions(analysis)
    inside = moved.union(*nonlinear.values()) - {analysis.producer[exit] for exit in nonlinear}
    found: dict[int, Landmark] = {}
    absorbed: set[int] = set()
    for index in analysis.needed:
        if index in inside or index in absorbed:
            continue
        for landmark, taken in _at(analysis, index, nonlinear):
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
        kind, label = of_region([analysis[i] for i in regions[value]])
        if kind is Kind.NORMALIZATION:
            value, taken = _through(analysis, value, lambda _: True)
            yield Landmark(value, kind, label), taken
        else:
            yield Landmark(value, kind, label), set()
        return
    match analysis.roles[index]:
        case Role.CONTRACTION:
            value, taken = _with_bias(analysis, index, value)
            label = "conv" if _is_convolution(analysis, index) else "dense"
            yield Landmark(value, Kind.CONTRACTION, label, contraction=index), taken
        case Role.LOOKUP:
            yield Landmark(value, Kind.EMBEDDING, "embedding"), set()
        case Role.MERGE:
            yield from ((Landmark(x, *of_merge(instruction)), set()) for x in _seen(analysis, exits))
        case Role.NONLINEAR if not _goes_on(analysis, value):
            yield from ((Landmark(x, *of_nonlinear(instruction)), set()) for x in _seen(analysis, exits))
        case Role.LINEAR if instruction.primitive in ("reduce_sum", "reduce_window_sum"):
            if dependents(flat, instruction):
                value, taken = _scaled(analysis, value)
                yield Landmark(value, Kind.POOLING, "pool"), taken
        case Role.LINEAR if _with_weight(flat, instruction):
            value, taken = _through(analysis, value, lambda _: True)
            yield Landmark(value, *_of_weights(analysis, {index, *taken})), taken


def _seen(analysis: Analysis, values: Iterable[int]) -> list[int]:
    """Those that somebody reads."""
    wanted = {*analysis.flat.outputs, *analysis.named}
    return [value for value in values if value in analysis.consumers or value in wanted]


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


def _is_convolution(analysis: Analysis, contraction: int) -> bool:
    """Also where its kernel, all but outputs flattened, is multiplied with patches."""
    flat, instruction = analysis.flat, analysis[contraction]
    if instruction.primitive == "conv_general_dilated":
        return True
    position = weight_operand(flat, instruction)
    assert position is not None
    weight = instruction.operands[position]
    if len(flat.avals[weight].shape) != 2:
        return False
    while weight in analysis.producer and analysis[analysis.producer[weight]].primitive in COPIES:
        weight = analysis[analysis.producer[weight]].operands[0]
    return weight < flat.num_leaves and len(flat.avals[weight].shape) > 3


def _of_weights(analysis: Analysis, indices: Collection[int]) -> tuple[Kind, str]:
    """A norm where a root of a weight divides, as that of a variance."""
    weights = {x for i in indices for x in analysis[i].operands if analysis.flat.is_weight(x)}
    primitives = {analysis[index].primitive for index in behind(analysis.flat, weights)}
    if primitives & {"rsqrt", "sqrt", "pow"}:
        return Kind.NORMALIZATION, "norm"
    if any(analysis[index].primitive in ("mul", "div") for index in indices):
        return Kind.AFFINE, "scale"
    return (Kind.SHIFT if weights <= analysis.weights_on_lines else Kind.AFFINE), "bias"


def _follow_names(analysis: Analysis, found: dict[int, Landmark]) -> None:
    """Where a name is given to a moved copy of a landmark, the copy takes its place."""
    for value in sorted(analysis.named):
        if value in found:
            continue
        origin = value
        while origin not in found and origin in analysis.producer:
            index = analysis.producer[origin]
            instruction = analysis[index]
            given = dependents(analysis.flat, instruction)
            if len(given) != 1 or instruction.primitive not in STRUCTURAL | INDEXED:
                break
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
