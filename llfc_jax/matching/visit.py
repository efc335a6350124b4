"""One visit of coordinate descent: the best choice for a permutation, and what moves within it, others held.

The host, where the networks are on it, computes a visit by NumPy: the matrix products are few, and compiling
them takes longer than a search. Elsewhere a visit is one compiled program, which serves all permutations that
meet arrays of the same shapes in the same way; so it knows permutations by names that count them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.matching.assignment import host_assignment, linear_assignment
from llfc_jax.matching.counted import Counted, can_be_counted, counted, recounted
from llfc_jax.matching.leaves import Leaves, cut_up
from llfc_jax.matching.similarity import (
    Term,
    accumulator,
    assigned,
    at_assigned,
    family,
    inner_product,
    similarities,
    terms_of,
)
from llfc_jax.runtime import sharding
from llfc_jax.symmetry import Piece
from llfc_jax.symmetry.spec import around
from llfc_jax.types import AnyArray, Array, Permutation


@partial(jax.tree_util.register_dataclass, data_fields=("a", "b"), meta_fields=("perms",))
@dataclass(frozen=True, eq=False)
class Touched:
    """A piece of A and of B that a visit changes."""

    a: AnyArray
    b: AnyArray
    perms: tuple[str | None, ...]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("terms", "settled", "touched", "counted"),
    meta_fields=("name", "names"),
)
@dataclass(frozen=True, eq=False)
class Visit:
    """What a permutation is chosen by.

    Attributes:
        name: of the permutation.
        names: of it and of all that it meets.
        terms: where others change what is alike, without those that are counted.
        settled: the similarities that no other changes, and of what is counted.
        touched: all that the permutation moves, where the value of an assignment isn't by how much the
            objective grows: where it moves several axes of an array, or moves within others, or others in it.
        counted: what others can change of `settled`; on the host alone.
    """

    name: str
    names: tuple[str, ...]
    terms: dict[str, list[Term]]
    settled: dict[str, Array]
    touched: list[Touched]
    counted: dict[str, list[Counted]] = field(default_factory=dict)


class Met(NamedTuple):
    """A visit, and what the permutations that it knows are called in the network."""

    visit: Visit
    names: tuple[str, ...]

    def known(self, of_all: Mapping[str, Array]) -> dict[str, Array]:
        """What there is of each permutation, by the visit's names."""
        pairs = zip(self.visit.names, self.names, strict=True)
        return {short: of_all[name] for short, name in pairs if name in of_all}

    def at(self, permutation: Permutation, compute: "Computing") -> "Met":
        """The visit, others being where they are."""
        return self._replace(visit=compute.up_to_date(self.visit, self.known(permutation)))

    def named(self, own: Mapping[str, Array]) -> dict[str, Array]:
        """The reverse."""
        return {self.names[self.visit.names.index(short)]: found for short, found in own.items()}


def visit_of(
    name: str,
    names: Sequence[str],
    pieces: Mapping[str, Piece],
    leaves_a: Leaves,
    leaves_b: Leaves,
    compute: "Computing",
) -> Met:
    """The visit of one permutation.

    Args:
        name: of the permutation.
        names: of all.
        pieces: of the leaves, as they were cut up.
        leaves_a: A's.
        leaves_b: B's.
        compute: what is settled.
    """
    terms = terms_of(name, names, pieces, leaves_a, leaves_b)
    moved = {key: piece.perms for key, piece in pieces.items() if {*piece.perms} & {*terms}}
    others = (other for perms in moved.values() for other in perms if other is not None)
    met = sorted(dict.fromkeys((*around(name, names), *terms, *others)), key=lambda other: other.count("/"))
    short: dict[str | None, str] = {}
    for i, other in enumerate(met):
        short[other] = "/".join((*(short[outer] for outer in around(other, met)[-1:]), f"P{i}"))

    def renamed(perms: Sequence[str | None]) -> tuple[str | None, ...]:
        return tuple(map(short.get, perms))

    own = {
        short[member]: [Term(term.a, term.b, term.chain, term.outer, renamed(term.perms)) for term in found]
        for member, found in terms.items()
    }
    is_linear = len(terms) == 1 and "/" not in short[name] and all(p.count(name) == 1 for p in moved.values())
    touched = [Touched(leaves_a[key], leaves_b[key], renamed(perms)) for key, perms in moved.items()]
    visit = Visit(
        short[name],
        tuple(short[other] for other in met),
        {member: [term for term in found if not term.is_settled] for member, found in own.items()},
        compute.similarities(
            {member: [term for term in found if term.is_settled] for member, found in own.items()}, {}
        ),
        [] if is_linear else touched,
    )
    return Met(visit, tuple(met))


def up_to_date(visit: Visit, permutation: Permutation) -> Visit:
    """The visit with all counted that is known, as others are now."""
    settled = {**visit.settled}
    known = {member: [*visit.counted.get(member, [])] for member in visit.terms}
    for member, own in known.items():
        for i, before in enumerate(own):
            own[i], settled[member] = recounted(before, permutation, settled[member])
        for term in visit.terms[member]:
            if can_be_counted(term, permutation):
                now, similarity = counted(term, permutation)
                own.append(now)
                settled[member] = settled[member] + similarity if member in settled else similarity
    unknown = {
        member: [term for term in own if not can_be_counted(term, permutation)]
        for member, own in visit.terms.items()
    }
    return replace(visit, terms=unknown, settled=settled, counted=known)


