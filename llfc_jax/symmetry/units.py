"""What the units that a permutation moves compute, in any model."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from llfc_jax.errors import UserError
from llfc_jax.program.interpreter import evaluate, interpret
from llfc_jax.program.operations import CONTRACTIONS
from llfc_jax.program.scans import scan_of
from llfc_jax.symmetry.factors import Axes, Axis, Factor, expand, factors_of, fix, new_axes, size_of
from llfc_jax.symmetry.known import Chosen, Itself, Known, Positions, as_numbers, axes_of
from llfc_jax.symmetry.lookups import Used
from llfc_jax.symmetry.reading import blocks, leaf_spec, name_factors, positions_of
from llfc_jax.symmetry.spec import LeafSpec, PermutationSpec, around, check_fit, index_of, readable_path
from llfc_jax.symmetry.trace import constants, propagation, scan_axes
from llfc_jax.symmetry.unification import settle
from llfc_jax.symmetry.unrolled import Loop
from llfc_jax.types import Array, PyTree


class _Value(NamedTuple):
    """An array of the computation, its axes, and whether it depends on the inputs."""

    array: Any
    axes: Known
    from_inputs: bool


class _Record(NamedTuple):
    """What the operations of a program read, in order.

    Attributes:
        seen: what is made of the inputs.
        contracted: that which contractions read.
        used: the factors and lookups.
        choices: source -> the positions that it stands for, in each part of loops that Python has run.
    """

    seen: list[_Value]
    contracted: list[_Value]
    used: Used
    choices: dict[Hashable, list[tuple[Mapping[Loop, int], Array]]]


class _Part(NamedTuple):
    """A part of an array of the computation, at some positions of each axis.

    Attributes:
        array: the whole.
        positions: for each of its axes, where the part is.
        sizes: the shape in which every permutation moves a whole axis of the part.
        perms: the permutation of each.
    """

    array: Any
    positions: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]
    perms: tuple[str | None, ...]


def unit_activations(
    apply: Callable[..., PyTree], variables: PyTree, *inputs: PyTree, spec: PermutationSpec
) -> dict[str, tuple[Array, ...]]:
    """Runs a model and returns, for each permutation, the activations of the units that it moves.

    Units are seen where the next layer reads them, after normalisation and nonlinearity: the activations of a
    permutation are the arrays that depend on the inputs, have an axis that it moves, and are operands of a
    matrix product or a convolution. So a residual stream has one array per layer that reads it. Where there
    is no such array, the last one that any operation reads stands in.

    All other axes, samples and positions, are observations. Where further axes are permuted (for queries and
    keys, heads and their inner axes both), they are averaged, and such arrays serve only where there are no
    others: for heads, there is the attention pattern. Hence permuting the network permutes the columns of
    each array and nothing else: with p a permutation and θ' the network permuted by it,

        unit_activations(apply, θ', x)[name] = unit_activations(apply, θ, x)[name][:, p[name]].

    Meant to be jitted with `apply` and `spec` closed over; then only what is used of the result is kept.

    Args:
        apply: `apply(variables, *inputs)` returns a pytree of arrays.
        variables: the network.
        *inputs: one batch.
        spec: the symmetries of `apply`.

    Returns:
        Permutation name -> float arrays (observations, size), in the order in which the model reads them; for
        what moves within others, (observations, their sizes, size).

    Raises:
        UserError: the spec doesn't fit the network, or the units of a permutation exist only inside a while
            loop or a branch.

    Example:
        >>> from llfc_jax.symmetry import permutation_spec
        >>> weights, x = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 3))}, jnp.ones((4, 5))
        >>> apply = lambda w, x: jnp.tanh(x @ w["in"]) @ w["out"]
        >>> spec = permutation_spec(apply, weights, x)
        >>> [a.shape for a in unit_activations(apply, weights, x, spec=spec)["P0"]]
        [(4, 8)]
    """
    check_fit(spec, variables)
    leaves = {
        jax.tree_util.keystr(path): _Value(leaf, new_axes(jnp.shape(leaf)), False)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    operands = [*leaves.values()]
    operands += [_Value(x, new_axes(jnp.shape(x), fixed="an input"), True) for x in jax.tree.leaves(inputs)]
    for value in leaves.values():
        settle(axes_of(value.axes), "a leaf")
    record = _Record([], [], Used([], []), {})
    jaxpr = jax.make_jaxpr(apply)(variables, *inputs)
    outputs = _run(jaxpr, operands, record, ())
    fix(factors_of(as_numbers(x.axes, "an output") for x in outputs), "an output")

    names = name_like(
        spec, {path: axes_of(value.axes) for path, value in leaves.items()}, record.used.factors
    )
    contracted_parts, seen_parts = (
        [part for value in {id(x.array): x for x in values}.values() for part in _parts(names, value)]
        for values in (record.contracted, record.seen)
    )
    found = {
        name: _carrying(name, contracted_parts) or _carrying(name, seen_parts)[-1:] for name in spec.sizes
    }
    hidden = [name for name in spec.sizes if not any(found[own] for own in _family(name, spec))]
    if hidden:
        raise UserError(
            f"permutation {', '.join(hidden)}: expected units whose activations can be seen, found them only "
            "inside a while loop or a branch; match the weights instead"
        )
    return {name: tuple(_observations(name, part) for part in parts) for name, parts in found.items()}


def _family(name: str, spec: PermutationSpec) -> list[str]:
    return [name, *(other for other in spec.sizes if name in around(other, spec.sizes))]


def _run(
    jaxpr: ClosedJaxpr | Jaxpr, operands: Sequence[_Value], record: _Record, ambient: Axis
) -> list[_Value]:
    """Evaluates a program and its axes at once, and records what its operations read."""
    axes_of_results = propagation(jaxpr, len(operands), record.used, ambient)
    plan = axes_of_results.plan
    shown: dict[tuple[int, int], _Shown] = {}

    def visit(eqn: JaxprEqn, operands: Sequence[_Value]) -> Sequence[_Value]:
        step = axes_of_results.number
        part = plan.inside.get(step, {})
        for source, found in _choices(eqn, operands):
            if source not in _chosen_in(
                part, record
            ):  # JAX counts from the end, too, and takes what is right
                record.choices.setdefault(source, []).append((part, found))
        chosen = _chosen_in(part, record)
        outside = step in plan.sums or step in plan.joined  # which see parts of loops from outside
        for i, x in enumerate(() if outside else operands):
            if x.from_inputs and jnp.issubdtype(x.array.dtype, jnp.floating):
                spread, first = _spread(x, chosen), plan.first(step)
                if first == step:
                    shown[step, i] = _Shown(record, spread, contracted=eqn.primitive.name in CONTRACTIONS)
                elif _is_of_part(x, part, plan.inside[first]):
                    shown[first, i].add(spread)
        if eqn.primitive.name == "scan" and step not in plan.inside:
            axes_of_results.number += 1
            return _scan(eqn, operands, record, ambient)
        from_inputs = any(x.from_inputs for x in operands)
        axes = axes_of_results(eqn, [x.axes for x in operands])
        results = evaluate(eqn, [x.array for x in operands])
        return [_Value(*result, from_inputs) for result in zip(results, axes, strict=True)]

    axes_of_constant = constants(ambient)

    def constant(array: Any) -> _Value:
        return _Value(jnp.asarray(array), axes_of_constant(array), False)

    return interpret(jaxpr, operands, constant, visit)


class _Shown:
    """What an operation was shown to read: of a loop that Python has run, of all parts side by side."""

    def __init__(self, record: _Record, value: _Value, *, contracted: bool) -> None:
        self.places = [(own, len(own)) for own in (record.seen, *[record.contracted] * contracted)]
        for own, _ in self.places:
            own.append(value)

    def add(self, value: _Value) -> None:
        """Puts what another part reads beside it, which is 0 there."""
        for own, place in self.places:
            own[place] = own[place]._replace(array=own[place].array + value.array)


def _is_of_part(value: _Value, part: Mapping[Loop, int], first: Mapping[Loop, int]) -> bool:
    """Whether a part of loops reads what the first part does not: of loops it isn't of, the first will do."""
    among = value.axes.among if isinstance(value.axes, Chosen) else ()
    own = {one.source for one in among}
    return all(part[loop] == at for loop, at in first.items() if loop not in own)


