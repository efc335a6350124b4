"""What is linear in alpha, computed once at both ends instead of at every alpha.

The first layer sees the same input whatever alpha: its output W_alpha x + b_alpha is
(1 - alpha) (W_A x + b_A) + alpha (W_B x + b_B). A network's program is read to find all such values. Those
that depend on nothing but the input, such as normalised images, are computed once as well.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from llfc_jax.path.interpolation import lerp
from llfc_jax.program.flat import Flat, Values, run
from llfc_jax.program.operations import keeps_lines
from llfc_jax.types import Array


def along_line(flat: Flat, a: Mapping[int, Array], b: Mapping[int, Array], alpha: Array) -> Values:
    """All values of the program at theta_alpha, given those at both ends on the same inputs.

    Args:
        flat: the program.
        a: every value at theta_A.
        b: every value at theta_B.
        alpha: scalar in [0, 1].
    """
    known = {
        value: lerp(a[value], b[value], alpha) if flat.leaves[value] else a[value]
        for value in (*range(flat.num_arguments), *flat.constants, *hoisted(flat))
    }
    return run(flat, known)


def hoisted(flat: Flat) -> set[int]:
    """The values that see the input and are linear in alpha, or don't depend on it."""
    linear = {*flat.constants, *range(flat.num_leaves, flat.num_arguments)}
    linear |= {x for x in range(flat.num_leaves) if jnp.issubdtype(flat.avals[x].dtype, jnp.inexact)}
    found: set[int] = set()
    for instruction in flat.instructions:
        if keeps_lines(flat, instruction, linear):
            linear.update(instruction.results)
            found.update(value for value in instruction.results if flat.sees_input[value])
    return found
