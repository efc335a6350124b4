"""The canonical scales of a network: of all that scalings make of it, the one whose weights are smallest.

A scaling s = exp(t) of one unit multiplies what it moves by exp(e t), e the power there, so that the sum of
squares is sum_k c_k exp(2 e_k t): convex in t, in all units' t together, too. Its minimum is the same for all
networks that scalings make of each other. For a hidden unit of ReLU it is where what comes in is as long as
what goes out.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from llfc_jax.symmetry.classes import Action, Symmetry
from llfc_jax.symmetry.maps import Maps, act, shape_of_map
from llfc_jax.symmetry.spec import PermutationSpec
from llfc_jax.types import Array, PyTree

_SWEEPS, _STEPS = 300, 20
"""Over all scalings, and of Newton's method in one."""
_SETTLED = 1e-6
"""Of the logarithm of a scale: what counts as no change."""


def balance(symmetry: Symmetry, variables: PyTree, names: Sequence[str], paths: Sequence[str]) -> Maps:
    """The scalings that make the sum of squares of a network's weights smallest.

    Coordinate descent over scalings, each to its minimum. A unit whose scale could grow or fall for ever, as
    nothing comes in or goes out, keeps it.

    Args:
        symmetry: of the network.
        variables: its arrays.
        names: of scalings; one for each.
        paths: of the arrays that are weights.

    Returns:
        Numbers for `apply_maps`.
    """
    actions = {name: symmetry[name] for name in names}

    @jax.jit
    def sweep(logs: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
        found, change = dict(logs), jnp.zeros(())
        moved = variables
        for name, action in actions.items():
            moved = act(symmetry.spec, action, jnp.exp(found[name]), moved)
        for name, action in actions.items():
            step = _best(symmetry.spec, action, moved, paths)
            moved = act(symmetry.spec, action, jnp.exp(step), moved)
            found[name], change = found[name] + step, jnp.maximum(change, jnp.abs(step).max())
        return found, change

    logs = {name: jnp.zeros(shape_of_map(symmetry, name)) for name in names}
    for _ in range(_SWEEPS if names else 0):
        logs, change = sweep(logs)
        if change < _SETTLED:
            break
    return {name: jnp.exp(own) for name, own in logs.items()}


def _best(spec: PermutationSpec, action: Action, variables: PyTree, paths: Sequence[str]) -> Array:
    """The t that makes each unit's sum of squares smallest, the others' held."""
    terms = [
        (float(power), jnp.square(jnp.abs(leaf)), path, axis)
        for where, leaf in jax.tree_util.tree_leaves_with_path(variables)
        if (path := jax.tree_util.keystr(where)) in action.powers and path in paths
        for axis, power in action.powers[path].items()
    ]
    together = max((len(action.powers[path]) for _, _, path, _ in terms), default=1)
    squares = [(power, _by_unit(spec, action, leaf, path, axis)) for power, leaf, path, axis in terms]
    if not squares:
        return jnp.zeros(())
    pulled = [
        sum((c for power, c in squares if sign * power > 0), start=jnp.zeros_like(squares[0][1])) > 0
        for sign in (1, -1)
    ]

    def newton(_: int, t: Array) -> Array:
        slopes = [power * c * jnp.exp(2 * power * t) for power, c in squares]
        curvature = sum(2 * power * slope for (power, _), slope in zip(squares, slopes, strict=True))
        return t - jnp.clip(sum(slopes) / jnp.maximum(curvature, jnp.finfo(t.dtype).tiny), -1, 1)

    best = jax.lax.fori_loop(0, _STEPS, newton, jnp.zeros_like(squares[0][1]))
    return jnp.where(pulled[0] & pulled[1], best, 0) / together  # on one array twice, both ends move


def _by_unit(spec: PermutationSpec, action: Action, leaf: Array, path: str, axis: int) -> Array:
    """Sums over all that one unit moves along an axis of an array, units last."""
    total = jnp.zeros(())
    for piece in spec.leaves[path].pieces:
        block, outer = piece.of(leaf), piece.within(action.group)
        for own in piece.moved_by(action.group, axis):
            kept = (*outer, own)
            summed = block.sum([i for i in range(block.ndim) if i not in kept])
            order = partial(sorted(kept).index)
            total += jnp.transpose(summed, [order(i) for i in kept])
    return total