def _chosen_in(part: Mapping[Loop, int], record: _Record) -> dict[Hashable, Array]:
    """Source -> position, in a part of loops: what was chosen there or outside of them, and its own."""
    found: dict[Hashable, Array] = {loop: jnp.asarray(at) for loop, at in part.items()}
    for source, chosen in record.choices.items():
        for where, position in chosen:
            if where.items() <= part.items():
                found[source] = position
    return found


def _choices(eqn: JaxprEqn, operands: Sequence[_Value]) -> Iterator[tuple[Hashable, Array]]:
    """By which positions arrays may be looked up, for each source."""
    for x in operands:
        if isinstance(x.axes, Positions):
            yield x.axes.source, x.array
    if eqn.primitive.name == "ragged_dot_general" and operands[2].array.ndim == 1:
        rows, sizes = operands[0].array, operands[2]
        count = rows.shape[eqn.params["ragged_dot_dimension_numbers"].lhs_ragged_dimensions[0]]
        group = jnp.repeat(jnp.arange(len(sizes.array)), sizes.array, total_repeat_length=count)
        yield Itself(sizes.axes), group


def _spread(value: _Value, choices: Mapping[Hashable, Array]) -> _Value:
    """An array that was looked up, with an axis for what it was looked up in: 0 at all other positions."""
    if not isinstance(value.axes, Chosen):
        return value
    array, axes = value.array, value.axes.axes
    for (outer,), source, along in value.axes.among:
        position = (
            choices[source].reshape([array.shape[i] for i in along]).transpose(np.argsort(along).tolist())
        )
        position = jnp.expand_dims(position, [i for i in range(array.ndim) if i not in along])
        array = jnp.where(jax.nn.one_hot(position, size_of(outer), dtype=bool), array[..., None], 0)
        axes = (*axes, outer)
    return _Value(array, axes, value.from_inputs)


