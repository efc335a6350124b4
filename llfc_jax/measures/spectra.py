"""What the singular vectors and values of the weights say: principal angles and effective rank."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llfc_jax.measures.commutativity import linear_stages
from llfc_jax.measures.effective_rank import effective_rank, singular_values_of_gram
from llfc_jax.models import Stage
from llfc_jax.types import Variables

SingularValues = Callable[[float], Mapping[str, np.ndarray]]
"""Alpha -> `singular_values` of theta_alpha."""


def singular_values(stages: Sequence[Stage], variables: Variables) -> dict[str, np.ndarray]:
    """Layer -> singular values, falling, of the weights of every linear or convolutional layer.

    Those of the matrix (out, in * kernel height * width), from its Gram matrix in float64: in less time than
    from the matrix, and exact to 1e-7 of the largest, as weights of float32 themselves are.
    """
    kernels = {name: variables["params"][name]["kernel"] for name in linear_stages(stages)}
    resolution = float(np.finfo(np.float64).eps)
    grams = {name: _gram(_wide(_matrix(kernel))) for name, kernel in kernels.items()}
    return {name: singular_values_of_gram(gram, len(gram) * resolution) for name, gram in grams.items()}


def principal_angles(stages: Sequence[Stage], a: Variables, b: Variables, k: int) -> list[dict[str, Any]]:
    """Angles (degrees, rising) between the subspaces of the k largest singular values of A's and B's weights.

    Bjorck & Golub (1973), as `scipy.linalg.subspace_angles`. A layer with fewer than k of them has as many
    angles as it has singular values; where they span the whole space, as the outputs of a layer with no more
    than k units, there is nothing to compare and every angle is NaN.

    Args:
        stages: of the network, in forward order.
        a: variables of A.
        b: variables of B.
        k: dimension of the subspaces.

    Returns:
        `{layer, kind, left, right}` of each layer; left belongs to the outputs, right to the inputs.
    """
    import scipy.linalg  # takes half a second, which a run that only trains can do without

    def bases(variables: Variables, layer: str) -> tuple[np.ndarray, np.ndarray]:
        matrix = _matrix(variables["params"][layer]["kernel"])
        wide = _wide(matrix)
        strongest = (max(len(wide) - k, 0), len(wide) - 1)
        _, left = scipy.linalg.eigh(_gram(wide), subset_by_index=strongest)
        right, _ = np.linalg.qr(wide.T @ left)
        return (left, right) if wide is matrix else (right, left)

    def angles(of_a: np.ndarray, of_b: np.ndarray) -> list[float]:
        dimension, spanned = of_a.shape
        if dimension == spanned:
            return [math.nan] * spanned
        return np.sort(np.degrees(scipy.linalg.subspace_angles(of_a, of_b))).tolist()

    def compared(layer: str) -> dict[str, list[float]]:
        sides = zip(("left", "right"), bases(a, layer), bases(b, layer), strict=True)
        return {side: angles(of_a, of_b) for side, of_a, of_b in sides}

    return [
        {"layer": name, "kind": stage.kind} | compared(name) for name, stage in linear_stages(stages).items()
    ]


def weight_ranks(
    stages: Sequence[Stage], values: SingularValues, alphas: Sequence[float]
) -> dict[str, list[float]]:
    """Layer -> effective rank of the weights of theta_alpha, parallel to the alphas."""
    names = linear_stages(stages)
    return {name: [effective_rank(values(alpha)[name]) for alpha in alphas] for name in names}


def _matrix(kernel: np.ndarray) -> np.ndarray:
    """(..., in, out) -> (out, rest); left vectors and values don't depend on the order of the rest."""
    kernel = np.asarray(kernel, np.float64)
    return kernel.reshape(-1, kernel.shape[-1]).T


def _wide(matrix: np.ndarray) -> np.ndarray:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def _gram(matrix: np.ndarray) -> np.ndarray:
    return matrix @ matrix.T
