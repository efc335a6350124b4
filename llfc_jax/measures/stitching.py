"""Stitching: the first layers of one network feed the last layers of the other, without an adapter."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.measures.evaluation import LossFn, Scores, add_scores, means, no_scores, scores_of_logits
from llfc_jax.measures.fold import Point, Tally, View, by_value
from llfc_jax.measures.measure import ANYWHERE, TEST, Measure, Options
from llfc_jax.measures.nodes import rerun, resume
from llfc_jax.path.traversal import Planned
from llfc_jax.program.flat import Flat, Values, output
from llfc_jax.program.kinds import Kind
from llfc_jax.program.nodes import Node, Program
from llfc_jax.types import Array, PyTree

DIRECTIONS = ("prefix_a", "prefix_b")


def measure(options: Options) -> Measure:
    """`{layers}`, a row for each feature behind the first cut."""
    return Measure(
        name="stitching",
        folds=lambda program: {"cuts": Planned(stitching(program, options.loss_fn), ANYWHERE)},
        entry=lambda found: {"layers": join(found.folds[TEST]["cuts"], found.program)},
        labelled=True,
    )


@by_value
def stitching(program: Program, loss_fn: LossFn | None = None) -> Tally:
    """Loss (nats) and error (fraction) of the network whose layers up to l are B's and the others A's.

    And of the reverse; for every l (LLFC, section 5). Stitching behind a layer without parameters gives the
    same network as stitching in front of it, and is not computed again. The measure's alpha doesn't matter.

    Returns:
        The measure; its result is `{prefix_a: {loss, error}, prefix_b: {loss, error}}`, each a list with an
        entry for each cut: give it to `join`.
    """

    def look(point: Point) -> dict[str, Scores]:
        of_each = jax.vmap(partial(scores_of_logits, loss_fn=loss_fn), (0, None, None))

        def direction(prefix: View, suffix: View) -> Scores:
            (logits,) = stitched(point.program, [(prefix, prefix)], suffix)
            return of_each(logits, point.labels, point.mask)

        return {"prefix_a": direction(point.a, point.b), "prefix_b": direction(point.b, point.a)}

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> dict[str, Any]:
        del alphas
        return {
            direction: {name: values[0].tolist() for name, values in means(scores).items()}
            for direction, scores in state.items()
        }

    return Tally(look, add_scores, finalize, dict.fromkeys(DIRECTIONS, no_scores(loss_fn)))


def join(found: dict[str, Any], program: Program) -> list[dict[str, Any]]:
    """A row for each layer, as `results.json` has them: those without parameters share the last cut's."""
    return [
        {"layer": node.name, "kind": node.label}
        | {
            direction: {name: values[cut] for name, values in found[direction].items()}
            for direction in DIRECTIONS
        }
        for node, cut in _last_cut(program)
    ]


def stitched(program: Program, heads: Sequence[tuple[View, View]], suffix: View) -> list[PyTree]:
    """Outputs of `suffix` fed, behind each node with weights in turn, with what each head has there.

    A head is a network, and the one that the node at the cut itself belongs to: its own, or what another
    makes there of what the head has before.

    All stitched networks run side by side under `vmap`, in a stack that grows from cut to cut, so that each
    node of the suffix is applied once, and compiled once. At a cut, whatever later nodes still read comes
    from the head: also the entry of a residual branch that is cut in the middle.

    Args:
        program: the network.
        heads: those that the first nodes belong to.
        suffix: the one that the last nodes belong to.

    Returns:
        For each head (cuts, n, ..., classes), or what else the network returns, along a first axis of the
        cuts.
    """
    flat, nodes = program.flat, _nodes(program)
    stacked: dict[int, Array] = {}  # value of a node -> (heads * cuts so far, ...)
    for position, node in enumerate(nodes):
        if stacked:
            stacked[node.value] = _rerun_each(flat, node, suffix.values, stacked)
        if node.weights:
            awaited = {*program.ends, *(entry for later in nodes[position + 1 :] for entry in later.entries)}
            alive = [earlier.value for earlier in nodes[:position] if earlier.value in awaited]
            new = {value: jnp.stack([head.values[value] for head, _ in heads]) for value in alive}
            new[node.value] = jnp.stack([_grafted(flat, node, *head) for head in heads])
            stacked = {
                value: jnp.concatenate([*([stacked[value]] if value in stacked else []), arrays])
                for value, arrays in new.items()
            }
    found = _outputs(program, suffix, stacked)
    return [jax.tree.map(lambda leaf, at=at: leaf[at :: len(heads)], found) for at in range(len(heads))]


def _grafted(flat: Flat, node: Node, head: View, own: View) -> Array:
    if own is head:
        return head.values[node.value]
    return rerun(flat, node, own.values, {entry: head.values[entry] for entry in node.entries})


def _nodes(program: Program) -> list[Node]:
    """Those that an output may depend on."""
    last = max((end for end in program.ends if program.flat.moves(end)), default=-1)
    return [node for node in program.nodes if node.value <= last]


def _outputs(program: Program, suffix: View, stacked: Mapping[int, Array]) -> PyTree:
    """What the networks return; what is no node, such as a class, is made of the nodes anew."""
    flat, needed, waiting = program.flat, set[int](), [*program.ends]
    producer = {result: index for index, one in enumerate(flat.instructions) for result in one.results}
    while waiting:
        value = waiting.pop()
        if value not in stacked and flat.leaves[value] and flat.sees_input[value]:
            needed.add(producer[value])
            waiting += flat.instructions[producer[value]].operands

    def of_one(own: Mapping[int, Array]) -> PyTree:
        found = resume(flat, sorted(needed), suffix.values, own)
        return output(flat, {**suffix.values, **found})[0]

    return jax.vmap(of_one)(dict(stacked))


def _rerun_each(flat: Flat, node: Node, values: Values, stacked: Mapping[int, Array]) -> Array:
    entries = {entry: stacked[entry] for entry in node.entries}
    cuts = len(next(iter(stacked.values())))
    return jax.vmap(lambda own: rerun(flat, node, values, own), axis_size=cuts)(entries)


def cuts(program: Program) -> list[str]:
    """The nodes with weights."""
    return [node.name for node in _nodes(program) if node.weights]


def _last_cut(program: Program) -> Iterator[tuple[Node, int]]:
    """Each feature behind the first cut, and the number of the last cut at or before it."""
    places, passed = cuts(program), -1
    for node in program.nodes:
        passed += node.name in places
        if node.kind is not Kind.COPY and passed >= 0:
            yield node, passed
