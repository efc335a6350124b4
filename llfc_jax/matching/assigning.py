"""A permutation that can be descended: the assignment of a free matrix, with a straight-through gradient."""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp

from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.leaves import Leaves, replaced, selected
from llfc_jax.symmetry.classes import Action
from llfc_jax.symmetry.maps import act_on_leaf
from llfc_jax.symmetry.spec import PermutationSpec, around, identity, moved_leaf
from llfc_jax.types import Array, Variables


def as_action(units: PermutationSpec, name: str) -> Action:
    """A permutation as a map of units by a matrix."""
    powers = {
        path: dict.fromkeys(found, Fraction(1))
        for path, leaf in units.leaves.items()
        if (found := leaf.places_moved_by(name))
    }
    return Action(name, "permutation", units.sizes[name], powers)


def permuted_by_assigning(units: PermutationSpec, name: str, free: Array, variables: Variables) -> Variables:
    """A network permuted by the assignment of a free matrix M: by P = argmax <P, M>, with dM = dP.

    The gradient of M is that of P in a product by P (Git Re-Basin, Algorithm 3). But no such product is
    taken, there or back: units are copied where it would multiply them by zeros.

    Args:
        units: where they are in the network.
        name: of the permutation.
        free: M, (size, size); of what moves within others, their sizes are in front.
        variables: the network's arrays, through which gradients pass, too.
    """
    action = as_action(units, name)
    powers = action.powers
    still = {outer: identity(units)[outer] for outer in around(name, units.sizes)}

    def copied(indices: Array, leaves: Leaves) -> Leaves:
        permutation = still | {name: indices}
        return {path: moved_leaf(units.leaves[path], permutation, leaf) for path, leaf in leaves.items()}

    def multiplied(leaves: Leaves, matrix: Array) -> Leaves:
        return {
            path: act_on_leaf(units.leaves[path], action, powers[path], matrix, leaf)
            for path, leaf in leaves.items()
        }

    @jax.custom_vjp
    def permuted(free: Array, leaves: Leaves) -> Leaves:
        return copied(linear_assignment(free), leaves)

    def forward(free: Array, leaves: Leaves) -> tuple[Leaves, tuple[Array, Leaves]]:
        indices = linear_assignment(free)
        return copied(indices, leaves), (indices, leaves)

    def backward(saved: tuple[Array, Leaves], gradient: Leaves) -> tuple[Array, Leaves]:
        indices, leaves = saved
        _, pull_back = jax.vjp(partial(multiplied, leaves), jax.nn.one_hot(indices, indices.shape[-1]))
        return pull_back(gradient)[0], copied(jnp.argsort(indices, axis=-1), gradient)

    permuted.defvjp(forward, backward)
    leaves = selected(variables, powers)
    smooth = {
        path: leaf for path, leaf in leaves.items() if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    }
    moved = permuted(free, smooth)
    others = {path: leaf for path, leaf in leaves.items() if path not in smooth}
    if others:
        moved |= copied(linear_assignment(jax.lax.stop_gradient(free)), others)
    return replaced(variables, moved)