def best(
    visit: Visit, permutation: Permutation, allowed: Mapping[str, Array], assignment: str
) -> Permutation:
    """The best assignment, where others may not have been assigned yet: an axis of theirs is averaged.

    Args:
        visit: of a permutation.
        permutation: that and others, as far as they are known.
        allowed: what of the visit's family may be assigned to what, see `assigned`; all where left out.
        assignment: solver, see `linear_assignment`.
    """
    similarity = similarities(visit.terms, permutation, visit.settled)
    return _assigned(visit, permutation, similarity, allowed, assignment)[0]


def bettered(
    visit: Visit, permutation: Permutation, allowed: Mapping[str, Array], assignment: str
) -> tuple[Permutation, Array]:
    """The best assignment, others held, and by how much the objective grows: 0 if by no more than rounding.

    Args:
        visit: of a permutation.
        permutation: that and all others.
        allowed: see `best`.
        assignment: see `best`.
    """
    similarity = similarities(visit.terms, permutation, visit.settled)
    candidate, value = _assigned(visit, permutation, similarity, allowed, assignment)
    if visit.touched:
        before, after = (agreement(visit.touched, p) for p in (permutation, permutation | candidate))
        gain, scale = after - before, abs(before)
    else:
        own = at_assigned(similarity[visit.name], [visit.name], permutation)
        gain, scale = value - own.sum(), abs(own).sum()
    # Rounding must not count as progress, or the search might never end.
    return candidate, gain * (gain > 4 * jnp.finfo(gain.dtype).eps * scale)


def _assigned(
    visit: Visit,
    permutation: Permutation,
    similarity: Mapping[str, Array],
    allowed: Mapping[str, Array],
    assignment: str,
) -> tuple[Permutation, Array]:
    on_host = isinstance(next(iter(similarity.values())), np.ndarray)
    solve = partial(host_assignment if on_host else linear_assignment, implementation=assignment)
    outer = around(visit.name, visit.names)
    members = [member for member in family(visit.name, visit.names) if member in allowed]
    # Where a permutation moves within others that are assigned already.
    here = {member: at_assigned(allowed[member], outer, permutation) for member in members}
    return assigned(visit.name, visit.names, similarity, solve, here)


def agreement(touched: Sequence[Touched], permutation: Permutation) -> AnyArray:
    """`<A, pi(B)>` of some pieces."""
    inner = (inner_product(piece.a, piece.b, piece.perms, permutation) for piece in touched)
    return sum(inner, start=np.float32(0))


def agreement_assigned(
    everything: Sequence[Touched], permutation: Permutation, visits: Sequence[Met]
) -> AnyArray:
    """`agreement` where permutations were assigned one after the other, each visit as it was then.

    What a visit had counted is all that was known with its permutation, and not before.
    """
    if any(met.visit.touched for met in visits):
        return agreement(everything, permutation)
    fixed = [piece for piece in everything if not any(piece.perms)]
    counted_then = (
        at_assigned(met.visit.settled[met.visit.name], [met.visit.name], met.known(permutation)).sum()
        for met in visits
        if met.visit.settled
    )
    return sum(counted_then, start=agreement(fixed, permutation))


class Computing(NamedTuple):
    """How visits are computed."""

    held: Callable[[Mapping[str, AnyArray]], dict[str, AnyArray]]
    """Arrays, to where they are computed with."""
    cut_up: Callable[..., tuple[dict[str, Piece], Leaves]]
    up_to_date: Callable[[Visit, Permutation], Visit]
    """A visit, as others are now; what isn't kept from visit to visit is left as it is."""
    similarities: Callable[..., dict[str, Array]]
    best: Callable[..., Permutation]
    bettered: Callable[..., tuple[Permutation, Array]]
    agreement: Callable[..., AnyArray]
    agreement_assigned: Callable[..., AnyArray]


def computing(leaves_a: Leaves, leaves_b: Leaves) -> Computing:
    """By NumPy where the arrays are the host's, compiled where an accelerator has them."""
    return ON_HOST if sharding.on_host((leaves_a, leaves_b)) else COMPILED


def _of_numpy(arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """Arrays of NumPy's; numbers of half precision in single precision."""
    return {
        name: np.asarray(array, accumulator(array, array) if array.dtype != bool else bool)
        for name, array in sharding.fetch(arrays).items()
    }


ON_HOST = Computing(
    _of_numpy, cut_up, up_to_date, similarities, best, bettered, agreement, agreement_assigned
)
COMPILED = Computing(
    dict,
    jax.jit(cut_up, static_argnums=0),
    lambda visit, permutation: visit,
    jax.jit(similarities),
    jax.jit(best, static_argnums=3),
    jax.jit(bettered, static_argnums=3),
    (_agreement := jax.jit(agreement)),
    lambda everything, permutation, visits: _agreement(everything, permutation),
)
