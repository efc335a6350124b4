"""Training a curve: its bend moves until the networks along it have a low loss."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax

from llfc_jax.errors import UserError
from llfc_jax.path.curves import BENT, Curve
from llfc_jax.path.descent import Budget, LossFn, descend
from llfc_jax.path.interpolation import check_same_structure, lerp
from llfc_jax.types import PRNGKey, Variables


def bend(
    key: PRNGKey,
    a: Variables,
    b: Variables,
    *,
    kind: str,
    loss_fn: LossFn,
    batches: Callable[[], Iterable[Any]],
    budget: Budget,
) -> tuple[Curve, list[float]]:
    """The curve from A to B along which the expected loss over a uniform alpha is least.

    Garipov et al. 2018 (arXiv 1802.10026, equation 2): each step takes one batch and one alpha, and moves the
    bend C alone, by Adam under a cosine schedule, from the middle of the line: there the curve is the line.
    What BatchNorm does is up to `loss_fn`; where it normalises by the batch, running statistics stay those of
    the middle, and have to be recomputed along the curve.

    Args:
        key: draws an alpha for each step.
        a: variables of A.
        b: variables of B.
        kind: `bezier` or `polygon`.
        loss_fn: traced under jit.
        batches: starts a stream over training data; started again until there are enough.
        budget: of the training.

    Returns:
        The curve, and the loss of each step.

    Raises:
        UserError: A and B differ in structure, the kind is unknown, there are no batches, or the loss ends up
            as no number.
    """
    if kind not in BENT:
        raise UserError(f"kind: expected one of {', '.join(BENT)}; found {kind!r}")
    check_same_structure(a, b)
    point = partial(_on_curve, kind)
    found, losses = descend(
        key, lerp(a, b, 0.5), point, (a, b), loss_fn=loss_fn, batches=batches, budget=budget
    )
    return Curve(a, b, None, found, kind), losses


def _on_curve(kind: str, ends: tuple[Variables, Variables], middle: Variables, key: PRNGKey) -> Variables:
    return Curve(*ends, None, middle, kind).at(jax.random.uniform(key))
