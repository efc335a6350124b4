"""Permutation specs, and the permutations of a network's parameters that follow one."""

import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.runtime import sharding
from llfc_jax.types import AnyArray, Array, Permutation, PRNGKey, PyTree

Positions: TypeAlias = range | tuple[int, ...]
"""Positions along an axis, ascending."""

Factors: TypeAlias = tuple[tuple[int, str | None], ...]
"""What an axis splits into, major to minor: size, and name of the permutation (None if it stays)."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Piece:
    """A block of an array, in which every permutation moves whole factors of an axis.

    Attributes:
        positions: for each axis of the array, where the block is along it.
        axes: for each axis of the array, what the block's splits into.
    """

    positions: tuple[Positions, ...]
    axes: tuple[Factors, ...]

    @cached_property
    def view(self) -> tuple[int, ...]:
        """The shape in which every permutation moves a whole axis."""
        return tuple(size for factors in self.axes for size, _ in factors)

    @cached_property
    def perms(self) -> tuple[str | None, ...]:
        """For each axis of the view, the name of the permutation that moves it; None if it stays."""
        return tuple(name for factors in self.axes for _, name in factors)

    @property
    def shape(self) -> tuple[int, ...]:
        """The block's own shape."""
        return tuple(map(len, self.positions))

    def moved_by(self, name: str, axis: int) -> tuple[int, ...]:
        """The axes of the view that a permutation moves, of those that one axis of the array is."""
        start = sum(map(len, self.axes[:axis]))
        return tuple(start + i for i, (_, moving) in enumerate(self.axes[axis]) if moving == name)

    def within(self, name: str) -> tuple[int, ...]:
        """The axes of the view that a permutation moves within, outermost first."""
        return tuple(self.perms.index(other) for other in around(name, self.perms))

    def of(self, array: AnyArray) -> AnyArray:
        """The block of an array, in its view."""
        block = array if array.shape == self.shape else array[self.index]
        return block.reshape(self.view)

    @property
    def index(self) -> tuple[Any, ...]:
        """What the array is indexed by to read or write the block."""
        return index_of(self.positions)


def index_of(positions: Sequence[Positions]) -> tuple[Any, ...]:
    """What an array is indexed by to read or write the block at some positions of each axis."""
    slices = [slice(own.start, own.stop, own.step) for own in positions if isinstance(own, range)]
    if len(slices) == len(positions):
        return tuple(slices)
    return np.ix_(*(np.asarray(own) for own in positions))


