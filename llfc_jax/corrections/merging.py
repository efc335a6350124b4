"""Many networks merged into one: their weighted mean, mended."""

from collections.abc import Sequence

import jax

from llfc_jax.corrections.correction import Correction, StartStream
from llfc_jax.errors import UserError
from llfc_jax.path.interpolation import mean, shares_of
from llfc_jax.program.nodes import Program
from llfc_jax.runtime import sharding
from llfc_jax.types import Variables


def merged(
    networks: Sequence[Variables],
    weights: Sequence[float] | None,
    correction: Correction | None,
    program: Program,
    data: StartStream,
) -> Variables:
    """The weighted mean of several networks, with a correction's statistics.

    Args:
        networks: of one order of units, as `universe_matching` puts them into.
        weights: one each, of which only the ratios count; equal if None.
        correction: how to mend the mean, if at all.
        program: the networks'.
        data: starts a stream over training data.

    Raises:
        UserError: the networks differ, the weights are not one for each, or the correction is one of pairs
            alone.
    """
    variables = mean(networks, weights)
    if correction is None:
        return variables
    if correction.of_mean is None:
        raise UserError(f"correction: expected one of several networks; found {correction.name!r}, of two")
    known = correction.of_mean(program, networks, shares_of(len(networks), weights), data)
    return jax.jit(correction.mend)(sharding.onto_all(variables), known)
