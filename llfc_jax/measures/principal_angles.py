"""Principal angles between the singular subspaces of the weights of A and B."""

import math
from typing import Any

import numpy as np

from llfc_jax.measures.measure import Found, Measure, Options
from llfc_jax.measures.nodes import weight_matrices
from llfc_jax.program.nodes import Program
from llfc_jax.types import Variables


def measure(options: Options) -> Measure:
    """`{top_k, layers}`, a row for each contraction; of weights alone."""

    def entry(found: Found) -> dict[str, Any]:
        layers = principal_angles(found.program, found.a, found.b, options.top_k)
        return {"top_k": options.top_k, "layers": layers}

    return Measure("principal_angles", lambda program: {}, entry)


def principal_angles(program: Program, a: Variables, b: Variables, k: int) -> list[dict[str, Any]]:
    """Angles (degrees, rising) between the subspaces of the k largest singular values of A's and B's weights.

    Bjorck & Golub (1973), as `scipy.linalg.subspace_angles`. A layer with fewer than k of them has as many
    angles as it has singular values; where they span the whole space, as the outputs of a layer with no more
    than k units, there is nothing to compare and every angle is NaN.

    Args:
        program: the network.
        a: variables of A.
        b: variables of B.
        k: dimension of the subspaces.

    Returns:
        `{layer, kind, left, right}` of each layer; left belongs to the outputs, right to the inputs.
    """
    import scipy.linalg  # takes half a second, which a run that only trains can do without

    def bases(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wide = _wide(matrix)
        strongest = (max(len(wide) - k, 0), len(wide) - 1)
        _, left = scipy.linalg.eigh(_gram(wide), subset_by_index=strongest)
        right, _ = np.linalg.qr(wide.conj().T @ left)
        return (left, right) if wide is matrix else (right, left)

    def angles(of_a: np.ndarray, of_b: np.ndarray) -> list[float]:
        dimension, spanned = of_a.shape
        if dimension == spanned:
            return [math.nan] * spanned
        return np.sort(np.degrees(scipy.linalg.subspace_angles(of_a, of_b))).tolist()

    of_a, of_b = (weight_matrices(program, variables) for variables in (a, b))

    def compared(layer: str) -> dict[str, list[float]]:
        sides = zip(("left", "right"), bases(of_a[layer]), bases(of_b[layer]), strict=True)
        return {side: angles(*pair) for side, *pair in sides}

    return [{"layer": name, "kind": program[name].label} | compared(name) for name in of_a]


def _wide(matrix: np.ndarray) -> np.ndarray:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.conj().T


def _gram(matrix: np.ndarray) -> np.ndarray:
    return matrix @ matrix.conj().T