@dataclass(frozen=True)
class LeafSpec:
    """Which permutation moves which axis of one array.

    The array is viewed in a shape that splits each of its axes into factors: a dense kernel that reads a
    flattened (7, 7, 64) feature map has shape (3136, 512), view (7, 7, 64, 512). An array of which different
    permutations move different parts, such as a kernel that reads a concatenation, is cut into pieces.

    Attributes:
        view: the shape in which every permutation moves a whole axis; the array's own if it is cut.
        perms: for each axis of the view, the name of the permutation that moves it; None if it stays, or
            if the array is cut.
        shape: the array's own shape; the view if left out.
        cut: the pieces, which make up the array; none if it is not cut.
    """

    view: tuple[int, ...]
    perms: tuple[str | None, ...]
    shape: tuple[int, ...] = ()
    cut: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        if not self.shape:
            object.__setattr__(self, "shape", self.view)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The array as pieces: one, unless it is cut."""
        if self.cut:
            return self.cut
        return (Piece(tuple(range(size) for size in self.shape), self._axes()),)

    def places_moved_by(self, name: str) -> tuple[tuple[int, int], ...]:
        """The pieces of the array, and their axes, along which a permutation moves anything."""
        axes = range(len(self.shape))
        pieces = enumerate(self.pieces)
        return tuple((i, axis) for i, piece in pieces for axis in axes if piece.moved_by(name, axis))

    def _axes(self) -> tuple[Factors, ...]:
        remaining = list(zip(self.view, self.perms, strict=True))
        axes = []
        for size in self.shape:
            factors = [remaining.pop(0)]
            while math.prod(n for n, _ in factors) < size:
                factors.append(remaining.pop(0))
            axes.append(tuple(factors))
        return tuple(axes)


def made_of(shape: tuple[int, ...], pieces: tuple[Piece, ...]) -> LeafSpec:
    """The spec of an array of some shape that is cut into pieces, or not if there is but one."""
    if len(pieces) == 1:
        return LeafSpec(pieces[0].view, pieces[0].perms, shape)
    return LeafSpec(shape, (None,) * len(shape), shape, pieces)


@dataclass(frozen=True)
class PermutationSpec:
    """The permutation symmetries of a model: which permutation acts on which axis of which array.

    Hashable, so that it can be a static argument of a jitted function.

    Attributes:
        sizes: permutation name -> number of positions, in the order in which the model uses them. `P0/P1`
            moves within `P0`: at each position of it in another way, and with it.
        leaves: `jax.tree_util.keystr` path -> the permutations of that array, for every array.
        fixed: path -> for each axis of that array, what holds positions along it fixed: an operation and the
            line of the program that it is in, a constant, an input, an output. Empty where all can move.
        alike: path -> for each axis of that array, what looks the array up along others, for which units were
            taken to move alike at all positions along those: there may be more symmetries. Empty where none.
        exchangeable: paths of whole arrays that could be exchanged, each of a group with all of the others at
            once, as those of experts that are summed; permutations don't.
    """

    sizes: Mapping[str, int]
    leaves: Mapping[str, LeafSpec]
    fixed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    exchangeable: tuple[tuple[tuple[str, ...], ...], ...] = field(default=(), compare=False)

    def __hash__(self) -> int:
        return hash((frozenset(self.sizes.items()), frozenset(self.leaves.items())))


def readable_path(path: str) -> str:
    """Returns a `keystr` path as it is shown to people.

    Example:
        >>> readable_path("['params']['Dense_0']['kernel']")
        'params/Dense_0/kernel'
    """
    return re.sub(r"\['(.*?)'\]", r"/\1", path).strip("/")


def around(name: str, known: Container[str | None]) -> tuple[str, ...]:
    """Returns the permutations that another moves within, outermost first.

    Example:
        >>> around("P0/P2/P3", {"P0": 2, "P0/P2": 3, "P0/P2/P3": 4})
        ('P0', 'P0/P2')
    """
    if "/" not in name:  # as most are, and it is asked for often
        return ()
    parts = name.split("/")
    prefixes = ("/".join(parts[:i]) for i in range(1, len(parts)))
    return tuple(prefix for prefix in prefixes if prefix in known)


def shape_of_permutation(spec: PermutationSpec, name: str) -> tuple[int, ...]:
    """Returns the shape of a permutation's indices: its size, after those of what it moves within."""
    return tuple(spec.sizes[other] for other in (*around(name, spec.sizes), name))


