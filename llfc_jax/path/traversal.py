"""The one pass over the data that feeds every measure along a curve from A to B."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Fold, Point, Tally, View, repeat
from llfc_jax.path.curves import Curve
from llfc_jax.path.hoisting import along_line
from llfc_jax.path.masks import samples_first
from llfc_jax.program.flat import Values, arguments, output, run
from llfc_jax.program.nodes import Program
from llfc_jax.program.reading import fitting
from llfc_jax.runtime import limits, sharding
from llfc_jax.types import Array, Batch, PyTree, Variables

Correct = Callable[[Variables, PyTree], Variables]
"""theta_alpha and what is known of it -> the network to look at."""

ENDS = (0.0, 1.0)

_Item = TypeVar("_Item")


class Planned(NamedTuple):
    """A measure and where on the path to take it."""

    measure: Fold | Tally
    alphas: tuple[float, ...]


class _Group(NamedTuple):
    """Alphas at which the same measures are taken: one end, or both, or inner points, in a loop."""

    alphas: tuple[float, ...]
    names: tuple[str, ...]


def measure_path(
    program: Program,
    path: Curve,
    batches: Iterable[Batch],
    plan: Mapping[str, Planned],
    *,
    correct: Correct | None = None,
    chunk: int | None = None,
) -> dict[str, Any]:
    """Take all planned measures in one stream over the batches.

    Each batch costs one forward pass per distinct alpha of the plan, plus those of A and B where 0 and 1 are
    not among them and a measure looks at them, and one more where `_share_lone` says so. Features live for
    one batch only.

    Args:
        program: the network, best read with inputs of the batches' shape. Give an equal one and the same
            measures again, and nothing is compiled again.
        path: from A to B.
        batches: images, labels and mask; all of one shape.
        plan: name -> measure and its alphas.
        correct: theta_alpha and its correction -> the network to measure there, such as one with other
            running statistics; for a path that has corrections.
        chunk: how many networks theta_alpha to evaluate at a time under `vmap` (`None`: all).

    Returns:
        Name -> the measure's result.
    """
    groups, measures = _groups(plan), tuple((name, planned.measure) for name, planned in plan.items())
    tallies = {name: measure for name, measure in measures if isinstance(measure, Tally)}
    totals = {name: tally.empty for name, tally in tallies.items()}
    states: list[PyTree] | None = None
    path = sharding.onto_all(path)

    def looks() -> Iterator[list[PyTree]]:
        nonlocal program, states
        for batch in batches:
            with jax.default_matmul_precision("highest"):
                program = fitting(program, path.a, batch.images, batch.mask.shape)
                compiles = states is None
                if states is None:
                    states = _empty_states(program, measures, groups, path, batch)
                states, seen = _step(program, measures, groups, correct, chunk, states, path, batch)
                if compiles:
                    limits.give_back_freed()
            yield seen

    for seen in _one_behind(looks()):
        found = sharding.fetch(seen)
        for name, tally in tallies.items():
            totals[name] = tally.add(totals[name], _along_path(name, groups, found))
    if states is None:
        raise ValueError("batches: expected at least one; found none")
    found = sharding.fetch(states)
    return {
        name: planned.measure.finalize(
            totals[name] if name in totals else _along_path(name, groups, found), planned.alphas
        )
        for name, planned in plan.items()
    }


def compile_path(
    program: Program, path: Curve, batch: Batch, plan: Mapping[str, Planned], *, chunk: int | None = None
) -> None:
    """Compile what `measure_path` runs along a path without corrections; it then finds that compiled.

    Args:
        program: as there.
        path: of `jax.ShapeDtypeStruct`s that say where they are placed.
        batch: the first of those there.
        plan: as there.
        chunk: as there.
    """
    groups, measures = _groups(plan), tuple((name, planned.measure) for name, planned in plan.items())
    with jax.default_matmul_precision("highest"):
        program = fitting(program, path.a, batch.images, batch.mask.shape)
        states: list[PyTree] = [{} for _ in groups]
        if _any_folds(measures):
            empty = _empty_folds.lower(program, measures, groups, path, batch)
            empty.compile()
            states = sharding.replicated_shapes(empty.out_info)
        _step.lower(program, measures, groups, None, chunk, states, path, batch).compile()


def _one_behind(items: Iterator[_Item]) -> Iterator[_Item]:
    """Each when the next one is there: devices go on while the host looks at what they have made."""
    waiting: list[_Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def view(program: Program, variables: Variables, values: Values, mask: Array) -> View:
    """What a network makes of one batch, of which all values of its program are known."""
    features = {
        node.name: samples_first(values[node.value], node.sample_axis, node.position_axes, mask)
        for node in program.nodes
        if node.sample_axis is not None
    }
    features |= {name: features[node] for name, node in program.aliases if node in features}
    return View(variables, output(program.flat, values)[0], features, values)


def chunk_for(backend: str, width: int = 8) -> int:
    """How many theta_alpha to evaluate at a time: the rule, from measurements on each backend.

    Under `vmap` over networks XLA:CPU runs an MLP's matrix products 1.3 times slower than in turn, and
    convolutions, which become grouped ones, several times. On an H100 one network at a time takes no longer
    than bare forward passes of 500 images, and programs with grouped convolutions compile for a minute. TPUs,
    not measured, are taken to gain, until the features of a chunk fill the memory.
    """
    return width if backend == "tpu" else 1


def _groups(plan: Mapping[str, Planned]) -> tuple[_Group, ...]:
    """So that what is long to compile is compiled once for both ends, and once for inner points."""
    names = {
        alpha: tuple(name for name, planned in plan.items() if alpha in planned.alphas)
        for alpha in sorted({alpha for planned in plan.values() for alpha in planned.alphas})
    }
    at_ends = [names.get(end, ()) for end in ENDS]
    both = tuple(x for x in at_ends[0] if x in at_ends[1] and isinstance(plan[x].measure, Fold))
    groups = [_Group(ENDS, both)]
    groups += [
        _Group((end,), tuple(x for x in own if x not in both)) for end, own in zip(ENDS, at_ends, strict=True)
    ]
    loops: dict[tuple[str, ...], list[float]] = {}
    for alpha, taken in names.items():
        if alpha not in ENDS:
            loops.setdefault(taken, []).append(alpha)
    _share_lone(loops)
    groups += [_Group(tuple(sorted(alphas)), taken) for taken, alphas in loops.items()]
    return tuple(group for group in groups if group.names)


def _share_lone(loops: dict[tuple[str, ...], list[float]]) -> None:
    """One alpha at which a little more is taken than in another loop joins that.

    What is left has a loop of its own, at the price of another forward pass, where all of the other's
    measures would be compiled twice.
    """
    for taken in [taken for taken, alphas in loops.items() if len(alphas) == 1]:
        within = max((other for other in loops if {*other} < {*taken}), key=len, default=())
        rest = tuple(name for name in taken if name not in within)
        if len(within) > len(rest):
            alphas = loops.pop(taken)
            loops[within] += alphas
            loops.setdefault(rest, []).extend(alphas)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=5)
def _step(
    program: Program,
    measures: tuple[tuple[str, Fold | Tally], ...],
    groups: tuple[_Group, ...],
    correct: Correct | None,
    chunk: int | None,
    states: list[PyTree],
    path: Curve,
    batch: Batch,
) -> tuple[list[PyTree], list[PyTree]]:
    """Every group's states after one more batch, and what tallies look at in it."""
    flat = program.flat

    def look(variables: Variables, correction: PyTree | None) -> View:
        if correct is not None:
            variables = correct(variables, correction)
        return view(program, variables, run(flat, arguments(flat, variables, batch.images)), batch.mask)

    ends = {
        alpha: look(variables, _correction(path, alpha))
        for alpha, variables in zip(ENDS, (path.a, path.b), strict=True)
    }

    def update(group: _Group, state: PyTree, alpha: Array | float, theta: View) -> tuple[PyTree, PyTree]:
        point = Point(program, jnp.float32(alpha), theta, ends[0.0], ends[1.0], batch.labels, batch.mask)
        own = {name: measure for name, measure in measures if name in group.names}
        return (
            {name: one.update(state[name], point) for name, one in own.items() if isinstance(one, Fold)},
            {name: one.look(point) for name, one in own.items() if isinstance(one, Tally)},
        )

    def update_inner(group: _Group, xs: tuple[PyTree, Array, PyTree]) -> tuple[PyTree, PyTree]:
        state, alpha, correction = xs
        variables = path.at(alpha)
        if correct is None and path.is_line:
            values = along_line(flat, ends[0.0].values, ends[1.0].values, alpha)
            return update(group, state, alpha, view(program, variables, values, batch.mask))
        # A corrected theta_alpha, or one on a bent curve, isn't linear in alpha.
        return update(group, state, alpha, look(variables, correction))

    def update_end(group: _Group, xs: tuple[PyTree, Array]) -> tuple[PyTree, PyTree]:
        state, alpha = xs
        return update(group, state, alpha, jax.tree.map(partial(jnp.where, alpha > 0), ends[1.0], ends[0.0]))

    new = []
    for group, state in zip(groups, states, strict=True):
        (first, *_), size = group.alphas, len(group.alphas)
        alphas = jnp.asarray(group.alphas, jnp.float32)
        if group.alphas == ENDS:
            new.append(jax.lax.map(partial(update_end, group), (state, alphas)))
        elif first in ENDS:
            new.append(_stack([update(group, jax.tree.map(itemgetter(0), state), first, ends[first])]))
        else:
            corrections = _stack([_correction(path, alpha) for alpha in group.alphas])
            at_once = size if chunk is None else min(chunk, size)
            own = partial(update_inner, group)
            xs = (state, alphas, corrections)
            new.append(jax.lax.map(own, xs, batch_size=at_once if at_once > 1 else None))
    return [state for state, _ in new], sharding.constrain_everywhere([seen for _, seen in new])


