"""Singular values, from Gram matrices."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from llfc_jax.measures.measure import Found
from llfc_jax.measures.nodes import in_float64, weight_matrices
from llfc_jax.path.interpolation import lerp


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


def _at(found: Found, alpha: float) -> dict[str, np.ndarray]:
    resolution = float(np.finfo(np.float64).eps)
    matrices = weight_matrices(found.program, lerp(found.a, found.b, alpha))
    grams = {name: x @ x.conj().T if len(x) <= x.shape[1] else x.conj().T @ x for name, x in matrices.items()}
    return {name: of_gram(gram, len(gram) * resolution) for name, gram in grams.items()}