def _scan(eqn: JaxprEqn, operands: Sequence[_Value], record: _Record, ambient: Axis) -> Sequence[_Value]:
    """Evaluates a scan; what its body reads is recorded with an axis for the iterations in front."""
    scan, from_inputs = scan_of(eqn), any(x.from_inputs for x in operands)
    constants, start, taken_apart = scan.operands(operands)
    arrays: list[Array] = []

    def run(slices: Sequence[Axes], iterations: Axis) -> Sequence[Axes]:
        inside: list[Axes] = []
        inner = _Record([], [], record.used, {})
        shows_inputs = [
            *(x.from_inputs for x in constants),
            *(from_inputs for _ in start),
            *(x.from_inputs for x in taken_apart),
        ]

        def body(carry: Sequence[Array], rows: Sequence[Array]) -> tuple[list[Array], Any]:
            inner.seen.clear()  # what an earlier trace of the body has left
            inner.contracted.clear()
            taken = (*(x.array for x in constants), *carry, *rows)
            values = [_Value(*value) for value in zip(taken, slices, shows_inputs, strict=True)]
            results = _run(scan.body, values, inner, (*ambient, *iterations))
            inside[:] = [as_numbers(value.axes, eqn) for value in results]
            carried, returned = scan.results([value.array for value in results])
            read = [[x.array for x in values] for values in (inner.seen, inner.contracted)]
            return carried, (returned, read)

        end, (stacked, read) = jax.lax.scan(
            body,
            [x.array for x in start],
            [x.array for x in taken_apart],
            length=scan.length,
            reverse=scan.reverse,
        )
        arrays.extend((*end, *stacked))
        pairs = zip((record.seen, record.contracted), (inner.seen, inner.contracted), read, strict=True)
        for own, values, stacks in pairs:
            for x, array in zip(values, stacks, strict=True):
                own.append(_Value(array, (iterations, *axes_of(x.axes)), x.from_inputs))
        return inside

    axes = [as_numbers(x.axes, eqn) for x in operands]
    results = scan_axes(eqn, axes, run)
    for array_axes in (*axes, *results):
        settle(array_axes, eqn, ambient)
    return [_Value(*result, from_inputs) for result in zip(arrays, results, strict=True)]


