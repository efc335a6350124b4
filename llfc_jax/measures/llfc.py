"""Layerwise linear feature connectivity (LLFC, Definition 2)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.comparison import (
    Comparison,
    Decomposition,
    compare,
    cosine_distance,
    mean_and_std,
    summarise,
)
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.layerwise import (
    Split,
    compare_layers,
    decompositions,
    rows,
    single,
    sized,
    split_layers,
)
from llfc_jax.measures.measure import ANYWHERE, TEST, Found, Measure, Options
from llfc_jax.measures.scaling import largest
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.moments import Moments, add_moments
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature."""

    def folds(program: Program) -> dict[str, Planned]:
        layers = {node.name: node.label for node in program.features if node.sample_axis is not None}
        return {
            "path": Planned(llfc(layers), options.alphas),
            "baseline": Planned(baseline(layers, options.alphas), ANYWHERE),
        }

    def entry(found: Found) -> dict[str, Any]:
        own = found.folds[TEST]
        return {"alphas": options.alphas, "layers": join(own["path"], own["baseline"])}

    return Measure("llfc", folds, entry, along_corrected=True)


class Ends(NamedTuple):
    """How far the features of A and B lie from each other, and from what lies between them."""

    apart: Comparison = Comparison()
    """Of A with B, (1, layers)."""
    from_a: Moments = Moments()
    """Of 1 - cos(f_A, v) over samples, (1, layers, alphas)."""
    from_b: Moments = Moments()
    """The same of B."""


@by_value
def llfc(layers: Mapping[str, str]) -> Tally:
    """Compare the features of theta_alpha with the interpolated features of A and B, at every layer.

    With u = f^(l)(theta_alpha) and v = (1 - alpha) f^(l)(theta_A) + alpha f^(l)(theta_B), LLFC says u = v / c
    for some c > 0. It holds where 1 - cos(u, v) is far below what the nearer end has for u: see `baseline`.

    Args:
        layers: name -> kind of the layers to compare, in forward order.
    """
    return compare_layers(layers, _on_the_path)


@by_value
def baseline(layers: Mapping[str, str], alphas: tuple[float, ...]) -> Tally:
    """What LLFC is measured against: the ends, compared with each other and with what lies between them.

    1 - cos(f_A, f_B) says how different two networks are. The scale of LLFC is 1 - cos(f_end, v) of the end
    that is nearer to v on average: what a path would have that didn't move from there. At alpha = 1/2 it is
    about a quarter of the first. It follows from the same split of f_A into a part along f_B and the rest,
    so that no feature is looked at again.

    Args:
        layers: name -> kind of the layers to compare, in forward order.
        alphas: where on the path. The measure itself is taken at any one alpha.
    """

    def add(state: Ends, seen: Split | None) -> Ends:
        if seen is None:
            return state
        parts, samples = decompositions(seen), seen.samples[:, None]
        of_each = Decomposition(*(field[..., None, :] for field in parts))
        distances = between_ends(of_each, np.asarray(alphas)[:, None])
        from_a, from_b = (
            _add_defined(moments, new, samples[..., None, :])
            for moments, new in zip((state.from_a, state.from_b), distances, strict=True)
        )
        return Ends(compare(state.apart, parts, samples), from_a, from_b)

    def finalize(state: Ends, at: tuple[float, ...]) -> list[dict[str, Any]]:
        del at
        return rows(layers, state, lambda own: summarise(own.apart) | {"end": _nearer(own)})

    return Tally(partial(split_layers, layers, _at_the_ends), add, finalize, Ends())


def join(path: list[dict[str, Any]], ends: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each layer's LLFC with what it is measured against (a single point), as `results.json` has them."""
    return [
        layer | {"end": end["end"], "baseline": single(end, "cosine_distance") | {"dead": end["dead"][0]}}
        for layer, end in zip(path, ends, strict=True)
    ]


@np.errstate(all="ignore")  # of samples that are not alive
def between_ends(parts: Decomposition, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 - cos(f_A, v) and 1 - cos(f_B, v) with v = (1 - alpha) f_A + alpha f_B, sample by sample.

    With f_A = c f_B + r, v = ((1 - alpha) c + alpha) f_B + (1 - alpha) r; with f_B = c' f_A + r' the same of
    A, where c' ||f_A||^2 = c ||f_B||^2 and ||r'|| ||f_A|| = ||r|| ||f_B||.

    Args:
        parts: of f_A and f_B, see `comparison.decompose`.
        alpha: that goes with them.

    Returns:
        Both (..., n); NaN where a network's feature, or v, is zero.
    """
    a, b = parts.u_square, parts.v_square
    alive = ~((a == 0) | (b == 0))
    ratio = b / np.where(alive, a, 1)
    return (
        _turned(alive, a, (1 - alpha) + alpha * ratio * parts.coefficient, alpha**2 * ratio * parts.residual),
        _turned(alive, b, (1 - alpha) * parts.coefficient + alpha, (1 - alpha) ** 2 * parts.residual),
    )


def _turned(
    alive: np.ndarray, square: np.ndarray, coefficient: np.ndarray, across_square: np.ndarray
) -> np.ndarray:
    """1 - cos between f and coefficient * f + r, of squared norms; NaN where there is no angle."""
    along_square = np.square(coefficient) * square
    whole = along_square + across_square
    alive = alive & (whole != 0)
    whole = np.where(alive, whole, 1)
    cosine = np.sign(coefficient) * np.sqrt(along_square / whole)
    return np.where(alive, cosine_distance(cosine, across_square / whole), np.nan)


def _add_defined(moments: Moments, values: np.ndarray, mask: np.ndarray) -> Moments:
    return add_moments(moments, values, np.where(np.isnan(values), 0, mask))


def _nearer(ends: Ends) -> dict[str, np.ndarray]:
    """`{mean, std}` of the end with the smaller mean at each alpha; states (layers, 1, alphas)."""
    a, b = (mean_and_std(moments) for moments in (ends.from_a, ends.from_b))
    return {name: np.where(b["mean"] < a["mean"], b[name], a[name])[:, 0] for name in a}


def _at_the_ends(point: Point, layer: str) -> tuple[Array, Array, Array]:
    return sized(point.a.features[layer], point.b.features[layer])


def _on_the_path(point: Point, layer: str) -> tuple[Array, Array, Array]:
    theta, (a, b, size) = point.theta.features[layer], _at_the_ends(point, layer)
    return theta, lerp(a, b, point.alpha), jnp.maximum(largest(theta), size)  # the ends' is found once
