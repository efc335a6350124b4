"""Variance collapse: how much less the features of theta_alpha vary than those of its ends."""

from typing import Any

import jax
import numpy as np

from llfc_jax.measures.fold import Fold, Point, by_value, repeat
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.nodes import unit_rows, with_known_units
from llfc_jax.path.moments import Moments, add_moments, no_moments, variance
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Node, Program


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
def unit_variance(program: Program) -> Fold:
    """Variance of each unit of theta_alpha over samples and positions, against what REPAIR would restore.

    The ratio is the mean over units of Var(u_alpha) / ((1 - alpha) std(u_A) + alpha std(u_B))^2 (Jordan et
    al. 2023, arXiv 2211.08403, section 3, where it falls towards 0 with depth between permuted networks);
    units that vary at neither end have none.

    Returns:
        The measure; its result is a list of `{layer, kind, ratio}`, lists parallel to the alphas, which must
        begin with 0 and end with 1.
    """
    layers = with_known_units(program, most=2**31)

    def init(point: Point) -> dict[str, Moments]:
        del point
        return {node.name: repeat(no_moments(), node.shape[axis]) for node, axis in layers}

    def update(state: dict[str, Moments], point: Point) -> dict[str, Moments]:
        def seen(node: Node, axis: int) -> Moments:
            rows, weights = unit_rows(point.theta, node, axis, point.mask)
            return jax.vmap(add_moments, (0, 1, None))(state[node.name], rows, weights)

        return {node.name: seen(node, axis) for node, axis in layers}

    def finalize(state: dict[str, Moments], alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        return [
            {
                "layer": node.name,
                "kind": node.label,
                "ratio": variance_ratio(variance(state[node.name]), alphas),
            }
            for node, _ in layers
        ]

    return Fold(init, update, finalize)


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
