"""How alike two features are: cosine distance and coefficient, per sample and over the whole dataset."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Moments, add_moments, no_moments
from llfc_jax.types import Array


class Comparison(NamedTuple):
    """State of the comparison of a stream of u with a stream of v.

    The coefficients and the dataset's sums are those of the residual r = u - c v for a fixed reference c, the
    coefficient of the first batch: for u nearly parallel to v they stay small, so that deviations don't drown
    in rounding as they would in <u, u>, <u, v> and <v, v>.
    """

    distance: Moments
    coefficient: Moments
    """Of <u, v> / ||v||^2 - c."""
    dead: Array
    """Number of samples for which u or v is zero; they have no angle and enter nothing else."""
    reference: Array
    """c."""
    residual: Array
    """sum ||r||^2."""
    overlap: Array
    """sum <r, v>."""
    norm: Array
    """sum ||v||^2."""


def no_comparison() -> Comparison:
    """The state before the first batch."""
    return Comparison(no_moments(), no_moments(), *(jnp.zeros(()) for _ in range(5)))


def compare(state: Comparison, u: Array, v: Array, mask: Array) -> Comparison:
    """Add one batch.

    Per sample, distance = 1 - cos(u, v), computed as half of ||u/||u|| - v/||v||||^2, which keeps its digits
    when it is tiny, and coefficient = <u, v> / ||v||^2 (LLFC, section 3).

    Args:
        state: what was seen before.
        u: (n, ...) features.
        v: (n, ...) features, compared with `u` sample by sample.
        mask: (n,), 0 for padding.
    """
    u, v = (jnp.asarray(x, jnp.float32).reshape(x.shape[0], -1) for x in (u, v))
    u_square, v_square, product = jnp.square(u).sum(-1), jnp.square(v).sum(-1), (u * v).sum(-1)
    alive = (u_square > 0) & (v_square > 0)
    weights = jnp.where(alive, mask, 0)
    u_scale, v_scale = (jnp.where(alive, square, 1) ** -0.5 for square in (u_square, v_square))
    distance = 0.5 * jnp.square(u * u_scale[:, None] - v * v_scale[:, None]).sum(-1)

    batch_coefficient = jnp.vdot(mask, product) / jnp.maximum(jnp.vdot(mask, v_square), 1e-30)
    reference = jnp.where(state.norm > 0, state.reference, batch_coefficient)
    r = u - reference * v
    overlap = (r * v).sum(-1)
    return Comparison(
        distance=add_moments(state.distance, distance, weights),
        coefficient=add_moments(state.coefficient, overlap / jnp.where(alive, v_square, 1), weights),
        dead=state.dead + jnp.vdot(mask, ~alive),
        reference=reference,
        residual=state.residual + jnp.vdot(mask, jnp.square(r).sum(-1)),
        overlap=state.overlap + jnp.vdot(mask, overlap),
        norm=state.norm + jnp.vdot(mask, v_square),
    )


def summarise(state: Comparison) -> dict[str, Any]:
    """The numbers of a finished comparison, stacked over whatever axes the state has (NaN where undefined).

    Returns:
        `cosine_distance` and `coefficient`, each `{mean, std}` over samples (population std); `dataset` with
        the same two numbers for the (samples x features) matrices at once; `dead`.
    """
    state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    return {
        "cosine_distance": _mean_and_std(state.distance),
        "coefficient": _mean_and_std(state.coefficient, origin=state.reference),
        "dataset": _whole(state),
        "dead": np.asarray(state.dead, int),
    }


def _mean_and_std(moments: Moments, origin: Any = 0.0) -> dict[str, Any]:
    defined = moments.weight > 0
    weight = np.where(defined, moments.weight, 1)
    return {
        "mean": np.where(defined, origin + moments.mean, np.nan),
        "std": np.where(defined, np.sqrt(moments.squares / weight), np.nan),
    }


def _whole(state: Comparison) -> dict[str, Any]:
    """With r = u - c v the coefficient is c + <r, v> / ||v||^2; what of r is orthogonal to v makes sin^2."""
    v_norm = np.where(state.norm > 0, state.norm, np.nan)
    coefficient = state.reference + state.overlap / v_norm
    orthogonal = np.maximum(state.residual - state.overlap**2 / v_norm, 0)
    u_norm = coefficient**2 * v_norm + orthogonal
    u_norm = np.where(u_norm > 0, u_norm, np.nan)
    cosine = coefficient * np.sqrt(v_norm / u_norm)
    distance = np.where(cosine > 0, orthogonal / u_norm / (1 + np.abs(cosine)), 1 - cosine)
    return {"cosine_distance": distance, "coefficient": coefficient}
