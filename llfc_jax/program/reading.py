"""Reading a network off its trace."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, kind_of
from llfc_jax.program.features import NamedFeatures, WithoutFeatures, chosen
from llfc_jax.program.flat import Flat, behind, flatten, signature
from llfc_jax.program.growth import Axes, axes_of, rows
from llfc_jax.program.kinds import MERGES
from llfc_jax.program.landmarks import Landmark, landmarks
from llfc_jax.program.names import Unnamed, choose
from llfc_jax.program.nodes import INPUT, Contraction, FeaturesFn, Node, Program
from llfc_jax.program.operations import DRAWS, weight_operand
from llfc_jax.types import PyTree, Variables


def read(
    apply: Callable[[Variables, Any], PyTree],
    variables: Variables,
    inputs: Any,
    features: Callable[[Variables, Any], tuple[PyTree, PyTree]] | None = None,
    output: str | int | None = None,
) -> Program:
    """A network as a program: named nodes in the order of computation, read off its trace.

    Nodes end at landmarks: at what `features` names, and at what is found: contractions of a weight with a
    value of the input, nonlinearities, normalisations, sums and products of activations, pooling, and so on.
    They are called by the caller's features, by `jax.ad_checkpoint.checkpoint_name`, by the paths of their
    weights and the scopes of Linen's modules, else by what they do.

    Args:
        apply: variables, inputs -> outputs, in evaluation mode; pure.
        variables: arrays or `jax.ShapeDtypeStruct`s.
        inputs: one batch of at least two, arrays or `jax.ShapeDtypeStruct`s.
        features: variables, inputs -> outputs and a pytree of named features, for names of your own; it
            replaces `apply`.
        output: the key or the index of the logits, where outputs are a dict or a tuple.

    Returns:
        The program, for `llfc_jax.measure`; printed, it is a table of its nodes.

    Raises:
        UserError: the network has no float output that depends on weights and inputs, or it draws random
            numbers, or computes something else each time.

    Example:
        >>> apply = lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"]
        >>> weights = {"in": jnp.ones((3, 4)), "out": jnp.ones((4, 2))}
        >>> [node.name for node in read(apply, weights, jnp.ones((2, 3))).nodes]
        ['in', 'relu1', 'out']
    """
    features_fn: FeaturesFn = NamedFeatures(features) if features is not None else WithoutFeatures(apply)
    return read_features(chosen(features_fn, output), variables, inputs)


def read_features(
    features_fn: FeaturesFn, variables: Variables, inputs: Any, counted: tuple[int, ...] | None = None
) -> Program:
    """The same for a function that returns its features by name.

    Args:
        features_fn: the function.
        variables: of the network.
        inputs: one batch.
        counted: the shape of its mask, (n,) or (n, T, ...); by default, n is the first array's.
    """
    inputs = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), inputs)
    flat = flatten(features_fn, variables, inputs)
    logits, features = jax.tree.unflatten(flat.structure, flat.outputs)
    of_caller = {value: name for name, value in features.items()}
    of_code = {
        instruction.results[0]: instruction.eqn.params["name"]
        for instruction in flat.instructions
        if instruction.primitive == "name"
    }
    ends = jax.tree.leaves(logits)
    if not any(flat.moves(value) for value in (*ends, *features.values())):
        if not ends:
            raise UserError(f"apply: expected an array of logits; found {kind_of(logits)}")
        raise UserError("apply: expected an output that depends on the weights and the inputs; found none")
    _check_draws_nothing(flat, ends)
    given = {**of_code, **of_caller}
    marks = landmarks(flat, {*given, *ends})
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/") or "weights"
        for path, _ in jax.tree.leaves_with_path(variables)
    ]
    read = frozenset().union(*(flat.leaves[value] for value in (*ends, *(mark.value for mark in marks))))
    skipped = [(name, _why_not(flat, value)) for name, value in features.items() if not flat.moves(value)]
    counted = counted or (rows(inputs),)
    axes = axes_of(flat, features_fn, variables, inputs, counted)
    return Program(
        features_fn=features_fn,
        nodes=tuple(_nodes(flat, marks, given, paths, axes)),
        signature=signature(flat),
        input_shapes=_shapes(inputs),
        counted=counted,
        skipped=tuple(skipped),
        unread=tuple(path for leaf, path in enumerate(paths) if leaf not in read),
        aliases=tuple(
            (name, of_caller[value])
            for name, value in features.items()
            if flat.moves(value) and of_caller[value] != name
        ),
        flat=flat,
    )


def reread(
    program: Program, variables: Variables, inputs: Any, counted: tuple[int, ...] | None = None
) -> Program:
    """The network's program for inputs of other shapes; itself for those that it was read with.

    Its nodes may have other numbers, as where it was read with a batch of one: what was made for the nodes of
    one program is not for those of the other. `counted` is the shape of the mask, as in `read_features`.
    """
    if (program.input_shapes, program.counted) == (_shapes(inputs), counted or (rows(inputs),)):
        return program
    return read_features(program.features_fn, variables, inputs, counted)


def fitting(
    program: Program, variables: Variables, inputs: Any, counted: tuple[int, ...] | None = None
) -> Program:
    """The same program, node by node and number by number, for inputs of other shapes.

    Raises:
        UserError: the network computes something else for them.
    """
    found = reread(program, variables, inputs, counted)
    if found.signature != program.signature:
        shapes = ", ".join(str(shape) for shape, _ in found.input_shapes)
        raise UserError(
            f"apply: expected the program that was read; found another for inputs of shape {shapes}: "
            "read it with a batch of this shape"
        )
    return found


def _shapes(inputs: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    return tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(inputs))


def _check_draws_nothing(flat: Flat, ends: Iterable[int]) -> None:
    for index in behind(flat, ends):
        if flat.instructions[index].primitive in DRAWS:
            where = flat.instructions[index].scope
            raise UserError(
                "apply: expected no random numbers; found some drawn"
                + (f" in {where}" if where else "")
                + ": switch off dropout and the like"
            )


def _nodes(
    flat: Flat,
    marks: Sequence[Landmark],
    given: Mapping[int, str],
    paths: Sequence[str],
    axes: Axes,
) -> Iterator[Node]:
    producer = {result: index for index, one in enumerate(flat.instructions) for result in one.results}
    position = {mark.value: index for index, mark in enumerate(marks)}
    slices = [_slice(flat, producer, mark.value, position) for mark in marks]
    contractions = [_contraction(flat, mark.contraction, axes) for mark in marks]
    names = choose(
        [
            Unnamed(
                label=mark.label,
                scope=flat.instructions[one.instructions[-1]].scope,
                weights=[paths[leaf] for leaf in _own_leaves(flat, mark, one, contraction)],
                beside=[paths[leaf] for leaf in sorted(one.leaves)],
                inputs=[position[entry] for entry in one.entries],
                given=given.get(mark.value),
            )
            for mark, one, contraction in zip(marks, slices, contractions, strict=True)
        ]
    )
    for mark, name, one, contraction in zip(marks, names, slices, contractions, strict=True):
        inputs = [names[position[entry]] for entry in one.entries]
        yield Node(
            name=name,
            kind=mark.kind,
            named=mark.value in given,
            label=mark.label,
            inputs=(INPUT, *inputs) if one.sees_input else tuple(inputs),
            weights=tuple(paths[leaf] for leaf in sorted(one.leaves)),
            shape=flat.avals[mark.value].shape,
            sample_axis=axes.samples.get(mark.value),
            unit_axis=axes.units.get(mark.value),
            position_axes=axes.positions.get(mark.value, ()),
            value=mark.value,
            entries=one.entries,
            instructions=one.instructions,
            contraction=contraction,
        )


def _own_leaves(
    flat: Flat, mark: Landmark, found: "_Slice", contraction: Contraction | None
) -> Iterable[int]:
    """The leaves that a node can be named by."""
    if mark.kind in MERGES:
        return ()
    return sorted(found.leaves if contraction is None else flat.leaves[contraction.weight])


def _why_not(flat: Flat, value: int) -> str:
    """What is wrong with a feature that is no activation."""
    aval = flat.avals[value]
    if not jnp.issubdtype(aval.dtype, jnp.inexact):
        return f"expected floating-point numbers; found {aval.dtype}"
    seen = "weights" if flat.leaves[value] else "inputs" if flat.sees_input[value] else "constants"
    return f"expected what depends on weights and inputs; found {seen} alone"


class _Slice(NamedTuple):
    """The way back from a value to the landmarks before it."""

    instructions: tuple[int, ...]
    entries: tuple[int, ...]
    leaves: frozenset[int]
    sees_input: bool


def _slice(flat: Flat, producer: Mapping[int, int], value: int, landmarks: Container[int]) -> _Slice:
    instructions, entries, leaves, sees_input = set[int](), set[int](), set[int](), False
    waiting = [producer[value]]
    while waiting:
        index = waiting.pop()
        if index in instructions:
            continue
        instructions.add(index)
        for operand in flat.instructions[index].operands:
            if operand in landmarks:
                entries.add(operand)
            elif flat.leaves[operand] and flat.sees_input[operand]:
                waiting.append(producer[operand])
            else:
                leaves |= flat.leaves[operand]
                sees_input |= flat.sees_input[operand]
    return _Slice(tuple(sorted(instructions)), tuple(sorted(entries)), frozenset(leaves), sees_input)


def _contraction(flat: Flat, index: int | None, axes: Axes) -> Contraction | None:
    if index is None:
        return None
    instruction = flat.instructions[index]
    position = weight_operand(flat, instruction)
    assert position is not None
    return Contraction(
        instruction=index,
        weight=instruction.operands[position],
        entry=instruction.operands[1 - position],
        result=instruction.results[0],
        entry_samples=axes.samples.get(instruction.operands[1 - position]),
        result_samples=axes.samples.get(instruction.results[0]),
        entry_positions=axes.positions.get(instruction.operands[1 - position], ()),
        result_positions=axes.positions.get(instruction.results[0], ()),
    )
