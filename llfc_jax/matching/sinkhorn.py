"""A permutation that can be descended: Sinkhorn's doubly stochastic matrix, with an implicit gradient."""

import jax
import jax.numpy as jnp

from llfc_jax.matching.assigning import as_action
from llfc_jax.symmetry.maps import act
from llfc_jax.symmetry.spec import PermutationSpec
from llfc_jax.types import Array, Variables

_SPREAD = 0.1
"""How much of each unit Sinkhorn's matrix of the identity spreads over all the others."""
_ITERATIONS = 200
_TOLERANCE = 1e-4
"""Of sums of rows, where columns sum to 1."""
_RIDGE = 1e-6
"""Of the equations behind the gradient, which a permutation makes singular."""


def permuted_by_sinkhorn(units: PermutationSpec, name: str, free: Array, variables: Variables) -> Variables:
    """A network whose units are mixed by `sinkhorn(free)`: as `permuted_by_assigning`, but smooth."""
    return act(units, as_action(units, name), sinkhorn(free), variables)


def sinkhorn(free: Array) -> Array:
    """The doubly stochastic matrix nearest to `exp(free / tau)` in relative entropy.

    `P = diag(r) exp(free / tau) diag(c)` with rows and columns that sum to 1 (Sinkhorn 1964; for re-basin
    Peña et al., arXiv 2212.12042): units of B mix, and as entries of `free` grow apart, less and less. The
    temperature is such that the identity keeps 9/10 of every unit, whatever n is. Its gradient is that of
    the fixed point, by the implicit function theorem, not of the iterations.

    Example:
        >>> [[f"{x:.2f}" for x in row] for row in sinkhorn(jnp.eye(3))[:2]]
        [['0.90', '0.05', '0.05'], ['0.05', '0.90', '0.05']]
    """
    n = free.shape[-1]
    if n < 2:
        return jnp.ones_like(free)
    return jnp.vectorize(_doubly_stochastic, signature="(n,n)->(n,n)")(
        free * jnp.log((n - 1) * (1 - _SPREAD) / _SPREAD)
    )


@jax.custom_vjp
def _doubly_stochastic(logits: Array) -> Array:
    """Of `exp(logits)`, (n, n), in logarithms, so that nothing overflows."""

    def balanced(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        logits, _, count = state
        logits = logits - jax.nn.logsumexp(logits, axis=1, keepdims=True)
        logits = logits - jax.nn.logsumexp(logits, axis=0, keepdims=True)
        off = jnp.abs(jnp.exp(logits).sum(1) - 1).max()
        return logits, off, count + 1

    def unbalanced(state: tuple[Array, Array, Array]) -> Array:
        return (state[1] > _TOLERANCE) & (state[2] < _ITERATIONS)

    start = (logits, jnp.full((), jnp.inf, logits.dtype), jnp.int32(0))
    return jnp.exp(jax.lax.while_loop(unbalanced, balanced, start)[0])


def _forward(logits: Array) -> tuple[Array, Array]:
    matrix = _doubly_stochastic(logits)
    return matrix, matrix


def _backward(matrix: Array, cotangent: Array) -> tuple[Array]:
    """The cotangent less what changes the sums of rows and columns, in the metric of the matrix.

    A change dX of the logits leaves dP = P * (dX + du_i + dv_j) with du, dv such that all sums of dP are 0,
    a projection that is its own adjoint: u + P v = (P * C) 1, P^T u + v = (P * C)^T 1.
    """
    weighted = matrix * cotangent
    rows, columns = weighted.sum(1), weighted.sum(0)
    n = len(matrix)
    of_columns = (1 + _RIDGE) * jnp.eye(n) - matrix.T @ matrix + 1 / n  # v is known but for a constant
    v = jnp.linalg.solve(of_columns, columns - matrix.T @ rows)
    u = rows - matrix @ v
    return (weighted - matrix * (u[:, None] + v[None]),)


_doubly_stochastic.defvjp(_forward, _backward)
