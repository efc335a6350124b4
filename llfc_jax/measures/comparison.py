"""How alike two features are: cosine distance, coefficient and dist, per sample and over the dataset."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.quantiles import add_counts, no_counts, quantile
from llfc_jax.measures.scaling import in_units, joined, power_near, real_parts
from llfc_jax.path.moments import Moments, add_moments, no_moments, variance
from llfc_jax.types import Array

_ALIKE = Moments._make((None, 0, 0))
_add_alike = jax.vmap(add_moments, (_ALIKE, 0, None), _ALIKE)
"""Of numbers of the same samples: these are counted once."""

_ROUNDING = 1e-12
"""A squared norm below this part of the other is what rounding of float32 left of zero."""

QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}
"""Name -> the part of the samples below it."""


class Comparison(NamedTuple):
    """State of the comparison of a stream of u with a stream of v.

    Per sample v is split off from u: u = c v + r with r orthogonal to v. Coefficients are kept as c - 1 and
    angles as ||r||, which for u near v are small numbers with all their digits, where <u, v>, ||u|| and ||v||
    would cancel.
    """

    samples: Moments
    """Of distance, c - 1 and dist over samples: one weight for all three, whose mean and squares are (3,)."""
    dataset_coefficient: Moments
    """Of c - 1 over samples weighted by ||v||^2 / scale^2: its mean belongs to the whole matrix."""
    distances: Array
    """How many samples have which distance, for `quantiles.quantile`."""
    residual: Array
    """Sum of ||r||^2 / scale^2."""
    scale: Array
    """The largest scale of a sample so far."""
    dead: Array
    """Number of samples for which u or v is zero; they have no angle and count for the whole matrix alone."""


class Sums(NamedTuple):
    """What is summed over the features of a sample, each (n,): few enough to be stacked over all layers.

    u and v are first divided by the power of two near their size (see `measures.scaling`).
    """

    size: Array
    u_square: Array
    v_square: Array
    along: Array
    """<u - c0 v, v>, see `sums`."""
    residual: Array
    """||u - c v||^2."""


class Decomposition(NamedTuple):
    """What the numbers of a sample are made of."""

    scale: Array
    """That power; 0 where u and v are zero."""
    u_square: Array
    """||u||^2 / scale^2."""
    v_square: Array
    """||v||^2 / scale^2."""
    coefficient: Array
    """c."""
    deviation: Array
    """c - 1."""
    residual: Array
    """||r||^2 / scale^2."""


def no_comparison() -> Comparison:
    """The state before the first batch."""
    zero = jnp.zeros(())
    return Comparison(
        Moments(zero, jnp.zeros(3), jnp.zeros(3)),
        no_moments(),
        no_counts(),
        zero,
        zero,
        jnp.zeros((), jnp.int32),
    )


@jax.jit
def sums(u: Array, v: Array, size: Array) -> Sums:
    """Split u = c v + r, sample by sample.

    With c0 = 1, or 0 where u is far shorter than v, c = c0 + <u - c0 v, v> / ||v||^2 keeps its digits.

    Args:
        u: (n, ...) features; a complex number counts as its two parts.
        v: (n, ...) features.
        size: (n,), of which no entry of u or v is far above.
    """

    def of_sample(scalars: Array) -> Array:
        return jnp.expand_dims(scalars, range(1, v.ndim))

    u, v = in_units(size, real_parts(u), real_parts(v))
    u_square, v_square = (_sum_features(jnp.square(x)) for x in (u, v))
    origin = _origin(u_square, v_square)
    along = _sum_features((u - of_sample(origin) * v) * v)
    residual = _sum_features(jnp.square(u - of_sample(origin + _relative(along, v_square)) * v))
    return Sums(size, u_square, v_square, along, residual)


def decompose(found: Sums) -> Decomposition:
    """The numbers of each sample, of one layer or stacked over many: none of them is worth a kernel alone."""
    origin, rest = _origin(found.u_square, found.v_square), _relative(found.along, found.v_square)
    # Beside an entry that is no number the others vanish, which doesn't make them zero.
    u_square, v_square = (
        jnp.where(jnp.isfinite(found.size), square, jnp.nan) for square in (found.u_square, found.v_square)
    )
    return Decomposition(
        scale=power_near(found.size),
        u_square=u_square,
        v_square=v_square,
        coefficient=origin + rest,
        deviation=origin - 1 + rest,
        residual=found.residual,
    )


@jax.jit
def compare(state: Comparison, batch: Decomposition, mask: Array) -> Comparison:
    """Add one batch.

    Per sample, coefficient c = <u, v> / ||v||^2, distance 1 - cos(u, v) (LLFC, section 3) and
    dist(u, v) = ||u - v||^2 / (||u|| ||v||) (LLFC, section 5). Where the angle is acute, the distance is
    sin^2 / (1 + cos), and sin^2 = ||u - c v||^2 / ||u||^2 keeps its digits.

    Args:
        state: what was seen before.
        batch: u and v, sample by sample.
        mask: (n,), 0 for padding.
    """
    scales, u_square, v_square, coefficient, deviation, residual = batch
    alive = ~((u_square == 0) | (v_square == 0))  # NaN is no zero, and shows
    scale, before, now = joined(state.scale, jnp.where(mask > 0, scales, 0))
    seen = state.dataset_coefficient
    seen = seen._replace(weight=before * seen.weight, squares=before * seen.squares)
    dataset_coefficient = add_moments(seen, deviation, mask * now * v_square)
    u_square, v_square = (jnp.where(alive, square, 1) for square in (u_square, v_square))
    weights = jnp.where(alive, mask, 0)
    cosine = coefficient * jnp.sqrt(v_square / u_square)
    distance = cosine_distance(cosine, residual / u_square)
    dist = (jnp.square(deviation) * v_square + residual) / jnp.sqrt(u_square * v_square)
    return Comparison(
        samples=_add_alike(state.samples, jnp.stack([distance, deviation, dist]), weights),
        dataset_coefficient=dataset_coefficient,
        distances=add_counts(state.distances, distance, weights > 0),
        residual=before * state.residual + jnp.sum(jnp.where(mask > 0, now * residual, 0)),
        scale=scale,
        dead=state.dead + jnp.sum((mask > 0) & ~alive, dtype=jnp.int32),
    )


def cosine_distance(cosine: Array, sine_square: Array) -> Array:
    """1 - cos of an angle: sin^2 / (1 + cos) where it is acute, which keeps the digits of a small one."""
    return jnp.where(cosine > 0, sine_square / (1 + jnp.abs(cosine)), 1 - cosine)


def _origin(u_square: Array, v_square: Array) -> Array:
    return jnp.where(4 * u_square < v_square, 0.0, 1.0)


def _relative(along: Array, v_square: Array) -> Array:
    return along / jnp.where(v_square == 0, 1, v_square)


def _sum_features(x: Array) -> Array:
    return x.sum(range(1, x.ndim))


def summarise(state: Comparison) -> dict[str, Any]:
    """The numbers of a finished comparison, stacked over whatever axes the state has (NaN where undefined).

    Returns:
        `cosine_distance`, `coefficient` and `dist`, each `{mean, std}` over samples (population std), the
        first also with its quartiles `{q25, median, q75}`, right to 7.5 % of themselves; `dataset` with the
        same numbers for the (samples x features) matrices at once; `dead`.
    """
    state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    of_distance, of_coefficient, of_dist = (
        Moments(state.samples.weight, *(leaf[..., at] for leaf in state.samples[1:])) for at in range(3)
    )
    distance = mean_and_std(of_distance)
    return {
        "cosine_distance": distance
        | {
            name: np.where(np.isnan(distance["mean"]), np.nan, quantile(state.distances, fraction))
            for name, fraction in QUARTILES.items()
        },
        "coefficient": mean_and_std(of_coefficient, origin=1.0),
        "dist": mean_and_std(of_dist),
        "dataset": _whole(state),
        "dead": np.asarray(state.dead, int),
    }


def mean_and_std(moments: Moments, origin: float = 0.0) -> dict[str, Any]:
    """`{mean, std}` in float64, the mean counted from `origin`; NaN of nothing."""
    mean = np.asarray(moments.mean, np.float64)
    return {
        "mean": np.where(moments.weight > 0, origin + mean, np.nan),
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
