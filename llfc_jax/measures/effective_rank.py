"""Effective rank of features: how many directions they fill."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Measure, Point
from llfc_jax.types import Array, PyTree

MAX_UNITS = 2048
"""Layers with more units are left out: their Gram matrices would outweigh everything else in memory."""


def feature_rank(layers: Mapping[str, str]) -> Measure:
    """Effective rank of the features of theta_alpha, at every layer.

    exp(-sum p log p) with p = s / sum s for the singular values s (Roy & Vetterli 2007) of the matrix with a
    row for each sample, or for each sample and position of a convolution's feature map, and a column for each
    unit or channel. From the Gram matrix in float32, so that directions weaker than 3e-4 of the strongest
    count as none.

    Args:
        layers: name -> kind of the layers, in forward order.

    Returns:
        The measure; its result maps each layer (but the too wide ones) to a list parallel to the alphas.
    """

    def init(point: Point) -> dict[str, Array]:
        widths = {layer: point.theta.features[layer].shape[-1] for layer in layers}
        return {layer: jnp.zeros((width, width)) for layer, width in widths.items() if width <= MAX_UNITS}

    def update(state: dict[str, Array], point: Point) -> dict[str, Array]:
        def gram(feature: Array) -> Array:
            mask = jnp.expand_dims(point.mask, range(1, feature.ndim))
            rows = jnp.where(mask > 0, feature, 0).astype(jnp.float32).reshape(-1, feature.shape[-1])
            return rows.T @ rows

        return {layer: seen + gram(point.theta.features[layer]) for layer, seen in state.items()}

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> dict[str, list[float]]:
        del alphas
        resolution = float(np.finfo(np.float32).eps)
        return {
            layer: [effective_rank(singular_values_of_gram(gram, resolution)) for gram in state[layer]]
            for layer in layers
            if layer in state
        }

    return Measure(init, update, finalize)


def join_ranks(
    layers: Mapping[str, str], ranks: Mapping[str, Mapping[str, list[float]]]
) -> list[dict[str, Any]]:
    """`{layer, kind, features, weights}` of each layer, as `results.json` has them; only what it has."""
    return [
        {"layer": layer, "kind": kind}
        | {what: found[layer] for what, found in ranks.items() if layer in found}
        for layer, kind in layers.items()
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


def singular_values_of_gram(gram: np.ndarray, resolution: float) -> np.ndarray:
    """The roots of the eigenvalues of X^T X, falling; 0 for those below `resolution` of the largest."""
    values = np.linalg.eigvalsh(np.asarray(gram, np.float64))[::-1]
    return np.sqrt(np.where(values > resolution * values.max(initial=0), values, 0))
