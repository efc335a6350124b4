"""Putting B into A's basin: symmetries, a matcher, the permuted network, and a check that it is still B."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from llfc_jax.errors import UserError
from llfc_jax.matching import MatchInfo, activation_matching, straight_through, weight_matching
from llfc_jax.matching.leaves import by_path, check_finite
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.symmetry import (
    PermutationSpec,
    apply_permutation,
    check_deterministic,
    check_equivalence,
    describe,
    permutation_spec,
)
from llfc_jax.types import Array, Batch, Permutation, PRNGKey, Variables

MAX_EQUIVALENCE_ERROR = 1e-3
"""Relative error of the permuted network's logits above which something is wrong, not just rounded."""


class Aligned(NamedTuple):
    """B, permuted towards A."""

    variables: Variables
    permutation: Permutation
    summary: dict[str, Any]
    """For `results.json`."""


class Problem(NamedTuple):
    """What a matcher may look at."""

    spec: PermutationSpec
    a: Variables
    b: Variables
    apply: Callable[[Variables, Array], Array]
    """Images -> logits, in evaluation mode."""
    loss: Callable[[Variables, Batch], Array]
    """Mean loss of a batch, BatchNorm using the statistics of the batch."""
    batches: Callable[[], Iterable[Batch]]
    """Starts a stream of training data, in batches of one size."""


Found = tuple[Permutation, MatchInfo]


def by_weights(key: PRNGKey, problem: Problem, config: Mapping[str, Any]) -> Found:
    """Weight matching, with restarts."""
    spec, a, b = problem[:3]
    return weight_matching(key, spec, a, b, restarts=config["restarts"], max_sweeps=config["max_sweeps"])


def by_activations(key: PRNGKey, problem: Problem, config: Mapping[str, Any]) -> Found:
    """Activation matching over the alignment data."""
    images = (batch.images for batch in problem.batches())
    return activation_matching(
        key, *problem[:3], apply=problem.apply, batches=images, statistic=config["statistic"]
    )


def by_straight_through(key: PRNGKey, problem: Problem, config: Mapping[str, Any]) -> Found:
    """Straight-through estimator over the alignment data, from weight matching's permutation."""
    return straight_through(
        key,
        *problem[:3],
        loss_fn=problem.loss,
        batches=list(problem.batches()),
        optimizer=optax.adam(config["learning_rate"]),
        epochs=config["epochs"],
    )


METHODS: dict[str, Callable[[PRNGKey, Problem, Mapping[str, Any]], Found]] = {
    "weight_matching": by_weights,
    "activation_matching": by_activations,
    "straight_through": by_straight_through,
}
"""Name -> matcher, with its options taken from the `align` section of the configuration."""


def align(
    key: PRNGKey,
    a: Variables,
    b: Variables,
    config: Mapping[str, Any],
    *,
    apply: Callable[[Variables, Array], Array],
    loss: Callable[[Variables, Batch], Array],
    batches: Callable[[], Iterable[Batch]],
) -> Aligned:
    """Permute B's units so that it lies in A's basin.

    Args:
        key: draws whatever the method draws.
        a: variables of A.
        b: variables of B.
        config: the `align` section.
        apply: images -> logits, in evaluation mode.
        loss: mean loss of a batch, for the straight-through estimator.
        batches: starts a stream of training data.

    Raises:
        UserError: A and B differ in architecture or have NaN parameters, `apply` is not deterministic, or
            permuting B changes its outputs.
    """
    check_same_structure(a, b)
    check_finite(by_path(a), "A")
    check_finite(by_path(b), "B")
    images = next(iter(batches())).images
    check_deterministic(apply, a, images[:1])  # not under jit, which would freeze randomness of Python's
    spec = permutation_spec(apply, a, images)
    started = time.monotonic()
    permutation, info = METHODS[config["method"]](key, Problem(spec, a, b, apply, loss, batches), config)
    info = jax.device_get(info)
    seconds = time.monotonic() - started
    aligned = apply_permutation(spec, permutation, b)
    error = check_equivalence(jax.jit(apply), b, aligned, images)
    if not error <= MAX_EQUIVALENCE_ERROR:
        raise UserError(
            f"align: permuting B moved its logits by {error:.1e} (relative), expected at most "
            f"{MAX_EQUIVALENCE_ERROR}: is the network a function of its variables and inputs alone?"
        )
    summary = {
        "method": config["method"],
        "objective": info.objective[: info.sweeps + 1].tolist(),
        "sweeps": int(info.sweeps),
        "converged": bool(info.converged),
        "restart_objectives": info.restart_objectives.tolist(),
        "equivalence_error": error,
        "seconds": seconds,
        "permutations": dict(spec.sizes),
        "description": describe(spec),
    }
    return Aligned(aligned, permutation, summary)
