"""Checks that a permuted network computes the same function."""

from collections.abc import Callable

import jax
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.program.widening import in_single_precision
from llfc_jax.types import PyTree

_REPEATABLE = 1e-4
"""Largest relative difference that parallel reductions may cause between two runs of one model."""


def _relative_error(outputs: PyTree, reference: PyTree) -> float:
    """Returns the largest over all arrays of max |outputs − reference| / max |reference|; inf for NaN."""

    def error(output: PyTree, expected: PyTree) -> float:
        x, y = (np.asarray(array) for array in (output, expected))
        if x.shape != y.shape:
            raise UserError(f"apply: expected outputs of one shape; found {y.shape} and {x.shape}")
        widest = np.complex128 if np.iscomplexobj(y) else np.float64
        x, y = x.astype(widest), y.astype(widest)
        with np.errstate(invalid="ignore"):
            difference = np.where(x == y, 0.0, np.abs(x - y))  # equal infinities agree
        scale = np.max(np.abs(y), initial=np.finfo(np.float32).tiny, where=np.isfinite(y))
        return float(np.nan_to_num(np.max(difference, initial=0.0) / scale, nan=np.inf, posinf=np.inf))

    found, expected = map(str, map(jax.tree.structure, (outputs, reference)))
    if found != expected:
        raise UserError(f"apply: expected outputs of one structure; found {expected} and {found}")
    return max(jax.tree.leaves(jax.tree.map(error, outputs, reference)), default=0.0)


def check_deterministic(apply: Callable[..., PyTree], variables: PyTree, *inputs: PyTree) -> PyTree:
    """Runs a model twice and returns its outputs.

    Raises:
        UserError: the two runs differ.
    """
    outputs, again = apply(variables, *inputs), apply(variables, *inputs)
    error = _relative_error(again, outputs)
    if np.isfinite(error) and error > _REPEATABLE:
        raise UserError(
            f"apply is not deterministic: two runs on the same inputs differ by {error:.1e} of the largest "
            "output; switch off dropout and other randomness"
        )
    return outputs


def check_equivalence(
    apply: Callable[..., PyTree], variables: PyTree, permuted: PyTree, *inputs: PyTree
) -> float:
    """Measures by how much permuting a network changed its outputs.

    Runs at the highest matmul precision, so that the result on an accelerator is rounding error and no more.
    For the same reason what a network computes in bfloat16 or float16 is computed in single precision.

    Args:
        apply: `apply(variables, *inputs)` returns an array or a pytree of arrays.
        variables: the network.
        permuted: the permuted network.
        *inputs: the inputs to compare on.

    Returns:
        max |f(permuted) − f(variables)| / max |f(variables)|; inf if an output is NaN.

    Raises:
        UserError: `apply` is not deterministic, or there are no outputs to compare.
    """
    with jax.default_matmul_precision("highest"):
        reference = check_deterministic(apply, variables, *inputs)
        if not sum(np.size(output) for output in jax.tree.leaves(reference)):
            raise UserError("apply: expected outputs to compare; found none, as of no examples")
        if (wide := in_single_precision(apply, variables, *inputs)) is not None:
            apply, reference = wide, wide(variables, *inputs)
        return _relative_error(apply(permuted, *inputs), reference)