def name_like(
    spec: PermutationSpec, axes: Mapping[str, Axes], used: Sequence[Factor], paired: Sequence[Axis] = ()
) -> dict[Factor, str | None]:
    """Returns the spec's name for each class of factors on the leaves; None for those that stay.

    Axes that aren't permuted, but pairs of which are turned, have names that the spec has not.

    Raises:
        UserError: the spec says something else of a leaf than its axes.
    """
    shapes = {path: spec.leaves[path].shape for path in axes}
    named = name_factors([*axes.values()], used, paired)
    turned = {factor for axis in paired for factor in expand(axis)}
    own = {factor: name for factor, name in named.items() if factor not in turned}
    found: dict[str | None, str | None] = {None: None}
    for path, given in spec.leaves.items():
        derived = leaf_spec(axes[path], shapes[path], own)
        fits = _layout(given) == _layout(derived)
        pairs = zip(_perms(derived), _perms(given), strict=False)
        if not fits or any(found.setdefault(name, meant) != meant for name, meant in pairs):
            raise UserError(f"{readable_path(path)}: the permutation spec was not derived from this apply")
    within = {factor: name.rpartition("/") for factor, name in named.items() if factor in turned}
    return {factor: found[name] for factor, name in own.items()} | {
        factor: f"{found[outer]}/{last}" if outer else last for factor, (outer, _, last) in within.items()
    }


def _layout(leaf: LeafSpec) -> list[tuple[Any, ...]]:
    return [(piece.positions, piece.view) for piece in leaf.pieces]


def _perms(leaf: LeafSpec) -> list[str | None]:
    return [name for piece in leaf.pieces for name in piece.perms]


def _parts(names: dict[Factor, str | None], value: _Value) -> list[_Part]:
    """Returns the parts of a value of which each permutation moves a whole axis."""
    parts = []
    for block in blocks(axes_of(value.axes), jnp.shape(value.array)):
        sizes: list[int] = []
        moving: list[str | None] = []
        for own, axis in zip(block.positions, block.axes, strict=True):
            factors = expand(axis)
            sizes += [factor.size for factor in factors] if factors else [len(own)]
            moving += [names.get(factor) for factor in factors] if factors else [None]
        parts.append(_Part(value.array, block.positions, tuple(sizes), tuple(moving)))
    return parts


def _carrying(name: str, parts: Sequence[_Part]) -> list[_Part]:
    """Returns the parts that permutation `name` moves: those that it moves alone, if any."""
    carrying = [part for part in parts if name in part.perms]
    own = {None, name, *around(name, [perm for part in carrying for perm in part.perms if perm])}
    alone = [part for part in carrying if {*part.perms} <= own and part.perms.count(name) == 1]
    return alone or [part for part in carrying if part.perms.count(name) == 1]


def _observations(name: str, part: _Part) -> Array:
    """Returns a part as (observations, *outer, units), averaged over all else that is permuted."""
    outer = around(name, [perm for perm in part.perms if perm])
    units = [part.perms.index(other) for other in (*outer, name)]
    others = tuple(i for i, moved in enumerate(part.perms) if moved is not None and i not in units)
    array = part.array[index_of(tuple(map(positions_of, part.positions)))]
    array = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    array = array.reshape(part.sizes).mean(others, keepdims=True)
    sizes = [part.sizes[i] for i in units]
    return jnp.moveaxis(array, units, range(-len(units), 0)).reshape(-1, *sizes)
