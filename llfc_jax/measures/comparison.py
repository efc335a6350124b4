"""How alike two features are: cosine distance, coefficient and dist, per sample and over the dataset."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.quantiles import add_counts, quantile
from llfc_jax.measures.scaling import in_units, unit_of
from llfc_jax.path.moments import Moments, add_moments, variance
from llfc_jax.types import Array

_ROUNDING = 1e-12
"""A squared norm below this part of the other is what rounding of float32 left of zero."""

QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}
"""Name -> the part of the samples below it."""


class Sums(NamedTuple):
    """What is summed over the features of a sample, each (..., n), float32.

    In units of a power of two near the size of u and v (see `measures.scaling`).
    """

    scale: Array
    """That power; 0 where u and v are zero, NaN where one has an entry that is no number."""
    u_square: Array
    v_square: Array
    along: Array
    """<u - c0 v, v>, see `sums`."""
    residual: Array
    """||u - c v||^2."""


class Decomposition(NamedTuple):
    """What the numbers of a sample are made of, (..., n); NumPy, float64."""

    u_square: np.ndarray
    """||u||^2."""
    v_square: np.ndarray
    """||v||^2."""
    coefficient: np.ndarray
    """c."""
    deviation: np.ndarray
    """c - 1."""
    residual: np.ndarray
    """||r||^2."""


class Comparison(NamedTuple):
    """State of the comparison of a stream of u with a stream of v, over whatever axes there are.

    Per sample v is split off from u: u = c v + r with r orthogonal to v. Coefficients are kept as c - 1 and
    angles as ||r||, which for u near v are small numbers with all their digits, where <u, v>, ||u|| and ||v||
    would cancel.
    """

    distance: Moments = Moments()
    """Of 1 - cos over samples."""
    coefficient: Moments = Moments()
    """Of c - 1 over samples."""
    dist: Moments = Moments()
    """Of dist over samples."""
    dataset_coefficient: Moments = Moments()
    """Of c - 1 over samples weighted by ||v||^2: its mean belongs to the whole matrix."""
    distances: np.ndarray | float = 0.0
    """How many samples have which distance, for `quantiles.quantile`."""
    residual: np.ndarray | float = 0.0
    """Sum of ||r||^2."""
    dead: np.ndarray | int = 0
    """Number of samples for which u or v is zero; they have no angle and count for the whole matrix alone."""


@jax.jit
def sums(u: Array, v: Array, size: Array) -> Sums:
    """Split u = c v + r, sample by sample.

    With c0 = 1, or 0 where u is far shorter than v, c = c0 + <u - c0 v, v> / ||v||^2 keeps its digits.

    Args:
        u: (n, features).
        v: the same.
        size: (n,), of which no entry of u or v is far above.
    """
    u, v = in_units(size, u, v)
    u_square, v_square = (jnp.square(x).sum(-1) for x in (u, v))
    origin = jnp.where(_is_far_shorter(u_square, v_square), 0.0, 1.0)
    along = ((u - origin[:, None] * v) * v).sum(-1)
    coefficient = origin + along / jnp.where(v_square == 0, 1, v_square)
    residual = jnp.square(u - coefficient[:, None] * v).sum(-1)
    return Sums(unit_of(size), u_square, v_square, along, residual)


@np.errstate(all="ignore")  # what is no number shows in the results
def decompose(found: Sums) -> Decomposition:
    """The numbers of each sample."""
    origin = np.where(_is_far_shorter(found.u_square, found.v_square), 0.0, 1.0)
    scale, u_square, v_square, along, residual = (np.asarray(field, np.float64) for field in found)
    rest, square = along / np.where(v_square == 0, 1, v_square), np.square(scale)
    return Decomposition(
        u_square=square * u_square,
        v_square=square * v_square,
        coefficient=origin + rest,
        deviation=origin - 1 + rest,
        residual=square * residual,
    )


@np.errstate(all="ignore")
def compare(state: Comparison, batch: Decomposition, mask: np.ndarray) -> Comparison:
    """Add one batch.

    Per sample, coefficient c = <u, v> / ||v||^2, distance 1 - cos(u, v) (LLFC, section 3) and
    dist(u, v) = ||u - v||^2 / (||u|| ||v||) (LLFC, section 5). Where the angle is acute, the distance is
    sin^2 / (1 + cos), and sin^2 = ||u - c v||^2 / ||u||^2 keeps its digits.

    Args:
        state: what was seen before.
        batch: u and v, sample by sample, (..., n).
        mask: that goes with them, 0 for padding.
    """
    u_square, v_square, coefficient, deviation, residual = batch
    alive = ~((u_square == 0) | (v_square == 0))  # NaN is no zero, and shows
    dataset_coefficient = add_moments(state.dataset_coefficient, deviation, np.where(mask > 0, v_square, 0))
    whole_residual = np.where(mask > 0, residual, 0).sum(-1)
    u_square, v_square = (np.where(alive, square, 1) for square in (u_square, v_square))
    weights = np.where(alive, mask, 0)
    cosine = coefficient * np.sqrt(v_square / u_square)
    distance = cosine_distance(cosine, residual / u_square)
    dist = (np.square(deviation) * v_square + residual) / np.sqrt(u_square * v_square)
    return Comparison(
        distance=add_moments(state.distance, distance, weights),
        coefficient=add_moments(state.coefficient, deviation, weights),
        dist=add_moments(state.dist, dist, weights),
        dataset_coefficient=dataset_coefficient,
        distances=add_counts(state.distances, distance, weights > 0),
        residual=state.residual + whole_residual,
        dead=state.dead + ((mask > 0) & ~alive).sum(-1),
    )


def cosine_distance(cosine: np.ndarray, sine_square: np.ndarray) -> np.ndarray:
    """1 - cos of an angle: sin^2 / (1 + cos) where it is acute, which keeps the digits of a small one."""
    return np.where(cosine > 0, sine_square / (1 + np.abs(cosine)), 1 - cosine)


def _is_far_shorter(u_square: Any, v_square: Any) -> Any:
    return 4 * u_square < v_square


def summarise(state: Comparison) -> dict[str, Any]:
    """The numbers of a finished comparison, stacked over whatever axes the state has (NaN where undefined).

    Returns:
        `cosine_distance`, `coefficient` and `dist`, each `{mean, std}` over samples (population std), the
        first also with its quartiles `{q25, median, q75}`, right to 7.5 % of themselves; `dataset` with the
        same numbers for the (samples x features) matrices at once; `dead`.
    """
    distance, counts = mean_and_std(state.distance), np.asarray(state.distances)
    return {
        "cosine_distance": distance
        | {
            name: np.where(np.isnan(distance["mean"]), np.nan, quantile(counts, fraction))
            for name, fraction in QUARTILES.items()
        },
        "coefficient": mean_and_std(state.coefficient, origin=1.0),
        "dist": mean_and_std(state.dist),
        "dataset": _whole(state),
        "dead": np.asarray(state.dead, int),
    }


def mean_and_std(moments: Moments, origin: float = 0.0) -> dict[str, Any]:
    """`{mean, std}`, the mean counted from `origin`; NaN of nothing."""
    return {
        "mean": np.where(moments.weight > 0, origin + moments.mean, np.nan),
        "std": np.sqrt(variance(moments)),
    }


def _whole(state: Comparison) -> dict[str, Any]:
    """With C the dataset's coefficient, sample i has ||u - C v||^2 = ||r||^2 + (c - C)^2 ||v||^2.

    ||u - v||^2 is the same with 1 for C, or (C - 1)^2 ||v||^2 more.
    """
    moments = state.dataset_coefficient
    has_v = moments.weight > 0
    v_square = np.where(has_v, moments.weight, 1)
    coefficient = 1 + moments.mean
    residual = state.residual + moments.squares
    found_square = coefficient**2 * moments.weight + residual
    difference = moments.mean**2 * v_square + residual
    has_angle = has_v & (found_square > _ROUNDING * v_square)
    u_square = np.where(has_angle, found_square, 1)
    cosine = coefficient * np.sqrt(v_square / u_square)
    distance = np.where(cosine > 0, residual / u_square / (1 + np.abs(cosine)), 1 - cosine)
    return {
        "cosine_distance": np.where(has_angle, distance, np.nan),
        "coefficient": np.where(has_v, coefficient, np.nan),
        "dist": np.where(has_angle, difference / np.sqrt(u_square * v_square), np.nan),
    }
