"""What the singular vectors and values of the weights say: principal angles and effective rank."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

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
    angles as it has singular values; where they span the whole space, as the outputs of a layer with no more
    than k units, there is nothing to compare and every angle is NaN.

    Args:
        stages: of the network, in forward order.
        a: spectra of A.
        b: spectra of B.
        k: dimension of the subspaces.

    Returns:
        `{layer, kind, left, right}` of each layer; left belongs to the outputs, right to the inputs.
    """
    import scipy.linalg  # takes half a second, which a run that only trains can do without

    def angles(side: str, layer: str) -> list[float]:
        bases = [getattr(spectrum[layer], side)[:, :k] for spectrum in (a, b)]
        dimension, spanned = bases[0].shape
        if dimension == spanned:
            return [math.nan] * spanned
        return np.sort(np.degrees(scipy.linalg.subspace_angles(*bases))).tolist()

    return [
        {"layer": name, "kind": stage.kind, "left": angles("left", name), "right": angles("right", name)}
        for name, stage in linear_stages(stages).items()
    ]


def weight_ranks(
    stages: Sequence[Stage], a: Variables, b: Variables, alphas: Sequence[float]
) -> dict[str, list[float]]:
    """Layer -> effective rank of the weights of theta_alpha, parallel to the alphas."""

    def rank(name: str, alpha: float) -> float:
        kernel = lerp(a["params"][name]["kernel"], b["params"][name]["kernel"], alpha)
        return effective_rank(np.linalg.svd(_matrix(kernel), compute_uv=False))

    return {name: [rank(name, alpha) for alpha in alphas] for name in linear_stages(stages)}


def _spectrum(kernel: np.ndarray) -> Spectrum:
    """Of a kernel (..., in, out), whose order of rows the left vectors and the values don't depend on."""
    left, values, right = np.linalg.svd(_matrix(kernel), full_matrices=False)
    return Spectrum(left, values, right.T)


def _matrix(kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, np.float64)
    return kernel.reshape(-1, kernel.shape[-1]).T