def _check_permutation(spec: PermutationSpec, permutation: Permutation) -> None:
    for name in sorted(spec.sizes.keys() | permutation.keys()):
        expected = shape_of_permutation(spec, name) if name in spec.sizes else None
        found = jnp.shape(permutation[name]) if name in permutation else None
        if expected != (found[-len(expected) :] if found and expected else found):
            raise UserError(
                f"permutation {name}: expected {_shape(expected)} by the permutation spec, "
                f"found {_shape(found)}"
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
        permutation: name -> integer indices of shape (size,), for every permutation of the spec. Where one
            moves within others, of shape (their sizes, outermost first, size): for each new position of
            those, the old positions that its own come from.
        variables: the network's arrays, in the structure that the spec was made for.

    Returns:
        Variables of the same structure, shapes and dtypes that compute the same function.

    Raises:
        UserError: the variables or the permutation do not fit the spec.
    """
    check_fit(spec, variables)
    _check_permutation(spec, permutation)

    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(variables)}
    moving = [path for path in leaves if any(any(piece.perms) for piece in spec.leaves[path].pieces)]
    specs, old = tuple(spec.leaves[path] for path in moving), [leaves[path] for path in moving]
    move = _moved_on_host if sharding.on_host((permutation, old)) else _moved
    leaves |= zip(moving, move(specs, permutation, old), strict=True)
    return jax.tree.unflatten(jax.tree.structure(variables), leaves.values())


@partial(jax.jit, static_argnums=0, inline=True)
def _moved(specs: Sequence[LeafSpec], permutation: Permutation, leaves: Sequence[Array]) -> list[Array]:
    """One program for all leaves, where one of each shape would take long to compile."""
    return [moved_leaf(spec, permutation, leaf) for spec, leaf in zip(specs, leaves, strict=True)]


def _moved_on_host(
    specs: Sequence[LeafSpec], permutation: Permutation, leaves: Sequence[Array]
) -> list[Array]:
    """The same by NumPy, in less time than the program takes to compile."""
    indices = {name: np.asarray(own) for name, own in permutation.items()}
    moved = [np.array(leaf) for leaf in leaves]
    for spec, old, new in zip(specs, leaves, moved, strict=True):
        for piece in spec.pieces:
            new[piece.index] = permuted(piece.of(np.asarray(old)), piece.perms, indices).reshape(piece.shape)
    return [
        jax.device_put(new, old.sharding if isinstance(old, jax.Array) else None)
        for old, new in zip(leaves, moved, strict=True)
    ]


def moved_leaf(leaf_spec: LeafSpec, permutation: Permutation, leaf: Any) -> Any:
    """An array, permuted; what isn't in `permutation` stays."""
    moved = [piece for piece in leaf_spec.pieces if any(piece.perms)]
    if len(leaf_spec.pieces) == 1:
        return moved_piece(moved[0], permutation, leaf).reshape(leaf_spec.shape) if moved else leaf
    leaf = jnp.asarray(leaf)
    blocks = [moved_piece(piece, permutation, leaf).reshape(piece.shape) for piece in moved]
    for piece, block in zip(moved, blocks, strict=True):
        leaf = leaf.at[piece.index].set(block)
    return leaf


def moved_piece(piece: Piece, permutation: Permutation, leaf: Any) -> Array:
    """A piece of an array, in its view, permuted; what isn't in `permutation` stays."""
    return permuted(piece.of(jnp.asarray(leaf)), piece.perms, permutation)


def permuted(array: AnyArray, perms: Sequence[str | None], permutation: Mapping[str, AnyArray]) -> AnyArray:
    """An array each of whose axes is moved by one permutation; what isn't in `permutation` stays.

    An array of NumPy's, with a permutation of such, is permuted by NumPy, which has nothing to compile.
    """
    on_host = isinstance(array, np.ndarray)
    take: Any = np.take if on_host else jnp.take
    take_along_axis: Any = np.take_along_axis if on_host else partial(jnp.take_along_axis, mode="clip")
    for axis, name in sorted(enumerate(perms), key=lambda item: (item[1] or "").count("/")):
        if name is None or name not in permutation:
            continue
        indices = permutation[name]
        if indices.ndim == 1:
            array = take(array, indices, axis=axis, mode="clip")
            continue
        along = [*(perms.index(other) for other in around(name, permutation)), axis]
        order = sorted(range(len(along)), key=along.__getitem__)
        shape = [array.shape[i] if i in along else 1 for i in range(array.ndim)]
        array = take_along_axis(array, indices.transpose(order).reshape(shape), axis=axis)
    return array


def identity(spec: PermutationSpec) -> Permutation:
    """Returns the permutation that moves nothing: name -> int32 indices."""
    still = {
        name: np.broadcast_to(np.arange(size, dtype=np.int32), shape).copy()
        for name, size in spec.sizes.items()
        for shape in [shape_of_permutation(spec, name)]
    }
    return jax.device_put(still)


def random_permutation(key: PRNGKey, spec: PermutationSpec) -> Permutation:
    """Draws every permutation of the spec uniformly and independently: name -> int32 indices."""
    drawn = {}
    for i, (name, indices) in enumerate(identity(spec).items()):
        nested = indices.ndim > 1
        drawn[name] = jax.random.permutation(jax.random.fold_in(key, i), indices, axis=-1, independent=nested)
    return drawn


def inverse(permutation: Permutation) -> Permutation:
    """Returns the permutation that undoes this one.

    Example:
        >>> inverse({"P0": jnp.array([2, 0, 1])})["P0"].tolist()
        [1, 2, 0]
    """
    return _undone(permutation)


@jax.jit
def _undone(permutation: Permutation) -> Permutation:
    undone: Permutation = {}
    for name in sorted(permutation, key=lambda name: name.count("/")):
        outer = around(name, permutation)
        indices = permutation[name][_places(outer, undone)] if outer else permutation[name]
        undone[name] = jnp.argsort(indices, axis=-1).astype(jnp.int32)
    return {name: undone[name] for name in permutation}


def compose(p: Permutation, q: Permutation) -> Permutation:
    """Returns "p after q": permuting by it equals permuting by `q`, then by `p`.

    Example:
        >>> compose({"P0": jnp.array([1, 0, 2])}, {"P0": jnp.array([2, 0, 1])})["P0"].tolist()
        [0, 2, 1]
    """
    return _composed(p, {name: q[name] for name in p})


@jax.jit
def _composed(p: Permutation, q: Permutation) -> Permutation:
    return {name: q[name][_places((*around(name, p), name), p)] for name in p}


def _places(names: Sequence[str], permutation: Permutation) -> tuple[Array, ...]:
    """Where in the old order each position within others is, as indices for each of its axes."""
    depth = max(jnp.ndim(permutation[name]) for name in names)
    indices = (jnp.asarray(permutation[name]) for name in names)
    return tuple(index.reshape(index.shape + (1,) * (depth - index.ndim)) for index in indices)
