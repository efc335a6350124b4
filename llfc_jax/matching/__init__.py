"""Matchers: `match(key, spec, params_a, params_b) -> (permutation, info)`, which puts B into A's basin.

Those that go beyond permutations take a `Symmetry` and return B `Moved`: `procrustes_matching`,
`learned_matching`. Those of more than two networks: `universe_matching`, `simultaneous_matching`.
"""

from llfc_jax.matching.activations import activation_matching
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.commutativity import commutativity_matching
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.learned import learned_matching
from llfc_jax.matching.moved import Moved
from llfc_jax.matching.procrustes import procrustes_matching
from llfc_jax.matching.simultaneous import simultaneous_matching
from llfc_jax.matching.straight_through import straight_through
from llfc_jax.matching.universe import Universe, universe_matching
from llfc_jax.matching.weights import weight_matching

__all__ = [
    "MatchInfo",
    "Moved",
    "Universe",
    "activation_matching",
    "commutativity_matching",
    "learned_matching",
    "linear_assignment",
    "procrustes_matching",
    "simultaneous_matching",
    "straight_through",
    "universe_matching",
    "weight_matching",
]
