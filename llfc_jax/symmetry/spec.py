"""Permutation specs, and the permutations of a network's parameters that follow one."""

import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.types import Permutation, PRNGKey, PyTree


@dataclass(frozen=True)
class LeafSpec:
    """Which permutation moves which axis of one array.

    The array is viewed in a shape that splits each of its axes into factors: a dense kernel that reads a
    flattened (7, 7, 64) feature map has shape (3136, 512), view (7, 7, 64, 512).

    Attributes:
        view: the shape in which every permutation moves a whole axis.
        perms: for each axis of the view, the name of the permutation that moves it; None if it stays.
        shape: the array's own shape; the view if left out.
    """

    view: tuple[int, ...]
    perms: tuple[str | None, ...]
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", self.view)


@dataclass(frozen=True)
class PermutationSpec:
    """The permutation symmetries of a model: which permutation acts on which axis of which array.

    Hashable, so that it can be a static argument of a jitted function.

    Attributes:
        sizes: permutation name -> number of positions, in the order in which the model uses them.
        leaves: `jax.tree_util.keystr` path -> the permutations of that array, for every array.
    """

    sizes: Mapping[str, int]
    leaves: Mapping[str, LeafSpec]

    def __hash__(self) -> int:
        return hash((frozenset(self.sizes.items()), frozenset(self.leaves.items())))


def readable_path(path: str) -> str:
    """Returns a `keystr` path as it is shown to people.

    Example:
        >>> readable_path("['params']['Dense_0']['kernel']")
        'params/Dense_0/kernel'
    """
    return re.sub(r"\['(.*?)'\]", r"/\1", path).strip("/")


def _check_permutation(spec: PermutationSpec, permutation: Permutation) -> None:
    found = {name: jnp.shape(indices)[-1:] for name, indices in permutation.items()}
    for name in sorted(spec.sizes.keys() | found.keys()):
        expected = (spec.sizes[name],) if name in spec.sizes else None
        if expected != found.get(name):
            raise UserError(
                f"permutation {name}: expected {_shape(expected)} by the permutation spec, "
                f"found {_shape(found.get(name))}"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"shape {shape}"


def check_fit(spec: PermutationSpec, variables: PyTree) -> None:
    """Checks that a spec was made for arrays of these names and shapes.

    Raises:
        UserError: names the first array that differs, the shape expected and the shape found.
    """
    found = {
        jax.tree_util.keystr(path): jnp.shape(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]
    }
    for path in [*spec.leaves, *found]:
        expected = spec.leaves[path].shape if path in spec.leaves else None
        if expected != found.get(path):
            raise UserError(
                f"{readable_path(path)}: expected {_shape(expected)} by the permutation spec, "
                f"found {_shape(found.get(path))}"
            )


def apply_permutation(spec: PermutationSpec, permutation: Permutation, variables: PyTree) -> PyTree:
    """Permutes a network's units: along each axis moved by permutation `p`, new = old[p].

    Can be jitted (with `spec` static or closed over), differentiated in `variables`, and vmapped.

    Args:
        spec: the model's symmetries.
        permutation: name -> integer indices of shape (size,), for every permutation of the spec.
        variables: the network's arrays, in the structure that the spec was made for.

    Returns:
        Variables of the same structure, shapes and dtypes that compute the same function.

    Raises:
        UserError: the variables or the permutation do not fit the spec.
    """
    check_fit(spec, variables)
    _check_permutation(spec, permutation)

    def permute(path: Any, leaf: Any) -> Any:
        leaf_spec = spec.leaves[jax.tree_util.keystr(path)]
        if not any(leaf_spec.perms):
            return leaf
        moved = jnp.reshape(leaf, leaf_spec.view)
        for axis, name in enumerate(leaf_spec.perms):
            if name is not None:
                moved = jnp.take(moved, permutation[name], axis=axis)
        return moved.reshape(leaf_spec.shape)

    return jax.tree_util.tree_map_with_path(permute, variables)


def identity(spec: PermutationSpec) -> Permutation:
    """Returns the permutation that moves nothing: name -> int32 (size,)."""
    return {name: jnp.arange(size, dtype=jnp.int32) for name, size in spec.sizes.items()}


def random_permutation(key: PRNGKey, spec: PermutationSpec) -> Permutation:
    """Draws every permutation of the spec uniformly and independently: name -> int32 (size,)."""
    return {
        name: jax.random.permutation(jax.random.fold_in(key, i), jnp.arange(size, dtype=jnp.int32))
        for i, (name, size) in enumerate(spec.sizes.items())
    }


def inverse(permutation: Permutation) -> Permutation:
    """Returns the permutation that undoes this one.

    Example:
        >>> inverse({"P0": jnp.array([2, 0, 1])})["P0"].tolist()
        [1, 2, 0]
    """
    return {name: jnp.argsort(indices).astype(jnp.int32) for name, indices in permutation.items()}


def compose(p: Permutation, q: Permutation) -> Permutation:
    """Returns "p after q": permuting by it equals permuting by `q`, then by `p`.

    Example:
        >>> compose({"P0": jnp.array([1, 0, 2])}, {"P0": jnp.array([2, 0, 1])})["P0"].tolist()
        [0, 2, 1]
    """
    return {name: jnp.asarray(q[name])[indices] for name, indices in p.items()}


def _factors_by_axis(leaf: LeafSpec) -> list[list[tuple[int, str | None]]]:
    """Returns, for each axis of the array, (size, permutation) of the view's axes that it splits into."""
    remaining = list(zip(leaf.view, leaf.perms, strict=True))
    axes = []
    for size in leaf.shape:
        factors = [remaining.pop(0)]
        while math.prod(n for n, _ in factors) < size:
            factors.append(remaining.pop(0))
        axes.append(factors)
    return axes


def _moved_axes(path: str, leaf: LeafSpec, name: str) -> list[str]:
    labels = []
    for axis, factors in enumerate(_factors_by_axis(leaf)):
        if any(perm == name for _, perm in factors):
            split = "·".join(f"({size})" if perm == name else str(size) for size, perm in factors)
            labels.append(
                f"{readable_path(path)}[{axis}]"
                if len(factors) == 1
                else f"{readable_path(path)}[{axis}:{split}]"
            )
    return labels


def describe(spec: PermutationSpec) -> str:
    """Returns the symmetries as text: each permutation, its size, the array axes it moves.

    `Dense_0/kernel[0:7·7·(64)]` says that axis 0 has the factors 7·7·64 and that the last of them is moved.

    Example:
        >>> print(describe(PermutationSpec({"P0": 4}, {"['w']": LeafSpec((3, 4), (None, "P0"))})))
        1 permutation
        P0 (4): w[1]
    """
    if not spec.sizes:
        return "no permutation symmetry: every axis is fixed"
    lines = [f"{len(spec.sizes)} permutation{'s' if len(spec.sizes) > 1 else ''}"]
    for name, size in spec.sizes.items():
        moved = [label for path, leaf in spec.leaves.items() for label in _moved_axes(path, leaf, name)]
        lines += textwrap.wrap(
            f"{name} ({size}): {', '.join(moved)}",
            width=100,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
