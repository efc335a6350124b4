"""Reading a network off its trace."""

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, kind_of
from llfc_jax.program.axes import sample_axes, unit_axes
from llfc_jax.program.features import NamedFeatures, WithoutFeatures
from llfc_jax.program.flat import Flat, behind, flatten
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
    return read_features(features_fn, variables, inputs)


def read_features(features_fn: FeaturesFn, variables: Variables, inputs: Any) -> Program:
    """The same for a function that returns its features by name."""
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
    if not ends:
        raise UserError(f"apply: expected an array of logits; found {kind_of(logits)}")
    if not any(flat.moves(value) for value in ends):
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
    axes = Axes(_sample_axes(flat, features_fn, variables, inputs), unit_axes(flat))
    return Program(
        features_fn=features_fn,
        nodes=tuple(_nodes(flat, marks, given, paths, axes)),
        signature=signature(flat),
        input_shapes=_shapes(inputs),
        skipped=tuple(skipped),
        unread=tuple(path for leaf, path in enumerate(paths) if leaf not in read),
        aliases=tuple(
            (name, of_caller[value])
            for name, value in features.items()
            if flat.moves(value) and of_caller[value] != name
        ),
        flat=flat,
    )


def reread(program: Program, variables: Variables, inputs: Any) -> Program:
    """The network's program for inputs of other shapes; itself for those that it was read with.

    Its nodes may have other numbers, as where it was read with a batch of one: what was made for the nodes of
    one program is not for those of the other.
    """
    if program.input_shapes == _shapes(inputs):
        return program
    return read_features(program.features_fn, variables, inputs)


def fitting(program: Program, variables: Variables, inputs: Any) -> Program:
    """The same program, node by node and number by number, for inputs of other shapes.

    Raises:
        UserError: the network computes something else for them.
    """
    found = reread(program, variables, inputs)
    if found.signature != program.signature:
        shapes = ", ".join(str(shape) for shape, _ in found.input_shapes)
        raise UserError(
            f"apply: expected the program that was read; found another for inputs of shape {shapes}: "
            "read it with a batch of this shape"
        )
    return found


def _shapes(inputs: Any) -> tuple[tuple[tuple[int, ...], str], ...]:
    return tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(inputs))


def signature(flat: Flat) -> str:
    """The same for traces of one network at all batch sizes."""
    told = [(one.primitive, one.operands, one.results) for one in flat.instructions]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _sample_axes(flat: Flat, features_fn: FeaturesFn, variables: Variables, inputs: Any) -> dict[int, int]:
    """Value -> the axis of its samples, by another trace with one sample more."""
    n = next((leaf.shape[0] for leaf in jax.tree.leaves(inputs) if leaf.shape), 0)

    def one_more(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        grown = (n + 1, *leaf.shape[1:]) if leaf.shape[:1] == (n,) else leaf.shape
        return jax.ShapeDtypeStruct(grown, leaf.dtype)

    try:
        larger = flatten(features_fn, variables, jax.tree.map(one_more, inputs))
    except (TypeError, ValueError):  # it takes batches of this size alone
        larger = None
    if larger is not None and signature(larger) == signature(flat):
        if _constants_differ(flat, larger):  # as a mean's divisor may, but not for the same inputs
            anew = lambda *given: features_fn(*given)  # noqa: E731, of one function JAX keeps the trace
            _check_same_again(flat, flatten(anew, variables, inputs))
        return sample_axes(flat, larger, n)
    # A batch of one leaves no trace where it is broadcast.
    return {value: 0 for value, aval in enumerate(flat.avals) if aval.shape[:1] == (n,)}


def _check_draws_nothing(flat: Flat, ends: Iterable[int]) -> None:
    for index in behind(flat, ends):
        if flat.instructions[index].primitive in DRAWS:
            where = flat.instructions[index].scope
            raise UserError(
                "apply: expected no random numbers; found some drawn"
                + (f" in {where}" if where else "")
                + ": switch off dropout and the like"
            )


def _check_same_again(flat: Flat, again: Flat) -> None:
    if signature(again) != signature(flat) or _constants_differ(flat, again):
        raise UserError("apply: expected a pure function; found other numbers in it each time it is called")


def _constants_differ(flat: Flat, other: Flat) -> bool:
    """In numbers; constants of other shapes are those of other numbers of samples."""

    def differ(x: Any, y: Any) -> bool:
        return x is not y and np.shape(x) == np.shape(y) and not np.array_equal(x, y, equal_nan=True)

    inexact = (value for value in flat.constants if jnp.issubdtype(flat.avals[value].dtype, jnp.inexact))
    return any(differ(flat.constants[value], other.constants[value]) for value in inexact)


def _nodes(
    flat: Flat,
    marks: Sequence[Landmark],
    given: Mapping[int, str],
    paths: Sequence[str],
    axes: "Axes",
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


class Axes(NamedTuple):
    """Value -> the axis of its samples, and that of its units."""

    samples: Mapping[int, int]
    units: Mapping[int, int]


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


def _contraction(flat: Flat, index: int | None, axes: "Axes") -> Contraction | None:
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
    )
