"""Sums of parts: an axis taken apart into them, and cut into more."""

from dataclasses import dataclass

import numpy as np

from llfc_jax.symmetry.factors import (
    Axis,
    Cases,
    Factor,
    Product,
    Reason,
    Sum,
    resolve,
    restrict,
    size_of,
    sum_axis,
)


@dataclass(frozen=True, eq=False)
class Term:
    """A part of an axis that is a product of factors which are no sums.

    Attributes:
        choices: the sums on the way and the piece taken of each.
        positions: its positions in the axis, ascending.
        axis: its factors.
    """

    choices: tuple[tuple[Factor, int], ...]
    positions: np.ndarray
    axis: Axis


def terms(axis: Axis) -> list[Term]:
    """Returns the terms whose sum an axis is: (a + b) c = a c + b c, c (a + b) = c a + c b.

    What is another axis for each piece of a sum, major or minor to it, is the one for the piece taken.
    """
    if not axis:
        return [Term((), np.zeros(1, np.int64), ())]
    head, rest = resolve(axis[0]), axis[1:]
    inner = size_of(rest)
    match head.split:
        case Product(parts):
            return terms(parts + rest)
        case Sum(positions, pieces):
            found = []
            for i, (own, piece) in enumerate(zip(positions, pieces, strict=True)):
                for term in terms(piece + restrict(rest, head, i)):
                    major, minor = np.divmod(term.positions, inner)
                    found.append(Term(((head, i), *term.choices), own[major] * inner + minor, term.axis))
            return found
    found = []
    for term in terms(rest):
        heads: Axis = (head,)
        for of, taken in term.choices:
            heads = restrict(heads, of.root(), taken)
        rows = np.arange(head.size)[:, None] * inner
        positions = (rows + term.positions).ravel()
        if heads == (head,):
            found.append(Term(term.choices, positions, (head, *term.axis)))
            continue
        for part in terms(heads + term.axis):
            found.append(Term((*term.choices, *part.choices), positions[part.positions], part.axis))
    return found


def refine(axis: Axis, labels: np.ndarray, why: Reason) -> None:
    """Cuts an axis so that positions with different labels are in different terms."""
    if not axis or (labels == labels[0]).all():
        return None
    head, rest = resolve(axis[0]), axis[1:]
    match head.split:
        case Product(parts):
            return refine(parts + rest, labels, why)
        case Sum(positions, pieces):
            rows = labels.reshape(head.size, -1)
            for i, (own, piece) in enumerate(zip(positions, pieces, strict=True)):
                refine(piece + restrict(rest, head, i), rows[own].ravel(), why)
            return None
    rows = labels.reshape(head.size, -1)
    distinct, kinds = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) == 1:
        return refine(rest, rows[0], why)
    cut(head, kinds.reshape(-1), why)
    return refine(axis, labels, why)


def cut(factor: Factor, labels: np.ndarray, why: Reason) -> None:
    """Turns an unsplit factor or cases into the sum of the sets of positions with equal labels."""
    positions = tuple(np.flatnonzero(labels == label) for label in np.unique(labels))
    match factor.split:
        case Cases(of, axes):
            for axis in axes:
                refine(axis, labels, why)
            pieces = []
            for own in positions:
                parts = tuple(select(axis, own) for axis in axes)
                split = Cases(of, parts)
                pieces.append((Factor(len(own), split=split),) if len(own) > 1 else ())
        case None:
            pieces = [
                (Factor(len(own), factor.fixed, within=list(factor.within)),) if len(own) > 1 else ()
                for own in positions
            ]
    factor.split = Sum(positions, tuple(pieces), why)


def select(axis: Axis, positions: np.ndarray) -> Axis:
    """Returns the axis along some positions, ascending, of one that has been refined by them."""
    kept = [term for term in terms(axis) if np.isin(term.positions[0], positions)]
    return sum_axis(len(positions), ((np.searchsorted(positions, t.positions), t.axis) for t in kept))
