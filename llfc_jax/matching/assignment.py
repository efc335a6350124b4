"""The linear assignment problem: one name, several exact solvers, usable under `jit` and `vmap`."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from llfc_jax.errors import UserError
from llfc_jax.types import AnyArray, Array


def linear_assignment(similarity: Array, *, implementation: str = "auto") -> Array:
    """The permutation `p` that maximises `sum_i similarity[i, p[i]]`.

    Where several permutations are best, each implementation returns one of them, always the same one for
    the same input; which one differs between implementations.

    A NaN or infinite entry is an error where it can be seen. Under `jit` it cannot, so there NaN and -inf
    count as one range of the finite entries (at least 1) below the least of them and +inf as one above the
    greatest: they are avoided or sought, and every solver terminates.

    Args:
        similarity: Square matrix of floats, `(n, n)`, or a batch of them, `(..., n, n)`; `n` may be 0.
        implementation: A key of `IMPLEMENTATIONS`. "optax" solves on the device. "scipy" calls the host; it
            is faster on CPU and on NVIDIA GPUs. "auto" is "scipy" there and "optax" elsewhere.

    Returns:
        `(n,)`, or `(..., n)`, int32 index array.

    Raises:
        UserError: On an unknown implementation, a matrix that is not square, or a visible NaN or infinity.

    Example:
        >>> linear_assignment(jnp.array([[1.0, 3.0], [2.0, 5.0]])).tolist()
        [0, 1]
    """
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"assignment: expected one of {', '.join(IMPLEMENTATIONS)}, found {implementation!r}")
    similarity = jnp.asarray(similarity)
    if similarity.ndim < 2 or similarity.shape[-2] != similarity.shape[-1]:
        raise UserError(f"similarity: expected a square matrix, found shape {similarity.shape}")
    similarity = similarity.astype(jnp.promote_types(similarity.dtype, jnp.float32))
    if similarity.shape[-1] < 2 or similarity.size == 0:
        return jnp.broadcast_to(jnp.arange(similarity.shape[-1], dtype=jnp.int32), similarity.shape[:-1])
    if not isinstance(similarity, jax.core.Tracer) and not np.isfinite(similarity).all():
        raise UserError("similarity: expected finite entries, found NaN or infinity")

    solve = IMPLEMENTATIONS[implementation]
    for _ in similarity.shape[:-2]:
        solve = jax.vmap(solve)
    return solve(similarity)


def host_assignment(similarity: AnyArray, *, implementation: str = "auto") -> np.ndarray:
    """`linear_assignment` of arrays of NumPy's, by nothing that has to be compiled, if it isn't asked for.

    What is not finite is avoided or sought, as under `jit`.
    """
    if implementation in ("auto", "scipy"):
        return _solve_on_host(similarity)
    return np.asarray(linear_assignment(similarity, implementation=implementation))


def _finite(similarity: Any, np: ModuleType) -> Any:
    """By functions of NumPy, or of JAX's: what the host solves it mends, so that it isn't compiled."""
    finite = np.isfinite(similarity)
    least = np.min(similarity, where=finite, initial=np.inf)
    greatest = np.max(similarity, where=finite, initial=-np.inf)
    least, greatest = (np.where(finite.any(), bound, 0) for bound in (least, greatest))
    margin = np.maximum(greatest - least, 1)
    low, high = least - margin, greatest + margin
    return np.nan_to_num(similarity, nan=low, neginf=low, posinf=high)


@jax.jit
def _optax(similarity: Array) -> Array:
    rows, columns = optax.assignment.hungarian_algorithm(-_finite(similarity, jnp))
    return jnp.zeros_like(columns, jnp.int32).at[rows].set(columns.astype(jnp.int32))


def _scipy(similarity: Array) -> Array:
    shape = jax.ShapeDtypeStruct(similarity.shape[:1], jnp.int32)
    return jax.pure_callback(_solve_on_host, shape, similarity, vmap_method="broadcast_all")


def _solve_on_host(similarity: AnyArray) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment  # takes half a second, which most processes can save

    batch = np.asarray(similarity)
    permutations = np.empty(batch.shape[:-1], np.int32)
    for index in np.ndindex(batch.shape[:-2]):
        finite = batch[index] if np.isfinite(batch[index]).all() else _finite(batch[index], np)
        permutations[index] = linear_sum_assignment(np.negative(finite, dtype=np.float64))[1]
    return permutations


def _auto(similarity: Array) -> Array:
    # On CPU SciPy takes 0.7, 2.5, 9 and 45 ms at n = 128, 256, 512 and 1024, optax 2.3, 7, 31 and 170 ms; on
    # an H100 SciPy takes 1.5, 3.3 and 19 ms at n = 128, 256 and 512, optax 34, 73 and 208 ms: its steps are
    # thousands and tiny.
    return lax.platform_dependent(similarity, cpu=_scipy, cuda=_scipy, default=_optax)


IMPLEMENTATIONS: dict[str, Callable[[Array], Array]] = {"auto": _auto, "optax": _optax, "scipy": _scipy}
"""Name -> solver of an `(n, n)` float matrix, `n >= 2`; what isn't finite is avoided or sought."""
