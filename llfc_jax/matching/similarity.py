"""How alike the positions of two networks are, and the assignment that is best for one permutation.

A permutation is assigned together with all that moves within it: heads with the inner axes of each. With `S`
the similarities of an inner axis, the value of giving B's head j to A's head i is that of the best assignment
within, so the outer assignment's matrix is `C[i, j] = own[i, j] + max_p sum_k S[i, j, k, p[k]]`.

Arrays are JAX's, or all NumPy's, which the host computes with and compiles nothing.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from llfc_jax.matching.leaves import Leaves
from llfc_jax.symmetry.spec import Piece, around, permuted
from llfc_jax.types import AnyArray, Array, Permutation

Solver = Callable[[AnyArray], AnyArray]
"""Matrices `(..., n, n)` -> the permutations `(..., n)` that maximise `sum_i C[i, p[i]]`."""


@partial(jax.tree_util.register_dataclass, data_fields=("a", "b"), meta_fields=("chain", "outer", "perms"))
@dataclass(frozen=True, eq=False)
class Term:
    """A piece of A and of B, in its view, as one permutation and what moves within it meet it.

    Attributes:
        a: A's.
        b: B's.
        chain: the axes that they move: of the permutation, of one within it, and so on.
        outer: the axes of what the permutation itself moves within, outermost first.
        perms: for each axis, its permutation.
    """

    a: AnyArray
    b: AnyArray
    chain: tuple[int, ...]
    outer: tuple[int, ...]
    perms: tuple[str | None, ...]

    @cached_property
    def others(self) -> dict[int, str | None]:
        """Axis -> permutation (None if fixed), without those that are matched or counted over."""
        return {i: name for i, name in enumerate(self.perms) if i not in (*self.chain, *self.outer)}

    @cached_property
    def is_settled(self) -> bool:
        """Whether no other permutation changes what is alike."""
        return not self.outer and not any(self.others.values())

    def as_matrices(self, array: Array) -> Array:
        """`(outer..., all others, matched positions)`: an array of this form."""
        lengths = [array.shape[i] for i in self._order]
        outer, others = len(self.outer), array.ndim - len(self.chain)
        shape = (*lengths[:outer], *(math.prod(part) for part in (lengths[outer:others], lengths[others:])))
        return array.transpose(self._order).reshape(shape)

    @cached_property
    def _order(self) -> tuple[int, ...]:
        return (*self.outer, *self.others, *self.chain)


def family(name: str, names: Collection[str]) -> tuple[str, ...]:
    """A permutation and all that moves within it."""
    return (name, *(other for other in names if name in around(other, names)))


def terms_of(
    name: str, names: Collection[str], pieces: Mapping[str, Piece], leaves_a: Leaves, leaves_b: Leaves
) -> dict[str, list[Term]]:
    """All that one permutation moves, by the innermost of its family that tells positions apart."""
    found: dict[str, list[Term]] = {member: [] for member in family(name, names)}
    for key, piece in pieces.items():
        for last, chain in _chains(name, piece.perms, found):
            outer = tuple(piece.perms.index(other) for other in around(name, names))
            found[last].append(Term(leaves_a[key], leaves_b[key], chain, outer, piece.perms))
    return found


def _chains(
    name: str, perms: tuple[str | None, ...], members: Collection[str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """For each axis that `name` moves and each innermost member there, the axes from one to the other."""
    for axis, moving in enumerate(perms):
        if moving != name:
            continue
        present = [member for member in members if member in perms]
        for last in present:
            if not any(last in around(other, members) for other in present):
                inner = (*around(last, members), last) if last != name else (name,)
                yield last, (axis, *(perms.index(other) for other in inner[1:]))


def similarity_of(term: Term, permutation: Permutation) -> Array:
    """`S[..., i, j, k, l, ...]`: what A has at i, and k within it, times what B has at j, and l within it.

    B's other axes are permuted; one whose permutation isn't in `permutation` counts as its average over all
    permutations. For each new position of what the permutation moves within, there is one such array.
    """
    a, b = term.a, term.b
    # What moves within what is matched has no place yet.
    matched = f"{term.perms[term.chain[0]]}/"
    permutation = {name: p for name, p in permutation.items() if not name.startswith(matched)}
    still = {i: name for i, name in enumerate(term.perms) if i not in term.chain}
    known = tuple(name if i in still and name in permutation else None for i, name in enumerate(term.perms))
    b = permuted(b, known, permutation)
    for axis, name in term.others.items():
        if name is not None and name not in permutation:
            a = a.sum(axis, keepdims=True, dtype=accumulator(a, b))
            b = b.mean(axis, keepdims=True, dtype=accumulator(a, b))
    return by_level(_contracted(term, a, b), [a.shape[i] for i in term.chain])


def _contracted(term: Term, a: Array, b: Array) -> Array:
    """`(outer..., m, m)`: all pairs of matched positions, summed over the other axes."""
    first = term.chain[0]
    size, behind = a.shape[first], math.prod(a.shape[first + 1 :])
    if isinstance(a, np.ndarray) and len(term.chain) == 1 and not term.outer and behind >= size:
        # No axis has to be moved, which takes as long as a quarter of the products.
        x, y = (array.reshape(-1, size, behind) for array in (a, b))
        return _product(x, y.mT).sum(0)
    return _product(term.as_matrices(a).mT, term.as_matrices(b))


def _product(x: Array, y: Array) -> Array:
    if isinstance(x, np.ndarray):
        return x @ y
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST, preferred_element_type=accumulator(x, y))


def similarities(
    terms: Mapping[str, Sequence[Term]], permutation: Permutation, settled: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """The sum of the similarities for each member of a family that has any, with what is settled of it."""
    found: dict[str, Array] = {**(settled or {})}
    for member, own in terms.items():
        for term in _stacked(own):
            similarity = similarity_of(term, permutation)
            found[member] = found[member] + similarity if member in found else similarity
    return found


def _stacked(terms: Sequence[Term]) -> list[Term]:
    """Terms, those that one permutation alone moves as one: a single matrix product for many thin arrays."""
    alone = [term for term in terms if term.is_settled and len(term.chain) == 1]
    if len(alone) < 2:
        return [*terms]

    def stack(side: str) -> Array:
        columns = [term.as_matrices(getattr(term, side)) for term in alone]
        return columns[0].__array_namespace__().concatenate(columns)

    name = alone[0].perms[alone[0].chain[0]]
    return [Term(stack("a"), stack("b"), (1,), (), (None, name)), *(t for t in terms if t not in alone)]


def assigned(
    name: str,
    names: Collection[str],
    similarity: Mapping[str, Array],
    solve: Solver,
    allowed: Mapping[str, Array] | None = None,
) -> tuple[Permutation, Array]:
    """The best assignment of a permutation and of all that moves within it, and its value.

    Args:
        name: the permutation.
        names: all permutations.
        similarity: for members of its family, `(..., i, j, k, l, ...)`.
        solve: solves one assignment.
        allowed: for members of its family, `(..., i, j, k, l, ...)` bool: what may be assigned to what, of
            which at least one assignment is made; all where left out.
    """
    cost, inside = _costs(name, names, similarity, solve, allowed)
    best = solve(_kept(cost, allowed[name]) if allowed and name in allowed else cost)
    take_along_axis = cost.__array_namespace__().take_along_axis
    value = take_along_axis(cost, best[..., None], axis=-1)[..., 0].sum(-1)
    axis = best.ndim
    chosen = {
        child: take_along_axis(
            indices, best.reshape(best.shape + (1,) * (indices.ndim - axis)), axis=axis
        ).squeeze(axis)
        for child, indices in inside.items()
    }
    return {name: best, **chosen}, value


def _costs(
    name: str,
    names: Collection[str],
    similarity: Mapping[str, Array],
    solve: Solver,
    allowed: Mapping[str, Array] | None,
) -> tuple[Array, Permutation]:
    """The similarity of positions with the best assignment within each pair, and these assignments."""
    inside: Permutation = {}
    cost = similarity.get(name)
    for child in _children(name, names, similarity):
        found, value = assigned(child, names, similarity, solve, allowed)
        inside |= found
        cost = value if cost is None else cost + value
    assert cost is not None, "a permutation that moves nothing"
    return cost, inside


def _children(name: str, names: Collection[str], similarity: Mapping[str, Array]) -> list[str]:
    """What moves directly within a permutation and can be told apart."""
    return [
        child
        for child in family(name, names)[1:]
        if around(child, names)[-1] == name and {*family(child, names)} & similarity.keys()
    ]


def _kept(cost: Array, allowed: Array) -> Array:
    """A matrix by which no assignment is better than one that is allowed, where there is one."""
    span = cost.max((-2, -1), keepdims=True) - cost.min((-2, -1), keepdims=True)
    return cost.__array_namespace__().where(
        allowed, cost, cost.min((-2, -1), keepdims=True) - cost.shape[-1] * span - 1
    )


def undecided(
    name: str, names: Collection[str], similarity: Mapping[str, Array], solve: Solver
) -> dict[str, Array]:
    """Which pairs are as good as those of the best assignment, for a permutation and what moves within it.

    Those are pairs no less similar, beyond rounding, than either of them is to what it is assigned to. Units
    that are dead, constant or duplicates are told apart by nothing else.

    Returns:
        For members of its family, `(..., i, j, k, l, ...)` bool; true for all pairs of the best assignment.
    """
    cost, _ = _costs(name, names, similarity, solve, None)
    best = solve(cost)
    by_row = jnp.take_along_axis(cost, best[..., None], axis=-1)
    by_column = jnp.take_along_axis(by_row[..., 0], jnp.argsort(best, -1), axis=-1)[..., None, :]
    rounding = _ROUNDING * jnp.abs(cost).max((-2, -1), keepdims=True)
    found = {name: cost >= jnp.maximum(by_row, by_column) - rounding}
    for child in _children(name, names, similarity):
        found |= undecided(child, names, similarity, solve)
    return found


_ROUNDING = 1e-4
"""Of the largest similarity: what rounding may tell apart in sums over many samples."""


def by_level(similarity: Array, sizes: Sequence[int]) -> Array:
    """Matrices of positions that are counted by several axes, as `(..., i, j, k, l, ...)`.

    Args:
        similarity: `(..., m, m)`, m the product of `sizes`: A's positions, B's positions.
        sizes: of what a permutation moves within, outermost first, and its own.
    """
    *outer, _, _ = similarity.shape
    levels = range(len(sizes))
    order = [len(outer) + side * len(sizes) + level for level in levels for side in range(2)]
    return similarity.reshape(*outer, *sizes, *sizes).transpose(*range(len(outer)), *order)


def at_assigned(similarity: Array, names: Sequence[str], permutation: Permutation) -> Array:
    """`S[i, p[i], k, q[i, k], ...]` of permutations q within p, from similarities by level.

    Args:
        similarity: `(i, j, k, l, ..., further)`.
        names: of the permutations, outermost first; of none, all similarities are returned.
        permutation: their indices, and others'.
    """
    index: list[AnyArray] = []
    shape = permutation[names[-1]].shape if names else ()
    for level, member in enumerate(names):
        own = np.arange(shape[level]).reshape((-1,) + (1,) * (len(shape) - level - 1))
        index += [own, permutation[member].reshape(shape[: level + 1] + (1,) * (len(shape) - level - 1))]
    return similarity[tuple(index)]


def inner_product(a: Array, b: Array, perms: Sequence[str | None], permutation: Permutation) -> Array:
    """`<A, pi(B)>` of one piece, whose axes `perms` move."""
    b = permuted(b, perms, permutation)
    products = np.vecdot(a, b) if isinstance(a, np.ndarray) and a.ndim else a * b
    return products.sum(dtype=accumulator(a, b))


def accumulator(a: Array, b: Array) -> np.dtype:
    """What sums of products are made in."""
    return _at_least_single(a.dtype, b.dtype)


@cache
def _at_least_single(*dtypes: np.dtype) -> np.dtype:
    return jnp.result_type(*dtypes, jnp.float32)
