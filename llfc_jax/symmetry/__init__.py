"""Permutation symmetries of any model, read off its jaxpr."""

from llfc_jax.symmetry.check import check_deterministic, check_equivalence
from llfc_jax.symmetry.description import describe, held_fixed
from llfc_jax.symmetry.spec import (
    LeafSpec,
    PermutationSpec,
    Piece,
    apply_permutation,
    compose,
    identity,
    inverse,
    random_permutation,
    readable_path,
)
from llfc_jax.symmetry.trace import permutation_spec
from llfc_jax.symmetry.units import unit_activations

__all__ = [
    "LeafSpec",
    "PermutationSpec",
    "Piece",
    "apply_permutation",
    "check_deterministic",
    "check_equivalence",
    "compose",
    "describe",
    "held_fixed",
    "identity",
    "inverse",
    "permutation_spec",
    "random_permutation",
    "readable_path",
    "unit_activations",
]
