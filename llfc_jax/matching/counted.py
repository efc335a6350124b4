"""Similarities that the host keeps: of what others have moved since, only that is multiplied again.

A visit's similarities are sums over all positions of the other axes. Late in a search few of these have moved
since the visit before, and a product of those alone, new less old, brings the sum up to date.
"""

import math
from typing import NamedTuple

import numpy as np

from llfc_jax.matching.similarity import Term, by_level, similarity_of
from llfc_jax.symmetry.spec import permuted
from llfc_jax.types import AnyArray, Permutation


class Counted(NamedTuple):
    """A term that a sum of similarities holds.

    Attributes:
        term: the arrays.
        places: for each position of the axes that aren't matched, A's, the one of B's that it met.
    """

    term: Term
    places: np.ndarray


def can_be_counted(term: Term, permutation: Permutation) -> bool:
    """Whether all that it meets is known, and the same wherever it is met."""
    within = f"{term.perms[term.chain[0]]}/"
    met = [name for name in term.others.values() if name is not None]
    return not term.outer and all(name in permutation and not name.startswith(within) for name in met)


def counted(term: Term, permutation: Permutation) -> tuple[Counted, AnyArray]:
    """The term, counted, and its similarities by level."""
    return Counted(term, _places(term, permutation)), similarity_of(term, permutation)


def recounted(known: Counted, permutation: Permutation, similarity: AnyArray) -> tuple[Counted, AnyArray]:
    """The term where others are now, and the similarities that hold it."""
    term, before = known
    places = _places(term, permutation)
    moved = np.flatnonzero(places != before)
    if not moved.size:
        return known, similarity
    a = _rows(term, term.a, moved)
    b = _rows(term, term.b, places[moved]) - _rows(term, term.b, before[moved])
    return Counted(term, places), similarity + by_level(a.T @ b, [term.a.shape[i] for i in term.chain])


def _places(term: Term, permutation: Permutation) -> np.ndarray:
    shape = [term.a.shape[i] for i in term.others]
    still = np.arange(math.prod(shape)).reshape(shape)
    return permuted(still, tuple(term.others.values()), permutation).ravel()


def _rows(term: Term, array: AnyArray, places: np.ndarray) -> np.ndarray:
    """`(places, matched positions)`."""
    others = [array.shape[i] for i in term.others]
    rows = array.transpose(*term.others, *term.chain)[np.unravel_index(places, others)]
    return rows.reshape(len(places), -1)
