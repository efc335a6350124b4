"""How alike the positions of two networks are, and the assignment that is best for one permutation.

A permutation is assigned together with all that moves within it: heads with the inner axes of each. With `S`
the similarities of an inner axis, the value of giving B's head j to A's head i is that of the best assignment
within, so the outer assignment's matrix is `C[i, j] = own[i, j] + max_p sum_k S[i, j, k, p[k]]`.
"""

import string
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from llfc_jax.matching.leaves import Leaves
from llfc_jax.symmetry.spec import Piece, around, permuted
from llfc_jax.types import Array, Permutation

Solver = Callable[[Array], Array]
"""Matrices `(..., n, n)` -> the permutations `(..., n)` that maximise `sum_i C[i, p[i]]`."""


class Term(NamedTuple):
    """A piece of A and of B, in its view, as one permutation and what moves within it meet it.

    Attributes:
        a: A's.
        b: B's.
        chain: the axes that they move: of the permutation, of one within it, and so on.
        outer: the axes of what the permutation itself moves within, outermost first.
        perms: for each axis, its permutation.
    """

    a: Array
    b: Array
    chain: tuple[int, ...]
    outer: tuple[int, ...]
    perms: tuple[str | None, ...]

    @property
    def others(self) -> dict[int, str | None]:
        """Axis -> permutation (None if fixed), without those that are matched or counted over."""
        return {i: name for i, name in enumerate(self.perms) if i not in (*self.chain, *self.outer)}


def family(name: str, names: Collection[str]) -> tuple[str, ...]:
    """A permutation and all that moves within it."""
    return (name, *(other for other in names if name in around(other, names)))


def terms_of(
    name: str, names: Collection[str], pieces: Mapping[str, Piece], leaves_a: Leaves, leaves_b: Leaves
) -> dict[str, list[Term]]:
    """All that one permutation moves, by the innermost of its family that tells positions apart.

    What it alone moves is stacked: one matrix product for many thin arrays.
    """
    found: dict[str, list[Term]] = {member: [] for member in family(name, names)}
    alone: list[Term] = []
    for key, piece in pieces.items():
        for last, chain in _chains(name, piece.perms, found):
            outer = tuple(piece.perms.index(other) for other in around(name, names))
            term = Term(leaves_a[key], leaves_b[key], chain, outer, piece.perms)
            stackable = len(found) == 1 and not outer and not any(term.others.values())
            (alone if stackable else found[last]).append(term)
    if alone:
        found[name].insert(0, _stacked(name, alone))
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


def _stacked(name: str, terms: Sequence[Term]) -> Term:
    def stack(side: str) -> Array:
        rows = (jnp.moveaxis(getattr(term, side), term.chain[0], -1) for term in terms)
        return jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in rows])

    return Term(stack("a"), stack("b"), (1,), (), (None, name))


def similarity_of(term: Term, permutation: Permutation) -> Array:
    """`S[..., i, j, k, l, ...]`: what A has at i, and k within it, times what B has at j, and l within it.

    B's other axes are permuted; one whose permutation isn't in `permutation` counts as its average over all
    permutations. For each new position of what the permutation moves within, there is one such array.
    """
    a, b, dtype = term.a, term.b, accumulator(term.a, term.b)
    # What moves within what is matched has no place yet.
    matched_name = f"{term.perms[term.chain[0]]}/"
    permutation = {name: p for name, p in permutation.items() if not name.startswith(matched_name)}
    still = {i: name for i, name in enumerate(term.perms) if i not in term.chain}
    known = tuple(name if i in still and name in permutation else None for i, name in enumerate(term.perms))
    b = permuted(b, known, permutation)
    for axis, name in term.others.items():
        if name is not None and name not in permutation:
            a = a.sum(axis, keepdims=True, dtype=dtype)
            b = b.mean(axis, keepdims=True, dtype=dtype)
    letters = string.ascii_letters[: a.ndim]
    matched = dict(zip(term.chain, string.ascii_letters[a.ndim :], strict=False))
    of_b = "".join(matched.get(i, letter) for i, letter in enumerate(letters))
    out = "".join(letters[i] for i in term.outer) + "".join(letters[i] + matched[i] for i in term.chain)
    return jnp.einsum(
        f"{letters},{of_b}->{out}", a, b, precision=lax.Precision.HIGHEST, preferred_element_type=dtype
    )


def similarities(terms: Mapping[str, Sequence[Term]], permutation: Permutation) -> dict[str, Array]:
    """The sum of the similarities for each member of a family that has any."""
    products = {
        member: [similarity_of(term, permutation) for term in found] for member, found in terms.items()
    }
    return {member: sum(found[1:], start=found[0]) for member, found in products.items() if found}


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
    value = jnp.take_along_axis(cost, best[..., None], axis=-1)[..., 0].sum(-1)
    axis = best.ndim
    chosen = {
        child: jnp.take_along_axis(
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
    return jnp.where(allowed, cost, cost.min((-2, -1), keepdims=True) - cost.shape[-1] * span - 1)


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
    """A matrix of positions that are counted by several axes, as `(i, j, k, l, ...)`.

    Args:
        similarity: `(m, m)`, m the product of `sizes`: A's positions, B's positions.
        sizes: of what a permutation moves within, outermost first, and its own.
    """
    levels = len(sizes)
    order = [side * levels + level for level in range(levels) for side in range(2)]
    return jnp.transpose(similarity.reshape((*sizes, *sizes)), order)


def at_assigned(similarity: Array, names: Sequence[str], permutation: Permutation) -> Array:
    """`S[i, p[i], k, q[i, k], ...]` of permutations q within p, from similarities by level.

    Args:
        similarity: `(i, j, k, l, ..., further)`.
        names: of the permutations, outermost first; of none, all similarities are returned.
        permutation: their indices, and others'.
    """
    index: list[Array] = []
    shape = permutation[names[-1]].shape if names else ()
    for level, member in enumerate(names):
        own = jnp.arange(shape[level]).reshape((-1,) + (1,) * (len(shape) - level - 1))
        index += [own, permutation[member].reshape(shape[: level + 1] + (1,) * (len(shape) - level - 1))]
    return similarity[tuple(index)]


def inner_product(a: Array, b: Array, piece: Piece, permutation: Permutation) -> Array:
    """`<A, pi(B)>` of one piece."""
    return jnp.sum(a * permuted(b, piece.perms, permutation), dtype=accumulator(a, b))


def accumulator(a: Array, b: Array) -> jnp.dtype:
    """What sums of products are made in."""
    return jnp.promote_types(jnp.result_type(a, b), jnp.float32)
