"""The straight line between two pytrees, and the grid of points on it."""

import math
from collections.abc import Iterable, Sequence
from functools import partial, reduce
from operator import add, mul
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.runtime import sharding
from llfc_jax.symmetry import readable_path
from llfc_jax.types import Array, PyTree


def lerp(a: PyTree, b: PyTree, alpha: Array | float) -> PyTree:
    """theta_alpha = (1 - alpha) theta_A + alpha theta_B, leaf by leaf (LLFC, section 2).

    Exact at both ends: alpha = 0 returns `a` and alpha = 1 returns `b`, bit for bit. Vmap it over `alpha` for
    many points at once. Leaves that are no floats (counters, random keys) don't lie on a line: they are A's.

    Args:
        a: a pytree of arrays, or of numbers.
        b: a pytree of the same structure and shapes; nothing is broadcast.
        alpha: scalar. Outside [0, 1] the line goes on beyond its ends, as task arithmetic wants it to.

    Raises:
        UserError: A and B differ in structure.

    Example:
        >>> lerp({"w": jnp.zeros(2)}, {"w": jnp.full(2, 8.0)}, 0.25)
        {'w': Array([2., 2.], dtype=float32)}
    """
    check_same_structure(a, b)
    alpha = jnp.asarray(alpha)
    return _combined((a, b), (1 - alpha, alpha))


def mean(networks: Sequence[PyTree], weights: Sequence[float] | None = None) -> PyTree:
    """The weighted mean of several networks, leaf by leaf; what is no float is the first's.

    Args:
        networks: pytrees of one structure.
        weights: one each, not negative, of which only the ratios count; equal if left out.

    Raises:
        UserError: there is no network, they differ in structure, or the weights are no such numbers.

    Example:
        >>> mean([{"w": jnp.zeros(2)}, {"w": jnp.full(2, 8.0)}], (3, 1))
        {'w': Array([2., 2.], dtype=float32)}
    """
    shares = shares_of(len(networks), weights)
    for network in networks[1:]:
        check_same_structure(networks[0], network)
    return _combined(networks, shares)


def _combined(networks: Sequence[PyTree], shares: Sequence[Array | float]) -> PyTree:
    """Their sum in these shares, leaf by leaf; what is no float is the first's."""
    leaves, structure = jax.tree.flatten(networks[0])
    moving = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    each = [[own[i] for i in moving] for own in map(jax.tree.leaves, networks)]
    for i, combined in zip(moving, _sums(each, shares), strict=True):
        leaves[i] = combined
    return jax.tree.unflatten(structure, leaves)


@partial(jax.jit, inline=True)
def _sums(networks: Sequence[Sequence[Array]], shares: Sequence[Array | float]) -> list[Array]:
    """One program for all leaves, where one of each shape and operation would take long to compile."""

    def leaf(*each: Array) -> Array:
        return jnp.asarray(reduce(add, map(mul, shares, each)), each[0].dtype)

    return [leaf(*each) for each in zip(*networks, strict=True)]


def shares_of(count: int, weights: Sequence[float] | None) -> tuple[float, ...]:
    """Weights that sum to 1.

    Raises:
        UserError: they are not as many as networks, or no numbers of which one is positive and none negative.

    Example:
        >>> shares_of(2, None), shares_of(2, (3, 1))
        ((0.5, 0.5), (0.75, 0.25))
    """
    if not count:
        raise UserError("networks: expected one at least; found none")
    own = [1.0] * count if weights is None else list(weights)
    if len(own) != count:
        raise UserError(f"weights: expected {count}, one for each network; found {len(own)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in own) or not sum(own):
        raise UserError(f"weights: expected numbers of which none is negative, and not all 0; found {own}")
    return tuple(float(weight / sum(own)) for weight in own)


def weights_apart(a: PyTree, b: PyTree) -> dict[str, float]:
    """How far apart two networks are in what is interpolated, in float64.

    Returns:
        `distance`, ||theta_A - theta_B||, and `relative`, the same over the root of ||theta_A|| ||theta_B||.

    Example:
        >>> weights_apart({"w": np.float32([3, 0])}, {"w": np.float32([0, 4])})["distance"]
        5.0
    """

    def floats(tree: PyTree) -> list[np.ndarray]:
        moving = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return [
            np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64) for x in sharding.fetch(moving)
        ]

    def norm(leaves: Iterable[np.ndarray]) -> float:
        return math.sqrt(sum(float(np.vdot(leaf, leaf).real) for leaf in leaves))

    left, right = floats(a), floats(b)
    distance = norm(x - y for x, y in zip(left, right, strict=True))
    scale = math.sqrt(norm(left) * norm(right))
    return {"distance": distance, "relative": distance / scale if scale else math.nan}


def alpha_grid(size: int) -> tuple[float, ...]:
    """`size` equally spaced points of [0, 1], joined with 0, 1/2 and 1; to 12 digits, that 0.3 be 0.3.

    Example:
        >>> alpha_grid(4)
        (0.0, 0.333333333333, 0.5, 0.666666666667, 1.0)
    """
    points = {round(point, 12) for point in np.linspace(0, 1, size).tolist()}
    return tuple(sorted(points | {0.0, 0.5, 1.0}))


def check_same_structure(a: PyTree, b: PyTree) -> None:
    """Check that two pytrees have the same leaves, of the same shapes, floats or not.

    Raises:
        UserError: names the first leaf in which they differ, and what each side has.
    """
    left, right = (
        {jax.tree_util.keystr(path): _kind(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (a, b)
    )
    for name in [*left, *right]:
        if left.get(name) != right.get(name):
            found = " and ".join(kinds.get(name, "nothing") for kinds in (left, right))
            raise UserError(
                f"the networks differ at {readable_path(name) or 'the root'}: found {found}; "
                "expected the same architecture"
            )
    structures: list[Any] = [jax.tree.structure(tree) for tree in (a, b)]
    if structures[0] != structures[1]:
        kinds = " and ".join(sorted({type(tree).__name__ for tree in (a, b)}))
        raise UserError(f"the networks differ: expected trees of the same containers; found {kinds}")


def _kind(leaf: Any) -> str:
    """The shape; what doesn't move along a line is told from what does."""
    moves = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    return f"{np.shape(leaf)}" if moves else f"integers {np.shape(leaf)}"
