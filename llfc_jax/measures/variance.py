"""Variance collapse: how much less the features of theta_alpha vary than those of its ends."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.nodes import unit_rows, with_known_units
from llfc_jax.path.moments import Moments, join_moments, variance
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature whose units are known."""
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        return {"alphas": alphas, "layers": found.folds[TEST]["layers"]}

    return Measure(
        name="variance",
        folds=lambda program: {"layers": Planned(unit_variance(program), alphas)},
        entry=entry,
        along_corrected=True,
        quantities={"ratio": "variance, of that between the ends"},
    )


@by_value
def unit_variance(program: Program) -> Tally:
    """Variance of each unit of theta_alpha over samples and positions, against what REPAIR would restore.

    The ratio is the mean over units of Var(u_alpha) / ((1 - alpha) std(u_A) + alpha std(u_B))^2 (Jordan et
    al. 2023, arXiv 2211.08403, section 3, where it falls towards 0 with depth between permuted networks);
    units that vary at neither end have none.

    Returns:
        The measure; its result is a list of `{layer, kind, ratio}`, lists parallel to the alphas, which must
        begin with 0 and end with 1.
    """
    layers = with_known_units(program, most=2**31)

    def look(point: Point) -> dict[str, tuple[Array, Array, Array]]:
        return {node.name: _moments(*unit_rows(point.theta, node, axis, point.mask)) for node, axis in layers}

    def add(state: dict[str, Moments], seen: dict[str, tuple[Array, Array, Array]]) -> dict[str, Moments]:
        def joined(name: str) -> Moments:
            weight, *others = (np.asarray(leaf, np.float64) for leaf in seen[name])
            return join_moments(state[name], Moments(weight[:, None], *others))

        return {name: joined(name) for name in state}

    def finalize(state: dict[str, Moments], alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        return [
            {
                "layer": node.name,
                "kind": node.label,
                "ratio": variance_ratio(variance(state[node.name]), alphas),
            }
            for node, _ in layers
        ]

    return Tally(look, add, finalize, {node.name: Moments() for node, _ in layers})


def _moments(rows: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Weight of a batch, (), mean and sum of squared deviations, (units,), of (rows, units), zero outside."""
    weight = weights.sum()
    mean = rows.sum(0) / jnp.where(weight > 0, weight, 1)
    return weight, mean, (weights[:, None] * jnp.square(rows - mean[None])).sum(0)


def variance_ratio(variances: np.ndarray, alphas: tuple[float, ...]) -> list[float]:
    """Mean over units of each variance in that of the interpolated standard deviation.

    Args:
        variances: (alphas, units), of A at first and of B at last.
        alphas: from 0 to 1.

    Example:
        >>> variance_ratio(np.array([[4.0, 0.0], [1.0, 0.0], [16.0, 0.0]]), (0.0, 0.5, 1.0))
        [1.0, 0.1111111111111111, 1.0]
    """
    deviations, along = np.sqrt(variances), np.asarray(alphas)[:, None]
    goal = (1 - along) * deviations[0] + along * deviations[-1]
    ratios = (deviations / np.where(goal > 0, goal, np.nan)) ** 2
    return [float(np.mean(row[row == row])) if (row == row).any() else float("nan") for row in ratios]
