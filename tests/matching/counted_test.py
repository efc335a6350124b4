from dataclasses import replace

import jax
import numpy as np
import pytest

from llfc_jax.matching.counted import counted, recounted
from llfc_jax.matching.similarity import Term, similarities, terms_of
from llfc_jax.matching.visit import ON_HOST, visit_of
from llfc_jax.symmetry import LeafSpec, PermutationSpec, random_permutation

SPEC = PermutationSpec(
    {"p": 6, "q": 5, "h": 3, "h/k": 4},
    {
        "kernel": LeafSpec((3, 3, 6, 5), (None, None, "p", "q")),
        "kernel, outputs first": LeafSpec((5, 6, 3), ("q", "p", None)),
        "square": LeafSpec((6, 2, 6), ("p", None, "p")),
        "bias": LeafSpec((6,), ("p",)),
        "into heads": LeafSpec((6, 3, 4), ("p", "h", "h/k")),
        "out of heads": LeafSpec((3, 4, 5), ("h", "h/k", "q")),
        "within heads": LeafSpec((3, 4, 4), ("h", "h/k", "h/k")),
    },
)
PIECES, _ = ON_HOST.cut_up(
    SPEC, {path: np.zeros(leaf.view, np.float32) for path, leaf in SPEC.leaves.items()}
)


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {path: rng.standard_normal(leaf.view, np.float32) for path, leaf in SPEC.leaves.items()}


def permutation(seed):
    return jax.device_get(random_permutation(jax.random.key(seed), SPEC))


@pytest.mark.parametrize("name", SPEC.sizes)
def test_what_is_kept_is_what_is_computed_anew_wherever_others_move(name):
    a, b = arrays(0), arrays(1)
    met = visit_of(name, [*SPEC.sizes], PIECES, a, b, ON_HOST)
    first, second, third = map(permutation, range(3))
    for known in ({}, {"q": first["q"]}, first, first | {"q": second["q"]}, second, second, third | second):
        met = met.at(known, ON_HOST)
        kept = similarities(met.visit.terms, met.known(known), met.visit.settled)
        anew = similarities(terms_of(name, [*SPEC.sizes], PIECES, a, b), known)
        for member, expected in anew.items():
            np.testing.assert_allclose(
                kept[met.visit.names[met.names.index(member)]], expected, rtol=1e-5, atol=1e-5
            )


def test_only_what_moved_is_multiplied_again():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 6, 5), np.float32)
    still = {"p": np.arange(6), "q": np.arange(5)}
    term = Term(a, b, (2,), (), (None, "p", "q"))
    known, similarity = counted(term, still)
    exchanged = still | {"p": np.array([0, 4, 2, 3, 1, 5])}
    unseen = a.copy()
    unseen[:, [0, 2, 3, 5]] = np.nan  # would be everywhere in a product
    known, similarity = recounted(known._replace(term=replace(term, a=unseen)), exchanged, similarity)
    np.testing.assert_allclose(similarity, counted(term, exchanged)[1], rtol=1e-5, atol=1e-5)
    assert recounted(known, exchanged, similarity)[1] is similarity
