"""Matchers: `match(key, spec, params_a, params_b) -> (permutation, info)`, which puts B into A's basin."""

from llfc_jax.matching.activations import activation_matching
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.matching.commutativity import commutativity_matching
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.straight_through import straight_through
from llfc_jax.matching.weights import weight_matching

__all__ = [
    "MatchInfo",
    "activation_matching",
    "commutativity_matching",
    "linear_assignment",
    "straight_through",
    "weight_matching",
]
