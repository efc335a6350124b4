"""What every matcher reports of its search."""

from typing import NamedTuple

from llfc_jax.types import Array


class MatchInfo(NamedTuple):
    """How the search went; the objective's meaning is the method's own.

    Weight matching: `<A, pi(B)>`, higher is better. Activation matching: the summed similarity of matched
    units, higher is better. Straight-through: the loss of the midpoint, in nats for a cross-entropy, lower is
    better.

    Attributes:
        objective: `(n,)`, `n > sweeps`: at the start and after each sweep; the last value repeats.
        sweeps: int32, how many passes over the permutations, the data or both were made.
        converged: bool, whether the last sweep left nothing to improve; never where nothing can be permuted.
        restart_objectives: `(restarts,)` what each descent ended at; a method that doesn't restart has one.
        fixed: what holds axes of the networks' arrays fixed, a line each: where these are long, the networks
            may have symmetries that were not looked at.
    """

    objective: Array
    sweeps: Array
    converged: Array
    restart_objectives: Array
    fixed: tuple[str, ...] = ()
