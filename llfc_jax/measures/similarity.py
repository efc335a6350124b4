"""How alike the representations of theta_alpha and A are, whatever their coordinates: CKA and its kin."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Fold, Point, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.nodes import unit_rows, with_known_units
from llfc_jax.path.moments import merged_weights
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array

MAX_UNITS = 512
"""Layers with more units are left out: a singular value decomposition for each layer and alpha."""

KEPT_VARIANCE = 0.99
"""Of each representation, by the directions between which SVCCA takes correlations."""

QUANTITIES = {
    "cka": "linear CKA with A",
    "angular_cka": "angular CKA to A (°)",
    "procrustes": "Procrustes distance to A",
    "svcca": "SVCCA distance to A",
}


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature; at alpha = 1 they are between B and A."""
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        return {"alphas": alphas, "layers": found.folds[TEST]["layers"]}

    return Measure(
        name="similarity",
        folds=lambda program: {"layers": Planned(similarity(program), alphas)},
        entry=entry,
        quantities=QUANTITIES,
    )


class Covariances(NamedTuple):
    """Sums over rows x of theta_alpha's and y of A's units, of deviations from their means."""

    rows: Array
    x_mean: Array
    """(units,)."""
    y_mean: Array
    xx: Array
    """(units, units)."""
    xy: Array


@by_value
def similarity(program: Program) -> Fold:
    """Compare the units of theta_alpha with those of A, at every layer whose units are known.

    With centred rows X and Y for each sample, or each sample and position:
    linear CKA is ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F) (Kornblith et al. 2019, arXiv 1905.00414);
    angular CKA its arc cosine (Williams et al. 2021, arXiv 2110.14739), in degrees;
    the Procrustes distance 2 - 2 ||X^T Y||_* / (||X||_F ||Y||_F), the squared distance of the normalised
    matrices after the best rotation (Ding et al. 2021, arXiv 2108.01661);
    the SVCCA distance 1 - the mean canonical correlation of the directions that hold 99 % of each one's
    variance (Raghu et al. 2017, arXiv 1706.05806).
    The first three don't change when units are rotated, shifted or scaled by one number.

    Returns:
        The measure; its result is a list of `{layer, kind, cka, angular_cka, procrustes, svcca}`, lists
        parallel to the alphas, of which the first must be 0: A itself. NaN where a layer doesn't vary.
    """
    layers = with_known_units(program, MAX_UNITS)

    def init(point: Point) -> dict[str, Covariances]:
        del point
        widths = {node.name: node.shape[axis] for node, axis in layers}
        return {
            name: Covariances(
                jnp.zeros(()), *(jnp.zeros(width) for _ in "xy"), *(jnp.zeros((width, width)) for _ in "xy")
            )
            for name, width in widths.items()
        }

    def update(state: dict[str, Covariances], point: Point) -> dict[str, Covariances]:
        return {
            node.name: _merge(
                state[node.name],
                *(unit_rows(view, node, axis, point.mask) for view in (point.theta, point.a)),
            )
            for node, axis in layers
        }

    def finalize(state: dict[str, Covariances], alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        return [{"layer": node.name, "kind": node.label, **_compared(state[node.name])} for node, _ in layers]

    return Fold(init, update, finalize)


def _merge(seen: Covariances, x: tuple[Array, Array], y: tuple[Array, Array]) -> Covariances:
    """`x` and `y` are rows and their weights, 0 for padding; the weights are the same."""
    (x_rows, weights), (y_rows, _) = x, y
    count = weights.sum()
    rows, share, between = merged_weights(seen.rows, count)

    def centred(values: Array) -> tuple[Array, Array]:
        mean = weights @ values / jnp.where(count > 0, count, 1)
        return mean, weights[:, None] * (values - mean[None])

    (x_mean, x_own), (y_mean, y_own) = centred(x_rows), centred(y_rows)
    x_shift, y_shift = x_mean - seen.x_mean, y_mean - seen.y_mean
    return Covariances(
        rows=rows,
        x_mean=seen.x_mean + share * x_shift,
        y_mean=seen.y_mean + share * y_shift,
        xx=seen.xx + x_own.T @ x_own + between * jnp.outer(x_shift, x_shift),
        xy=seen.xy + x_own.T @ y_own + between * jnp.outer(x_shift, y_shift),
    )


def _compared(state: Covariances) -> dict[str, list[float]]:
    xx, xy = (np.asarray(leaf, np.float64) for leaf in (state.xx, state.xy))
    sides = [_side(own) for own in xx]
    each = [_distances(own, cross, sides[0]) for own, cross in zip(sides, xy, strict=True)]
    return {name: [float(one[name]) for one in each] for name in QUANTITIES}


def compared(xx: np.ndarray, xy: np.ndarray, yy: np.ndarray) -> dict[str, float]:
    """All distances from the covariances (or their multiples) X^T X, X^T Y and Y^T Y, in float64.

    Example: a rotation changes nothing.
        >>> x = np.random.default_rng(0).normal(size=(50, 3)); x -= x.mean(0)
        >>> y = x @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
        >>> found = compared(x.T @ x, x.T @ y, y.T @ y)
        >>> {name: round(value, 6) + 0.0 for name, value in found.items()}
        {'cka': 1.0, 'angular_cka': 0.0, 'procrustes': 0.0, 'svcca': 0.0}
    """
    return _distances(_side(xx), xy, _side(yy))


class _Side(NamedTuple):
    """Units' covariances, in units of their sum: of 1e20 they have squares with no place even in float64."""

    scale: float
    """The root of that sum; 0 where no unit varies."""
    norm: float
    """Frobenius."""
    whitening: np.ndarray
    """See `_whitening`."""


def _side(covariance: np.ndarray) -> _Side:
    scale = float(np.sqrt(np.trace(covariance)))
    if not scale > 0:
        return _Side(0.0, 0.0, covariance)
    scaled = covariance / scale / scale
    return _Side(scale, float(np.linalg.norm(scaled)), _whitening(scaled))


def _distances(x: _Side, xy: np.ndarray, y: _Side) -> dict[str, float]:
    if not (x.scale and y.scale):
        return dict.fromkeys(QUANTITIES, float("nan"))
    xy = xy / x.scale / y.scale
    cka = np.sum(xy**2) / (x.norm * y.norm)
    found = {
        "cka": cka,
        "angular_cka": np.degrees(np.arccos(np.clip(cka, 0, 1))),
        "procrustes": 2 - 2 * np.linalg.norm(xy, "nuc"),
        "svcca": 1 - np.mean(_cosines(x.whitening, xy, y.whitening)),
    }
    return {name: float(value) for name, value in found.items()}


def canonical_correlations(xx: np.ndarray, xy: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """Of the leading directions that hold `KEPT_VARIANCE` of each side; falling, in [0, 1]."""
    return _cosines(_whitening(xx), xy, _whitening(yy))


def _cosines(of_x: np.ndarray, xy: np.ndarray, of_y: np.ndarray) -> np.ndarray:
    return np.clip(np.linalg.svd(of_x.T @ xy @ of_y, compute_uv=False), 0, 1)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    """(units, kept): the leading eigenvectors over the roots of their eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    needed = 1 + np.searchsorted(np.cumsum(values) / values.sum(), KEPT_VARIANCE)
    kept = min(int(needed), np.count_nonzero(values))
    return vectors[:, :kept] / np.sqrt(values[:kept])
