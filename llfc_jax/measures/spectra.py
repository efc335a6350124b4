"""What the singular vectors and values of the weights say: principal angles and effective rank."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from llfc_jax.interpolation import lerp
from llfc_jax.measures.commutativity import linear_stages
from llfc_jax.measures.effective_rank import effective_rank
from llfc_jax.models import Stage
from llfc_jax.types import Variables


class Spectrum(NamedTuple):
    """Singular value decomposition of one layer's weights, seen as (out, in * kernel height * width)."""

    left: np.ndarray
    """(out, r), r the smaller side."""
    values: np.ndarray
    """(r,), falling."""
    right: np.ndarray
    """(in * kernel height * width, r)."""


def spectra(stages: Sequence[Stage], variables: Variables) -> dict[str, Spectrum]:
    """Layer -> spectrum, in float64, for every linear or convolutional layer."""
    return {name: _spectrum(variables["params"][name]["kernel"]) for name in linear_stages(stages)}


def principal_angles(
    stages: Sequence[Stage], a: dict[str, Spectrum], b: dict[str, Spectrum], k: int
) -> list[dict[str, Any]]:
    """Angles (degrees, rising) between the subspaces of the k largest singular values of A's and B's weights.

    Bjorck & Golub (1973), as `scipy.linalg.subspace_angles`. A layer with fewer than k of them has as many
    angles as it has singular values.

    Args:
        stages: of the network, in forward order.
        a: spectra of A.
        b: spectra of B.
        k: dimension of the subspaces.

    Returns:
        `{layer, kind, left, right}` of each layer; left belongs to the outputs, right to the inputs.
    """

    def angles(side: str, layer: str) -> list[float]:
        bases = (getattr(spectrum[layer], side)[:, :k] for spectrum in (a, b))
        return np.sort(np.degrees(scipy.linalg.subspace_angles(*bases))).tolist()

    return [
        {"layer": name, "kind": stage.kind, "left": angles("left", name), "right": angles("right", name)}
        for name, stage in linear_stages(stages).items()
    ]


def weight_ranks(
    stages: Sequence[Stage], a: Variables, b: Variables, alphas: Sequence[float]
) -> dict[str, list[float]]:
    """Layer -> effective rank of the weights of theta_alpha, parallel to the alphas."""
    along = [spectra(stages, lerp(a, b, alpha)) for alpha in alphas]
    return {
        name: [effective_rank(spectrum[name].values) for spectrum in along] for name in linear_stages(stages)
    }


def _spectrum(kernel: np.ndarray) -> Spectrum:
    """Of a kernel (..., in, out), whose order of rows the left vectors and the values don't depend on."""
    matrix = np.asarray(kernel, np.float64)
    left, values, right = scipy.linalg.svd(matrix.reshape(-1, matrix.shape[-1]).T, full_matrices=False)
    return Spectrum(left, values, right.T)
