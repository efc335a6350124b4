"""The arrays that a matcher compares, and checks on them."""

import string
from collections.abc import Collection, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.runtime import sharding
from llfc_jax.symmetry import PermutationSpec, Piece, readable_path
from llfc_jax.types import Array, Params, PyTree, Variables

Leaves: TypeAlias = dict[str, Array]
"""`jax.tree_util.keystr` path -> array."""


def matched_leaves(
    spec: PermutationSpec, params_a: Params, params_b: Params, exclude: tuple[str, ...]
) -> tuple[Leaves, Leaves]:
    """The floating-point and complex leaves of A and of B, by path, without running statistics.

    Those are the collections to exclude in Linen's trees, and the `BatchStat`s in NNX's.

    Raises:
        UserError: the trees differ, the spec doesn't fit them, or a number is not finite.
    """
    flat_a, flat_b = map(by_path, (params_a, params_b))
    for path in flat_a | flat_b:
        shape_a, shape_b = (
            f"shape {flat[path].shape}" if path in flat else "nothing" for flat in (flat_a, flat_b)
        )
        if shape_a != shape_b:
            raise UserError(f"{readable_path(path)}: A and B differ, A has {shape_a}, B has {shape_b}")
    excluded = (*(f"['{collection}']" for collection in exclude), *_batch_stats(params_a))
    leaves_a, leaves_b = {}, {}
    for path in (path for path in {**spec.leaves, **flat_a} if not path.startswith(excluded)):
        expected, found = (
            f"shape {x[path].shape}" if path in x else "nothing" for x in (spec.leaves, flat_a)
        )
        if expected != found:
            raise UserError(
                f"{readable_path(path)}: expected {expected} by the permutation spec, found {found}"
            )
        if not jnp.issubdtype(flat_a[path].dtype, jnp.inexact):
            continue
        leaves_a[path], leaves_b[path] = flat_a[path], flat_b[path]
    check_finite(leaves_a, "A")
    check_finite(leaves_b, "B")
    return leaves_a, leaves_b


def cut_up(spec: PermutationSpec, leaves: Leaves) -> tuple[dict[str, Piece], Leaves]:
    """The pieces of leaves, and each of them as an array, in its view.

    By the path, with a number behind it where a leaf is cut. A complex number counts as its two parts, so
    that <A, B> is Re sum A conj(B).
    """
    pieces, arrays = {}, {}
    for path, leaf in leaves.items():
        for i, piece in enumerate(spec.leaves[path].pieces):
            name = f"{path}#{i}" if spec.leaves[path].cut else path
            pieces[name], arrays[name] = piece, piece.of(leaf)
            if jnp.iscomplexobj(leaf):
                parts = leaf.__array_namespace__().stack((arrays[name].real, arrays[name].imag), -1)
                pieces[name] = Piece((*piece.positions, range(2)), (*piece.axes, ((2, None),)))
                arrays[name] = parts
    return pieces, arrays


def _batch_stats(tree: PyTree) -> list[str]:
    """Where an NNX state has running statistics; told by their type's name, as importing NNX takes long."""

    def is_one(node: PyTree) -> bool:
        return any(kind.__name__ == "BatchStat" for kind in type(node).__mro__)

    nodes = jax.tree.leaves_with_path(tree, is_leaf=is_one)
    return [jax.tree_util.keystr(path) for path, node in nodes if is_one(node)]


def by_path(tree: PyTree) -> Leaves:
    """All arrays of a tree."""
    # jnp.asarray would compile a program for each shape.
    return {
        jax.tree_util.keystr(path): leaf if isinstance(leaf, jax.Array) else jax.device_put(np.asarray(leaf))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def selected(variables: Variables, paths: Collection[str]) -> Leaves:
    """The arrays at `paths`, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if jax.tree_util.keystr(path) in paths}


def replaced(variables: Variables, leaves: Leaves) -> Variables:
    """Variables with `leaves` in the place of theirs."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaves.get(jax.tree_util.keystr(path), leaf), variables
    )


def check_all_finite(networks: Sequence[Params]) -> None:
    """`check_finite` of each, which are called A, B, ..., Z, network 27, ...

    Raises:
        UserError: see there.
    """
    for number, network in enumerate(networks):
        letter = string.ascii_uppercase[number : number + 1]
        check_finite(by_path(network), letter or f"network {number + 1}")


def check_finite(leaves: Leaves, name: str) -> None:
    """Checks the floating-point and complex arrays of a network called `name`.

    Raises:
        UserError: names the first array that holds NaN or infinity.
    """
    floats = {path: leaf for path, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    for path, leaf in sharding.fetch(floats).items():  # a program for it took 2 CPU-seconds to compile
        if not np.isfinite(leaf).all():
            raise UserError(
                f"{readable_path(path)}: expected finite numbers, found NaN or infinity in {name}"
            )
