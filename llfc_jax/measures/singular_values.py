"""Singular values of weights and features, from Gram matrices."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Fold, Point, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.nodes import in_float64, unit_rows, weight_matrices, with_known_units
from llfc_jax.measures.scaling import in_units, joined, largest, power_near
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array

MAX_UNITS = 2048
"""Layers with more units are left out: their Gram matrices would outweigh everything else in memory."""


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature; at the ends, and the alpha of the features' nearest to 1/2.

    The spectra of LLFC's figures 20 to 22: where they are alike, the layers of theta_alpha stretch and fill
    their spaces as those of the ends do.
    """
    alphas = tuple(sorted({0.0, min(options.alphas, key=lambda one: abs(one - 0.5)), 1.0}))
    taken = options.alphas_and_ends  # as effective ranks: XLA makes one program of both

    def entry(found: Found) -> dict[str, Any]:
        weights, along = singular_values_along(found, alphas), found.folds[TEST]["features"]
        features = {name: [values[taken.index(alpha)] for alpha in alphas] for name, values in along.items()}
        layers = [
            {"layer": node.name, "kind": node.label}
            | {
                what: [values.tolist() for values in own[node.name]]
                for what, own in (("features", features), ("weights", weights))
                if node.name in own
            }
            for node in found.program.features
        ]
        return {"alphas": alphas, "layers": layers}

    return Measure(
        name="singular_values",
        folds=lambda program: {"features": Planned(feature_singular_values(program), taken)},
        entry=entry,
    )


class _Grams(NamedTuple):
    """What was seen of the features of all layers."""

    scale: Array
    """(layers,)."""
    products: list[Array]
    """(units, units), sums of products in units of the layer's `scale` squared (see `measures.scaling`)."""


@by_value
def feature_singular_values(program: Program) -> Fold:
    """Singular values of the features of theta_alpha, at every layer.

    Of the matrix with a row for each sample, or for each sample and position of a convolution's feature map,
    and a column for each unit or channel. From the Gram matrix in float32, so that directions weaker than
    3e-4 of the strongest count as none.

    Returns:
        The measure; its result maps each layer (but the too wide ones, and those whose units aren't known) to
        a list parallel to the alphas, of falling singular values.
    """
    layers = with_known_units(program, MAX_UNITS)

    def init(point: Point) -> _Grams:
        del point
        widths = (node.shape[axis] for node, axis in layers)
        return _Grams(jnp.zeros(len(layers)), [jnp.zeros((width, width)) for width in widths])

    def update(state: _Grams, point: Point) -> _Grams:
        if not layers:
            return state
        rows = [unit_rows(point.theta, node, axis, point.mask)[0] for node, axis in layers]
        sizes = jnp.stack([largest(point.theta.features[node.name]) for node, _ in layers])
        size = jnp.where(point.samples > 0, sizes, 0).max(-1, keepdims=True)
        products = map(_products, rows, size)
        scale, before, now = joined(state.scale, power_near(size))
        shares = zip(before, now[:, 0], state.products, products, strict=True)
        return _Grams(scale, [old * seen + new * own for old, new, seen, own in shares])

    def finalize(state: _Grams, alphas: tuple[float, ...]) -> dict[str, list[np.ndarray]]:
        del alphas
        resolution = float(np.finfo(np.float32).eps)
        scales = np.asarray(state.scale, np.float64)
        return {
            node.name: [
                scale * of_gram(gram, resolution) for scale, gram in zip(scales[:, at], grams, strict=True)
            ]
            for at, ((node, _), grams) in enumerate(zip(layers, state.products, strict=True))
        }

    return Fold(init, update, finalize)


def singular_values_along(found: Found, alphas: Sequence[float]) -> dict[str, list[np.ndarray]]:
    """Layer -> singular values, falling, of the weight of every contraction, at each alpha.

    Those of the matrix (out, in * kernel height * width), from its Gram matrix in float64: in less time than
    from the matrix, and exact to 1e-7 of the largest, as weights of float32 themselves are. Once for all
    measures of a path.
    """
    along = [found.once(("singular values", alpha), partial(_at, found, alpha)) for alpha in alphas]
    return {name: [values[name] for values in along] for name in along[0]}


def of_gram(gram: np.ndarray, resolution: float) -> np.ndarray:
    """The roots of the eigenvalues of X^H X, falling; 0 for those below `resolution` of the largest."""
    values = np.linalg.eigvalsh(in_float64(gram))[::-1]
    return np.sqrt(np.where(values > resolution * values.max(initial=0), values, 0))


@jax.jit
def _products(rows: Array, size: Array) -> Array:
    """Sums of products of units, in units of the power of two near the size, (1,), squared."""
    (together,) = in_units(size, rows[None])
    return together[0].T @ together[0]


def _at(found: Found, alpha: float) -> dict[str, np.ndarray]:
    resolution = float(np.finfo(np.float64).eps)
    matrices = weight_matrices(found.program, found.curve.at(alpha))
    grams = {name: x @ x.conj().T if len(x) <= x.shape[1] else x.conj().T @ x for name, x in matrices.items()}
    return {name: of_gram(gram, len(gram) * resolution) for name, gram in grams.items()}
