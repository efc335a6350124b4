"""Effective rank of features: how many directions they fill."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Fold, Point, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.nodes import unit_rows, with_known_units
from llfc_jax.measures.scaling import in_units, joined
from llfc_jax.measures.singular_values import of_gram, singular_values_along
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array, PyTree

MAX_UNITS = 2048
"""Layers with more units are left out: their Gram matrices would outweigh everything else in memory."""


class _Grams(NamedTuple):
    """What was seen of the features of all layers."""

    scale: Array
    """(layers,)."""
    products: list[Array]
    """(units, units), sums of products in units of the layer's `scale` squared (see `measures.scaling`)."""


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature."""
    alphas = tuple(sorted({0.0, *options.alphas, 1.0}))

    def entry(found: Found) -> dict[str, Any]:
        weights = {
            name: [effective_rank(values) for values in along]
            for name, along in singular_values_along(found, alphas).items()
        }
        ranks = {"features": found.folds[TEST]["features"], "weights": weights}
        return {"alphas": alphas, "layers": join_ranks(found.program, ranks)}

    return Measure(
        name="effective_rank",
        folds=lambda program: {"features": Planned(feature_rank(program), alphas)},
        entry=entry,
    )


@by_value
def feature_rank(program: Program) -> Fold:
    """Effective rank of the features of theta_alpha, at every layer.

    exp(-sum p log p) with p = s / sum s for the singular values s (Roy & Vetterli 2007) of the matrix with a
    row for each sample, or for each sample and position of a convolution's feature map, and a column for each
    unit or channel. From the Gram matrix in float32, so that directions weaker than 3e-4 of the strongest
    count as none.

    Returns:
        The measure; its result maps each layer (but the too wide ones, and those whose units aren't known) to
        a list parallel to the alphas.
    """
    layers = with_known_units(program, MAX_UNITS)

    def init(point: Point) -> _Grams:
        del point
        widths = (node.shape[axis] for node, axis in layers)
        return _Grams(jnp.zeros(len(layers)), [jnp.zeros((width, width)) for width in widths])

    def update(state: _Grams, point: Point) -> _Grams:
        if not layers:
            return state
        rows = (unit_rows(point.theta, node, axis, point.mask)[0] for node, axis in layers)
        scales, products = zip(*map(_products, rows), strict=True)
        scale, before, now = joined(state.scale, jnp.stack(scales))
        shares = zip(before, now[:, 0], state.products, products, strict=True)
        return _Grams(scale, [old * seen + new * own for old, new, seen, own in shares])

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> dict[str, list[float]]:
        del alphas
        resolution = float(np.finfo(np.float32).eps)
        return {
            node.name: [effective_rank(of_gram(gram, resolution)) for gram in grams]
            for (node, _), grams in zip(layers, state.products, strict=True)
        }

    return Fold(init, update, finalize)


@jax.jit
def _products(rows: Array) -> tuple[Array, Array]:
    """(1,), one scale for all rows; and the sums of products of units, in units of its square."""
    scale, (together,) = in_units(rows[None])
    return scale, together[0].T @ together[0]


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
