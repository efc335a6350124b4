"""What measures ask of a node: its value for other inputs, its contraction, its weight as a matrix."""

import math
from collections.abc import Iterable, Mapping

import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import View
from llfc_jax.path.masks import counted
from llfc_jax.program.axes import output_axes
from llfc_jax.program.flat import Flat, Values, arguments, run
from llfc_jax.program.interpreter import evaluate
from llfc_jax.program.nodes import Contraction, Node, Program
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Variables


def rerun(flat: Flat, node: Node, values: Mapping[int, Array], entries: Mapping[int, Array]) -> Array:
    """The value of a node, samples where the program has them, with other values of the nodes before it.

    Args:
        flat: the program.
        node: of it.
        values: all values of a network, whose weights count.
        entries: the other values, by number.
    """
    return resume(flat, node.instructions, values, entries)[node.value]


def resume(
    flat: Flat, instructions: Iterable[int], values: Mapping[int, Array], entries: Mapping[int, Array]
) -> Values:
    """The other values and what instructions make of them; whatever else they read is among `values`."""
    found = {value: jnp.asarray(entry, flat.avals[value].dtype) for value, entry in entries.items()}
    for index in instructions:
        instruction = flat.instructions[index]
        operands = [found[x] if x in found else values[x] for x in instruction.operands]
        found.update(zip(instruction.results, evaluate(instruction.eqn, operands), strict=True))
    return found


def contract(flat: Flat, contraction: Contraction, weight: Array, entry: Array) -> Array:
    """W H for another weight and another input of the same shapes; samples where the program has them."""
    instruction = flat.instructions[contraction.instruction]
    given = {contraction.weight: weight, contraction.entry: entry}
    (result,) = evaluate(instruction.eqn, [given[x] for x in instruction.operands])
    return result


def weight_matrices(program: Program, variables: Variables) -> dict[str, np.ndarray]:
    """Node -> the weight of its contraction as an (out, in) matrix, by its dimension numbers; in float64.

    What is contracted with the input is `in`, as in * height * width of a convolution; all else is `out`.
    """
    flat = program.flat
    found = {node.name: node.contraction for node in program.nodes if node.contraction is not None}
    values = weight_values(program, variables)
    return {
        name: _matrix(flat, contraction, in_float64(values[contraction.weight]))
        for name, contraction in found.items()
    }


def in_float64(array: Array | np.ndarray) -> np.ndarray:
    """An array with all its digits; complex numbers stay complex."""
    return np.asarray(sharding.fetch(array), np.complex128 if jnp.iscomplexobj(array) else np.float64)


def weight_values(program: Program, variables: Variables) -> Values:
    """All that is made of weights and constants alone, by number."""
    flat = program.flat
    blind = [i for i, one in enumerate(flat.instructions) if not flat.sees_input[one.results[0]]]
    return run(flat, arguments(flat, variables, ()), blind)


def contracted_leaves(program: Program) -> tuple[int, ...]:
    """The leaves of weights and biases of the nodes that contract, by number; no norms, no embeddings."""
    flat = program.flat
    contractions = (node for node in program.nodes if node.contraction is not None)
    read = {x for node in contractions for i in node.instructions for x in flat.instructions[i].operands}
    found = set[int]().union(*(flat.leaves[x] for x in read if flat.is_weight(x)))
    return tuple(sorted(leaf for leaf in found if jnp.issubdtype(flat.avals[leaf].dtype, jnp.floating)))


def filter_axes(program: Program) -> dict[int, tuple[int, ...]]:
    """Leaf of a contraction's weight -> the axes of its outputs; none where it isn't read as it is stored."""
    flat, moved = program.flat, contracted_leaves(program)
    found: dict[int, tuple[int, ...]] = {}
    for contraction in (node.contraction for node in program.nodes if node.contraction is not None):
        if contraction.weight in moved:
            instruction = flat.instructions[contraction.instruction]
            found[contraction.weight] = tuple(output_axes(flat, instruction, contraction.weight))
        else:
            found |= {leaf: () for leaf in flat.leaves[contraction.weight] if leaf in moved}
    return found


def with_leaves(flat: Flat, values: Mapping[int, Array], leaves: Mapping[int, Array]) -> Values:
    """What is known of a network before the first instruction, with some leaves replaced."""
    known = {value: values[value] for value in (*flat.constants, *range(flat.num_arguments))}
    return {**known, **leaves}


def with_known_units(program: Program, most: int) -> list[tuple[Node, int]]:
    """The real features whose units lie along an axis that is known, and no more than `most` of them."""
    return [
        (node, node.unit_axis)
        for node in program.features
        if node.unit_axis is not None
        and node.sample_axis is not None
        and node.unit_axis not in (node.sample_axis, *node.position_axes)
        and jnp.issubdtype(program.flat.avals[node.value].dtype, jnp.floating)
        and node.shape[node.unit_axis] <= most
    ]


def unit_rows(view: View, node: Node, axis: int, mask: Array) -> tuple[Array, Array]:
    """A row for each sample, or for each sample and position, and a column for each unit; float32.

    Args:
        view: a network and what it makes of a batch.
        node: a feature of it.
        axis: along which its units lie.
        mask: (n,), 0 for padding, or (n, T, ...), 0 for hidden positions, too.

    Returns:
        (rows, units), zero where the mask is, and (rows,): 0 for these, else 1.
    """
    values = view.values[node.value]
    others = [i for i in range(values.ndim) if i not in (node.sample_axis, axis)]
    order = (node.sample_axis, *others, axis)
    feature = values.transpose(order)
    kept = counted(values.ndim, node.sample_axis, node.position_axes, mask).transpose(order)
    seen = jnp.broadcast_to(kept, (*feature.shape[:-1], 1))
    rows = jnp.where(seen, feature, 0).astype(jnp.float32).reshape(-1, feature.shape[-1])
    return rows, seen.reshape(-1).astype(jnp.float32)


def _matrix(flat: Flat, contraction: Contraction, weight: np.ndarray) -> np.ndarray:
    rows = output_axes(flat, flat.instructions[contraction.instruction], contraction.weight)
    columns = [axis for axis in range(weight.ndim) if axis not in rows]
    height = math.prod(weight.shape[axis] for axis in rows)
    return weight.transpose([*rows, *columns]).reshape(height, -1)
