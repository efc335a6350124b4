"""What the units that a permutation moves compute, in any model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from llfc_jax.errors import UserError
from llfc_jax.program.interpreter import evaluate, interpret
from llfc_jax.symmetry.factors import Axes, Factor, expand, factors_of, fix, flatten, new_axes
from llfc_jax.symmetry.spec import PermutationSpec, check_fit, readable_path
from llfc_jax.symmetry.trace import constant_axes, propagate
from llfc_jax.types import Array, PyTree

_CONTRACTIONS = ("dot_general", "conv_general_dilated")


class _Value(NamedTuple):
    """An array of the computation, its axes, and whether it depends on the inputs."""

    array: Any
    axes: Axes
    from_inputs: bool


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
        Permutation name -> float arrays (observations, size), in the order in which the model reads them.

    Raises:
        UserError: the spec doesn't fit the network, or the units of a permutation exist only inside a loop.

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
    operands += [_Value(x, new_axes(jnp.shape(x), fixed=True), True) for x in jax.tree.leaves(inputs)]
    contracted: list[_Value] = []
    read: list[_Value] = []

    def visit(eqn: JaxprEqn, operands: Sequence[_Value]) -> list[_Value]:
        seen = [x for x in operands if x.from_inputs and jnp.issubdtype(x.array.dtype, jnp.floating)]
        read.extend(seen)
        if eqn.primitive.name in _CONTRACTIONS:
            contracted.extend(seen)
        from_inputs = any(x.from_inputs for x in operands)
        axes = propagate(eqn, [x.axes for x in operands], [])
        results = evaluate(eqn, [x.array for x in operands])
        return [_Value(*result, from_inputs) for result in zip(results, axes, strict=True)]

    jaxpr = jax.make_jaxpr(apply)(variables, *inputs)
    outputs = interpret(jaxpr, operands, lambda array: _Value(array, constant_axes(array), False), visit)
    fix(factors_of(x.axes for x in outputs))

    names = _names(spec, leaves)
    found = {
        name: _carrying(name, names, contracted) or _carrying(name, names, read)[-1:] for name in spec.sizes
    }
    hidden = [name for name in spec.sizes if not found[name]]
    if hidden:
        raise UserError(
            f"permutation {', '.join(hidden)}: expected units whose activations can be seen, found them only "
            "inside a loop; match the weights instead"
        )
    return {name: tuple(_observations(name, names, x) for x in values) for name, values in found.items()}


def _names(spec: PermutationSpec, leaves: Mapping[str, _Value]) -> dict[Factor, str | None]:
    """Returns the spec's name for each class of factors on the leaves; None for those that stay."""
    names: dict[Factor, str | None] = {}
    for path, leaf in spec.leaves.items():
        factors = expand(flatten(leaves[path].axes))
        view = [(size, name) for size, name in zip(leaf.view, leaf.perms, strict=True) if size > 1]
        fits = [factor.size for factor in factors] == [size for size, _ in view]
        for factor, (_, name) in zip(factors, view, strict=False):
            fits &= names.setdefault(factor, name) == name and not (name and factor.fixed)
        if not fits:
            raise UserError(f"{readable_path(path)}: the permutation spec was not derived from this apply")
    return names


def _carrying(name: str, names: dict[Factor, str | None], values: Sequence[_Value]) -> list[_Value]:
    """Returns, each once, the values that permutation `name` moves: those that it moves alone, if any."""
    moving = {id(x.array): (x, _moving(names, x)) for x in values}
    carrying = [(x, moved) for x, moved in moving.values() if name in moved]
    alone = [x for x, moved in carrying if len(moved) == moved.count(None) + 1]
    return alone or [x for x, _ in carrying]


def _moving(names: dict[Factor, str | None], value: _Value) -> list[str | None]:
    """Returns the permutation of each factor of each axis of a value."""
    return [names.get(factor) for factor in expand(flatten(value.axes))]


def _observations(name: str, names: dict[Factor, str | None], value: _Value) -> Array:
    """Returns a value as (observations, units), averaged over all else that is permuted."""
    moving, sizes = _moving(names, value), [factor.size for factor in expand(flatten(value.axes))]
    unit = moving.index(name)
    others = tuple(i for i, moved in enumerate(moving) if moved is not None and i != unit)
    array = value.array.astype(jnp.promote_types(value.array.dtype, jnp.float32))
    array = array.reshape(sizes).mean(others, keepdims=True)
    return jnp.moveaxis(array, unit, -1).reshape(-1, sizes[unit])
