"""Commutativity matching: permute B's units so that its layers and A's commute, the paper's own objective."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from llfc_jax.errors import UserError
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.leaves import cut_up, matched_leaves
from llfc_jax.matching.problem import Found, Problem, at_least_one
from llfc_jax.matching.second_moments import Moments, second_moments
from llfc_jax.matching.similarity import assigned, family, similarities, terms_of
from llfc_jax.matching.weights import weight_matching
from llfc_jax.program.flat import Flat, arguments, flatten, run
from llfc_jax.symmetry import LeafSpec, PermutationSpec, apply_permutation, compose, held_fixed, identity
from llfc_jax.symmetry.contractions import Contraction, contractions
from llfc_jax.types import Array, Permutation, PRNGKey, PyTree, Variables

_CURVATURES = (1.0, 2.0, 4.0, 16.0, 64.0)
"""How many units are reckoned to overlap: tried in turn until the objective falls."""


class Layer(NamedTuple):
    """What the objective knows of one layer: weights as `(batch, rows, columns)`, moments of the inputs."""

    a: Array
    b: Array
    moments: Moments


def commutativity_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    variables_a: Variables,
    variables_b: Variables,
    *,
    apply: Callable[[Variables, Any], PyTree],
    batches: Iterable[Any],
    start: Permutation | None = None,
    max_sweeps: int = 100,
    assignment: str = "auto",
    exclude: tuple[str, ...] = ("batch_stats",),
) -> tuple[Permutation, MatchInfo]:
    """The permutation of B that minimises `sum_l E ||(W_A - P W_B P'^T)(H_A - P' H_B)||^2` over all layers l.

    The objective of Zhou et al. (section 5 and appendix A.3, arXiv 2307.08286): commutativity (Definition 4),
    which with weak additivity gives LLFC. W is the weight of a layer, H its input, a patch for each position
    of a convolution's result; P and P' permute the layer's outputs and inputs; E is the mean over samples.
    Of the data only the moments E H_A H_A^T, E H_A H_B^T, E H_B H_B^T are needed, `(inputs, inputs)` for each
    layer: one pass, whatever the number of batches.

    Coordinate descent from weight matching. Let R be a further permutation of one group of units, which puts
    B's unit p[i] in the place of i, the others held; D = W_A - W_B and E = H_A - H_B, B as permuted so far.
    Where R moves a layer's outputs, the objective is linear in R, as the norm of R W_B E doesn't depend on
    it: const - 2 <R, W_A E E^T W_B^T>. Where it moves the inputs, with w_i the weights that read unit i and
    h_i its values,

        ||sum_i m_i(p[i])||^2 with m_i(j) = (w_A_i - w_B_j) (h_A_i - h_B_j)
        = ||D E||^2 + 2 sum_i <D E, m_i(p[i]) - m_i(i)> + ||sum_i m_i(p[i]) - m_i(i)||^2,

    of which all but the products of two units in the last term is an assignment problem. The step is the
    assignment that is best with `c sum_i ||m_i(p[i]) - m_i(i)||^2` for the last term, and is taken if the
    objective itself falls. c = 1 is exact for units that don't overlap; if the step fails, larger c are
    tried: from the number of units that move on, the model is above the objective, which it touches where
    nothing moves.

    What moves within a group is assigned with it. Of a position that layers share without a sum (groups of a
    convolution) the objective is asked, but no step proposed.

    Args:
        key: Draws the visiting orders, and what `weight_matching` needs.
        spec: The symmetries of `apply`.
        variables_a: A's arrays, running statistics included.
        variables_b: B's.
        apply: `apply(variables, batch)`, in evaluation mode, returns a pytree of arrays.
        batches: Inputs of `apply`. A batch of another size costs a compilation.
        start: The first permutation; that of `weight_matching` if left out.
        max_sweeps: Limit on the passes over all groups of units.
        assignment: Solver, see `linear_assignment`.
        exclude: Collections without a say in weight matching: running statistics.

    Returns:
        The permutation, for `apply_permutation(spec, permutation, variables_b)`, and how it was found: the
        objective at the start and after each sweep, the less the better; converged means that the last sweep
        took no step.

    Raises:
        UserError: On trees that differ, a spec or a start that doesn't fit them, no data, or a parameter or
            activation that is NaN or infinite.
    """
    if max_sweeps < 1:
        raise UserError(f"max_sweeps: expected at least 1, found {max_sweeps}")
    matched_leaves(spec, variables_a, variables_b, exclude)
    start_key, order_key = jax.random.split(key)
    if start is None:
        start, _ = weight_matching(
            start_key, spec, variables_a, variables_b, assignment=assignment, exclude=exclude
        )
    batches = at_least_one(batches)
    first = next(batches)
    flat = flatten(apply, variables_a, first)
    known = contractions(flat, variables_a, spec)
    moments = second_moments(known, apply, variables_a, variables_b, itertools.chain([first], batches))
    weights = (_weights(known, flat, variables, first) for variables in (variables_a, variables_b))
    layers = [Layer(*layer) for layer in zip(*weights, moments, strict=True)]
    permutation, trace, converged = _descend(order_key, layers, spec, known, start, max_sweeps, assignment)
    objective = jnp.asarray(trace)
    return permutation, MatchInfo(
        objective,
        jnp.int32(len(trace) - 1),
        jnp.bool_(converged and bool(spec.sizes)),
        objective[-1:],
        held_fixed(spec),
    )


def by_commutativity(key: PRNGKey, problem: Problem, options: Mapping[str, Any]) -> Found:
    """A `Matcher`, over the inputs of all batches."""
    return commutativity_matching(
        key,
        *problem[:3],
        apply=problem.apply,
        batches=problem.inputs(),
        max_sweeps=options["max_sweeps"],
    )


def _weights(known: Sequence[Contraction], flat: Flat, variables: Variables, inputs: Any) -> list[Array]:
    """The weight of every layer."""
    blind = [i for i, one in enumerate(flat.instructions) if not flat.sees_input[one.results[0]]]
    values = run(flat, arguments(flat, variables, inputs), blind)
    return [layer.weight(values).astype(jnp.float32) for layer in known]


def _descend(
    key: PRNGKey,
    layers: Sequence[Layer],
    spec: PermutationSpec,
    known: tuple[Contraction, ...],
    permutation: Permutation,
    max_sweeps: int,
    assignment: str,
) -> tuple[Permutation, list[float], bool]:
    """Visits groups of units in random order until none can be bettered; also the objective of each sweep."""
    touched = {name: _touched(name, spec, known) for name in spec.sizes}
    stale = {name for name, own in touched.items() if own}
    trace = [float(sum(objective_of_layers(layers, permutation, spec, known)))]
    for sweep in range(max_sweeps):
        if not stale:
            break
        for i in jax.random.permutation(jax.random.fold_in(key, sweep), len(spec.sizes)).tolist():
            name = [*spec.sizes][i]
            if name not in stale:
                continue
            own = [layers[layer] for layer in touched[name]]
            visited = tuple(known[layer] for layer in touched[name])
            permutation, improved = _visit(own, permutation, spec, visited, name, assignment)
            stale.discard(name)
            if improved:
                stale |= {other for other in touched if {*touched[other]} & {*touched[name]}}
        trace.append(float(sum(objective_of_layers(layers, permutation, spec, known))))
    return permutation, trace, not stale


def _touched(name: str, spec: PermutationSpec, known: Sequence[Contraction]) -> tuple[int, ...]:
    """The layers that a group of units, or what moves within it, is part of."""
    members = {*family(name, spec.sizes)}
    moved = [{perm for piece in layer.leaf.pieces for perm in piece.perms} for layer in known]
    return tuple(layer for layer, perms in enumerate(moved) if perms & members)


@partial(jax.jit, static_argnames=("spec", "known"))
def objective_of_layers(
    layers: Sequence[Layer], permutation: Permutation, spec: PermutationSpec, known: tuple[Contraction, ...]
) -> list[Array]:
    """`E ||(W_A - pi(W_B))(H_A - pi(H_B))||^2` of each layer."""
    moved = [_moved(layer, permutation, spec, own) for layer, own in zip(layers, known, strict=True)]
    return [_objective(layer, own) for layer, own in zip(moved, known, strict=True)]


def _objective(layer: Layer, own: Contraction) -> Array:
    apart = own.matrices(layer.a - layer.b)
    return jnp.sum(_product(apart, _spread(layer.moments)) * apart)


def _spread(moments: Moments) -> Array:
    """The moment of H_A - H_B."""
    return moments.aa - moments.ab - _transposed(moments.ab) + moments.bb


def _product(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def _moved(layer: Layer, permutation: Permutation, spec: PermutationSpec, own: Contraction) -> Layer:
    """A layer whose B is permuted."""
    aux = PermutationSpec(spec.sizes, {"['b']": own.leaf, "['i']": own.moved_along("batch columns")})
    count, _, width = own.shape
    places = jnp.arange(count * width, dtype=jnp.int32).reshape(count, 1, width)
    places = own.weight_of(jnp.broadcast_to(places, own.shape))
    moved = apply_permutation(aux, permutation, {"b": layer.b, "i": places})
    group, column = jnp.divmod(own.matrices(moved["i"])[:, 0], width)
    rows = jnp.arange(count)[:, None, None]
    samples, aa, ab, bb = layer.moments
    ab = ab[rows, jnp.arange(width)[None, :, None], column[:, None, :]]
    bb = bb[group[:, :, None], column[:, :, None], column[:, None, :]]
    return Layer(layer.a, moved["b"], Moments(samples, aa, ab, bb))


@partial(jax.jit, static_argnames=("spec", "known", "name", "assignment"))
def _visit(
    layers: Sequence[Layer],
    permutation: Permutation,
    spec: PermutationSpec,
    known: tuple[Contraction, ...],
    name: str,
    assignment: str,
) -> tuple[Permutation, Array]:
    """Moves one group of units so that the objective of the layers that it is part of falls, if it can."""
    moved = [_moved(layer, permutation, spec, own) for layer, own in zip(layers, known, strict=True)]
    still = identity(spec)
    gain, cost = (_by_unit(part, moved, spec, known, name) for part in (_gains, _costs))
    solve = partial(linear_assignment, implementation=assignment)
    pairs = [*zip(moved, known, strict=True)]
    before = sum(_objective(layer, own) for layer, own in pairs)
    rounding = 4 * jnp.finfo(jnp.float32).eps * sum(_energy(layer, own) for layer, own in pairs)

    def attempt(state: tuple[Array, Permutation, Array]) -> tuple[Array, Permutation, Array]:
        tried, best, _ = state
        curvature = jnp.asarray(_CURVATURES)[tried]
        value = {
            member: matrix - curvature * cost[member] if member in cost else matrix
            for member, matrix in gain.items()
        }
        step, _ = assigned(name, spec.sizes, value, solve)
        candidate = compose(still | step, permutation)
        after = sum(objective_of_layers(layers, candidate, spec, known))
        improved = after < before - rounding
        best = jax.tree.map(partial(jnp.where, improved), candidate, best)
        return tried + 1, best, improved

    def goes_on(state: tuple[Array, Permutation, Array]) -> Array:
        tried, _, improved = state
        return ~improved & (tried < len(_CURVATURES))

    _, best, improved = lax.while_loop(goes_on, attempt, (jnp.int32(0), permutation, jnp.bool_(False)))
    return best, improved


_Parts = dict[str, tuple[LeafSpec, Array, Array]]
"""How permutations move two arrays x and y, such that R is worth <x, R y>."""


def _by_unit(
    parts_of: Callable[[Layer, Contraction], _Parts],
    layers: Sequence[Layer],
    spec: PermutationSpec,
    known: Sequence[Contraction],
    name: str,
) -> Mapping[str, Array]:
    """For each member of a family, what it is worth to have B's unit j in the place of A's unit i."""
    parts = {
        f"{i}/{part}": value
        for i, (layer, own) in enumerate(zip(layers, known, strict=True))
        for part, value in parts_of(layer, own).items()
    }
    aux = PermutationSpec(spec.sizes, {path: leaf for path, (leaf, _, _) in parts.items()})
    pieces, first = cut_up(aux, {path: x for path, (_, x, _) in parts.items()})
    _, second = cut_up(aux, {path: y for path, (_, _, y) in parts.items()})
    return similarities(terms_of(name, spec.sizes, pieces, first, second), identity(spec))


def _gains(layer: Layer, own: Contraction) -> _Parts:
    """Half of by how much the objective falls, to first order in R."""
    a, b = own.matrices(layer.a), own.matrices(layer.b)
    _, aa, ab, bb = layer.moments
    reading, seen = _product(a - b, ab - bb), _product(a - b, _transposed(aa - ab))
    inputs = _product(_transposed(a), reading) + _product(_transposed(seen), b)
    outputs = own.weight_of(_product(a, _spread(layer.moments))), layer.b
    return {"outputs": (own.moved_along("rows"), *outputs), "inputs": _along_columns(own, inputs)}


def _costs(layer: Layer, own: Contraction) -> _Parts:
    """Half of `||m_i(j) - m_i(i)||^2`, the curvature of each unit by itself."""
    a, b = own.matrices(layer.a), own.matrices(layer.b)
    weights = _distances(*(_product(_transposed(x), y) for x, y in ((a, a), (a, b), (b, b))))
    squares = [x * y for x, y in zip(weights, _distances(*layer.moments[1:]), strict=True)]
    far, turned, near = squares
    return {"inputs": _along_columns(own, (far - 2 * turned + near) / 2)}


def _along_columns(own: Contraction, matrices: Array) -> tuple[LeafSpec, Array, Array]:
    """`sum_ij M[i, j] R[i, j]` of matrices `(batch, columns, columns)`, as <M, R I>."""
    one = jnp.broadcast_to(jnp.eye(own.shape[2], dtype=matrices.dtype), matrices.shape)
    return own.columns_alone, own.by_columns(matrices), own.by_columns(one)


def _distances(aa: Array, ab: Array, bb: Array) -> tuple[Array, Array, Array]:
    """`||x_i - y_j||^2`, `<x_i - y_j, x_i - y_i>` and `||x_i - y_i||^2`, from the products of x and y."""
    own_a, own_ab, own_b = (jnp.diagonal(products, axis1=1, axis2=2) for products in (aa, ab, bb))
    far = own_a[:, :, None] - 2 * ab + own_b[:, None, :]
    turned = (own_a - own_ab)[:, :, None] - ab + bb
    near = jnp.broadcast_to((own_a - 2 * own_ab + own_b)[:, :, None], far.shape)
    return far, turned, near


def _transposed(matrices: Array) -> Array:
    return jnp.swapaxes(matrices, 1, 2)


def _energy(layer: Layer, own: Contraction) -> Array:
    """`E ||W_A H_A||^2 + E ||W_B H_B||^2`, to whose last digits the objective is known."""
    a, b = own.matrices(layer.a), own.matrices(layer.b)
    return jnp.sum(_product(a, layer.moments.aa) * a) + jnp.sum(_product(b, layer.moments.bb) * b)
