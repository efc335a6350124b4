"""Where alignment fails: the barrier of networks with ever more constraints, down to the ordinary line."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax

from llfc_jax.matching.alignment import DEFAULTS, Aligned, align
from llfc_jax.matching.loosened import CONSTRAINTS, Loosened, loosened
from llfc_jax.matching.losses import batches_for, mean_loss
from llfc_jax.matching.problem import Matcher
from llfc_jax.path.interpolation import lerp
from llfc_jax.types import Array, Batch, PRNGKey, PyTree, Variables

Apply: TypeAlias = Callable[[Variables, Any], PyTree]
LossOf: TypeAlias = Callable[[Apply], Callable[[Variables, Batch], Array]]
"""Of a network, variables and a batch -> its mean loss."""

FREE = "none of the constraints"
"""The first rung."""


class ConstraintRung(NamedTuple):
    """The barrier with some of a network's constraints.

    Attributes:
        added: the constraint that this rung adds, in words; `FREE` on the first.
        barrier: loss of the midpoint less the mean of the ends', in nats.
        cost: by how much it rose; on the first the barrier itself, so that all costs sum to the last barrier.
    """

    added: str
    barrier: float
    cost: float


def constraint_ladder(
    key: PRNGKey,
    a: Variables,
    b: Variables,
    *,
    method: str | Matcher,
    apply: Apply,
    loss_of: LossOf,
    batches: Callable[[], Iterable[Batch]],
    inputs: Callable[[], Iterable[PyTree]],
    options: Mapping[str, Any] = DEFAULTS,
    known: Sequence[ConstraintRung] = (),
    keep: Callable[[Sequence[ConstraintRung]], None] = lambda rungs: None,
) -> tuple[ConstraintRung, ...]:
    """Barriers after aligning B with none of its constraints, then with one more on each rung.

    The first rung's network has an array of its own for each map that constraints hold to be the identity or
    another's (`matching.loosened`); the last is the network itself, aligned as by `align`. The costs sum to
    its barrier: the dearest rung is where alignment fails. Without constraints there is one rung.

    Args:
        key: see `align`, as all others but the next.
        a: variables of A.
        b: variables of B.
        method: the same.
        apply: the same.
        loss_of: the loss of a larger network.
        batches: the same; the barriers are means over them.
        inputs: the same.
        options: the same.
        known: rungs of the same ladder that were climbed before.
        keep: takes all rungs so far, after each.

    Raises:
        UserError: as `align`.
    """
    some = next(iter(inputs()))
    network = loosened(apply, a, some)
    match = partial(align, key, method=method, batches=batches, inputs=inputs, options=options)
    rungs = [*known]
    for rung, added in enumerate((None, *network.constraints)):
        network = network if added is None else network.with_again(added)
        if rung < len(known):
            continue
        barrier = _barrier(network, a, b, some, loss_of, match, batches)
        said = FREE if added is None else CONSTRAINTS[added]
        rungs.append(ConstraintRung(said, barrier, barrier - (rungs[-1].barrier if rungs else 0.0)))
        keep(rungs)
    return tuple(rungs)


def _barrier(
    network: Loosened,
    a: Variables,
    b: Variables,
    some: PyTree,
    loss_of: LossOf,
    match: Callable[..., Aligned],
    batches: Callable[[], Iterable[Batch]],
) -> float:
    """Of one rung; the network itself where nothing is loosened."""
    free = bool(network.edges)
    apply = jax.jit(network.apply) if free else network.whole
    a, b = (network.variables(x, some) if free else x for x in (a, b))
    loss = loss_of(apply)
    found = match(a, b, apply=apply, loss=loss)
    seen, compiled = batches_for(loss, a, batches()), jax.jit(loss)
    points = (a, lerp(a, found.variables, 0.5), found.variables)
    first, middle, last = (mean_loss(partial(compiled, point), seen) for point in points)
    return middle - (first + last) / 2
