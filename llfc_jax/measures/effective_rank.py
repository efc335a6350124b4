"""Effective rank of features: how many directions they fill."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llfc_jax.measures.fold import Fold, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.singular_values import feature_singular_values, singular_values_along
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import PyTree


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature."""
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        weights = ranks_of(singular_values_along(found, alphas))
        ranks = {"features": found.folds[TEST]["features"], "weights": weights}
        return {"alphas": alphas, "layers": join_ranks(found.program, ranks)}

    return Measure(
        name="effective_rank",
        folds=lambda program: {"features": Planned(feature_rank(program), alphas)},
        entry=entry,
    )


@by_value
def feature_rank(program: Program) -> Fold:
    """Effective rank of the features of theta_alpha, at every layer: that of their singular values.

    Returns:
        The measure; its result maps each layer to a list parallel to the alphas.
    """
    spectra = feature_singular_values(program)

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> dict[str, list[float]]:
        return ranks_of(spectra.finalize(state, alphas))

    return Fold(spectra.init, spectra.update, finalize)


def ranks_of(spectra: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[float]]:
    """Layer -> the effective rank of each of its spectra."""
    return {name: [effective_rank(values) for values in along] for name, along in spectra.items()}


def join_ranks(program: Program, ranks: Mapping[str, Mapping[str, list[float]]]) -> list[dict[str, Any]]:
    """`{layer, kind, features, weights}` of each layer, as `results.json` has them; only what it has."""
    return [
        {"layer": node.name, "kind": node.label}
        | {what: found[node.name] for what, found in ranks.items() if node.name in found}
        for node in program.features
    ]


def effective_rank(singular_values: np.ndarray) -> float:
    """Exp of the entropy of the normalised singular values (Roy & Vetterli 2007); 0 for a zero matrix.

    Example:
        >>> round(effective_rank(np.array([3.0, 3.0, 0.0])), 6)
        2.0
    """
    values = singular_values[singular_values > 0]
    if not values.size:
        return 0.0
    p = values / values.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