def _correction(path: Curve, alpha: float) -> PyTree | None:
    return None if path.corrections is None else path.corrections[alpha]


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _empty_states(
    program: Program,
    measures: tuple[tuple[str, Fold | Tally], ...],
    groups: tuple[_Group, ...],
    path: Curve,
    batch: Batch,
) -> list[PyTree]:
    """Every group's states before the first batch."""
    if not _any_folds(measures):
        return [{} for _ in groups]
    return sharding.replicate(_empty_folds(program, measures, groups, path, batch))


def _any_folds(measures: tuple[tuple[str, Fold | Tally], ...]) -> bool:
    return any(isinstance(measure, Fold) for _, measure in measures)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _empty_folds(
    program: Program,
    measures: tuple[tuple[str, Fold | Tally], ...],
    groups: tuple[_Group, ...],
    path: Curve,
    batch: Batch,
) -> list[PyTree]:
    flat = program.flat
    known = arguments(flat, path.a, batch.images)
    seen = jax.eval_shape(lambda: view(program, path.a, run(flat, known), batch.mask))
    point = Point(program, jnp.float32(0), seen, seen, seen, batch.labels, batch.mask)
    return [
        {
            name: repeat(measure.init(point), len(group.alphas))
            for name, measure in measures
            if name in group.names and isinstance(measure, Fold)
        }
        for group in groups
    ]


def _along_path(name: str, groups: Iterable[_Group], states: Iterable[PyTree]) -> PyTree:
    """What there is of one measure, stacked in the order of alpha."""
    taken = [
        (group.alphas, state[name]) for group, state in zip(groups, states, strict=True) if name in state
    ]
    order = np.argsort(np.concatenate([alphas for alphas, _ in taken]))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *(state for _, state in taken))
