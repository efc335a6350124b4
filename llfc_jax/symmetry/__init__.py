"""Symmetries of any model, read off its jaxpr: permutations, and in `classes` the maps beyond them."""

from llfc_jax.symmetry.check import check_deterministic, check_equivalence
from llfc_jax.symmetry.classes import Symmetry, describe_actions, symmetries
from llfc_jax.symmetry.description import describe, held_fixed
from llfc_jax.symmetry.maps import apply_maps, fold_scales, inverse_maps, random_maps
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
    "Symmetry",
    "apply_maps",
    "apply_permutation",
    "check_deterministic",
    "check_equivalence",
    "compose",
    "describe",
    "describe_actions",
    "fold_scales",
    "held_fixed",
    "identity",
    "inverse",
    "inverse_maps",
    "permutation_spec",
    "random_maps",
    "random_permutation",
    "readable_path",
    "symmetries",
    "unit_activations",
]
