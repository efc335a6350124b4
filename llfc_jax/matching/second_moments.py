"""Second moments of the inputs of every layer in two networks, streamed over data."""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from llfc_jax.errors import UserError
from llfc_jax.program.flat import arguments, flatten, run
from llfc_jax.symmetry.contractions import Contraction, entry_matrices
from llfc_jax.types import Array, PyTree, Variables


class Moments(NamedTuple):
    """Of the inputs H_A, H_B of one layer, each `(batch, columns, columns)`: sums over samples and positions.

    Attributes:
        samples: scalar, how many.
        aa: sum of H_A H_A^T.
        ab: sum of H_A H_B^T.
        bb: sum of H_B H_B^T.
    """

    samples: Array
    aa: Array
    ab: Array
    bb: Array


def second_moments(
    layers: Sequence[Contraction],
    apply: Callable[[Variables, Any], PyTree],
    variables_a: Variables,
    variables_b: Variables,
    batches: Iterable[Any],
) -> tuple[Moments, ...]:
    """The moments of every layer over at least one batch, each divided by the number of samples.

    One pass; memory is that of one batch's activations and of the moments.

    Raises:
        UserError: an activation is NaN or infinite.
    """

    @jax.jit
    def observe(variables_a: Variables, variables_b: Variables, batch: Any) -> list[Moments]:
        flat = flatten(apply, variables_a, batch)  # anew for each size of batch, with the same numbers
        a, b = (run(flat, arguments(flat, variables, batch)) for variables in (variables_a, variables_b))
        samples = jnp.float32(len(jax.tree.leaves(batch)[0]))
        return [
            _moments(samples, *(entry_matrices(flat, layer, values) for values in (a, b))) for layer in layers
        ]

    @jax.jit
    def add(total: list[Moments], new: list[Moments]) -> list[Moments]:
        return jax.tree.map(jnp.add, total, new)

    total = reduce(add, (observe(variables_a, variables_b, batch) for batch in batches))
    for name, moments in (("A", [m.aa for m in total]), ("B", [m.bb for m in total])):
        if not all(bool(jnp.isfinite(array).all()) for array in moments):
            raise UserError(f"activations in {name}: expected finite numbers, found NaN or infinity")
    return tuple(Moments(m.samples, *(array / m.samples for array in m[1:])) for m in total)


def _moments(samples: Array, a: Array, b: Array) -> Moments:
    def product(x: Array, y: Array) -> Array:
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        return jnp.einsum("boi,boj->bij", x, y, precision=lax.Precision.HIGHEST, preferred_element_type=dtype)

    return Moments(samples, product(a, a), product(a, b), product(b, b))
