"""Moving one network into the basin of another, and merging several."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from llfc_jax import matching
from llfc_jax.api.streams import check_repeatable
from llfc_jax.arguments import checked
from llfc_jax.corrections import merging
from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError
from llfc_jax.matching import MatchInfo, alignment, failing
from llfc_jax.matching.alignment import Aligned
from llfc_jax.matching.failing import ConstraintRung
from llfc_jax.matching.problem import Matcher
from llfc_jax.measures.evaluation import cross_entropy
from llfc_jax.path import interpolation
from llfc_jax.path.examples import Examples, NumExamples, inputs_alone, masked_batches, over_devices
from llfc_jax.program.nodes import Program, apply_of
from llfc_jax.symmetry import PermutationSpec
from llfc_jax.types import Array, Batch, Permutation, PRNGKey, PyTree, Variables


@checked
def activation_matching(
    key: PRNGKey,
    spec: PermutationSpec,
    a: Variables,
    b: Variables,
    *,
    apply: Callable[[Variables, Any], PyTree],
    batches: Iterable[Examples],
    statistic: str = "correlation",
    num_examples: NumExamples | None = None,
) -> tuple[Permutation, MatchInfo]:
    """The permutation of B whose units vary together with A's over data (Li et al. 2016, arXiv 1511.07543).

    Args:
        key: unused: there is nothing to draw.
        spec: from `permutation_spec(apply, ...)`.
        a: variables of A.
        b: variables of B.
        apply: variables, inputs -> logits, in evaluation mode; pure.
        batches: see `llfc_jax.path.examples.Examples`; labels are not looked at, and may be left out. Of an
            example that counts all positions do, also those that a mask hides.
        num_examples: for inputs whose first axis doesn't count examples, see `evaluate_path`.
        statistic: `correlation`, or `covariance` (Git Re-Basin, section 3.1, without subtracting means).

    Returns:
        The permutation, for `apply_permutation(spec, permutation, b)`, and how it was found: see
        `llfc_jax.matching.activation_matching`.

    Raises:
        UserError: an unknown statistic, no data, a batch that is not one, a spec that doesn't fit, or an
            activation that is NaN or infinite.
    """
    return matching.activation_matching(
        key, spec, a, b, apply=apply, batches=inputs_alone(batches, num_examples), statistic=statistic
    )


@checked
def align(
    network: Program | Callable[[Variables, Any], PyTree],
    a: Variables,
    b: Variables,
    batches: Iterable[Examples],
    *,
    method: str | Matcher = "weight_matching",
    seed: int = 0,
    loss: Callable[[Variables, Batch], Array] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Aligned:
    """Move B along its symmetries so that it lies in A's basin, and check on data that it is still B.

    Args:
        network: from `read`, or an `apply(variables, inputs)` in evaluation mode; pure.
        a: variables of A.
        b: variables of B.
        batches: any iterable of `llfc_jax.path.examples.Examples` that can be read again, such as a list;
            labels are looked at by `straight_through` and `learned_matching`, and may be left out for others.
        method: `weight_matching`, `activation_matching`, `commutativity_matching`, `straight_through`, which
            permute units; `procrustes_matching`, `learned_matching`, which also scale, turn and map them; or
            a `llfc_jax.matching.problem.Matcher` of your own.
        seed: of what the method draws.
        loss: variables, `llfc_jax.types.Batch` -> mean loss, for those that look at labels; by default the
            cross-entropy of the logits. With BatchNorm better that of the training mode.
        options: for the method, among those of `llfc_jax.matching.alignment.DEFAULTS`.

    Returns:
        `variables` of B, moved; the `permutation`, or None; `info` and `summary` of how it was found.

    Raises:
        UserError: A and B differ in structure, one has a NaN, `network` is not deterministic, the method or
            an option is unknown, moving B changes its outputs, or a batch is not one or there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> weights = {"in": jnp.arange(9.0).reshape(3, 3), "out": jnp.ones((3, 2))}
        >>> swapped = {"in": weights["in"][:, ::-1], "out": weights["out"]}
        >>> apply = lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"]
        >>> align(apply, weights, swapped, [jnp.eye(3)]).permutation
        {'P0': Array([2, 1, 0], dtype=int32)}
    """
    apply = apply_of(network)
    check_repeatable(batches)
    return alignment.align(
        jax.random.key(seed),
        a,
        b,
        method=method,
        apply=apply,
        loss=loss or partial(cross_entropy, apply),
        batches=lambda: masked_batches(batches),
        inputs=lambda: inputs_alone(batches),
        options=_known(method, options),
    )


@checked
def constraint_ladder(
    network: Program | Callable[[Variables, Any], PyTree],
    a: Variables,
    b: Variables,
    batches: Iterable[Examples],
    *,
    method: str | Matcher = "procrustes_matching",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> tuple[ConstraintRung, ...]:
    """Where alignment fails: the barrier of networks with ever more constraints, down to the ordinary line.

    Skip connections carry one basis through all blocks, and an array that two layers read is one array: both
    take symmetries away. On the first rung each skip connection has a matrix of its own, and each reader a
    copy; then they are tied again, and the last rung is the line that `align` prepares.

    Args:
        network: see `align`, as all others.
        a: variables of A.
        b: variables of B.
        batches: labelled.
        method: the same, on every rung.
        seed: the same.
        options: the same.

    Returns:
        Rungs of `added`, `barrier` (of the cross-entropy at the midpoint, in nats) and `cost`, by how much it
        rose; the costs sum to the last barrier.

    Raises:
        UserError: as `align`.

    Example:
        >>> import jax.numpy as jnp
        >>> weights = {"in": jnp.arange(9.0).reshape(3, 3), "out": jnp.ones((3, 2))}
        >>> swapped = {"in": weights["in"][:, ::-1], "out": weights["out"]}
        >>> apply = lambda w, x: jax.nn.relu(x @ w["in"]) @ w["out"]
        >>> batches = [(jnp.eye(3), jnp.zeros(3, int))]
        >>> [rung.added for rung in constraint_ladder(apply, weights, swapped, batches)]
        ['none of the constraints']
    """
    apply = apply_of(network)
    check_repeatable(batches)
    return failing.constraint_ladder(
        jax.random.key(seed),
        a,
        b,
        method=method,
        apply=apply,
        loss_of=lambda larger: partial(cross_entropy, larger),
        batches=lambda: masked_batches(batches),
        inputs=lambda: inputs_alone(batches),
        options=_known(method, options),
    )


def _known(method: str | Matcher, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options, of which a method of ours knows all."""
    taken = dict(options or {})
    if isinstance(method, str) and (unknown := taken.keys() - alignment.DEFAULTS.keys()):
        known = ", ".join(alignment.DEFAULTS)
        raise UserError(f"options: expected names among {known}; found {sorted(unknown)[0]!r}")
    return {**alignment.DEFAULTS, **taken}


@checked
def merge_many(
    networks: Sequence[Variables],
    weights: Sequence[float] | None = None,
    *,
    correction: Correction | None = None,
    program: Program | None = None,
    batches: Iterable[Examples] = (),
) -> Variables:
    """The weighted mean of several networks, whose statistics or units may be corrected.

    Put their units into one order first: `universe_matching`.

    Args:
        networks: of one structure, running statistics included.
        weights: one each, of which only the ratios count; equal if left out.
        correction: such as `llfc_jax.corrections.batchnorm.recompute(apply_train)`, or
            `llfc_jax.corrections.repair.repair(program)`: units then have the weighted mean of the networks'
            means and standard deviations.
        program: from `read`; for a correction.
        batches: training data that can be read again, see `llfc_jax.path.examples.Examples`; for the
            same.

    Raises:
        UserError: the networks differ in structure, there is not one weight for each, or a correction lacks
            the program or batches.

    Example:
        >>> import jax.numpy as jnp
        >>> merge_many([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, {"w": jnp.full(2, 5.0)}])
        {'w': Array([2., 2.], dtype=float32)}
    """
    if correction is None:
        return interpolation.mean(networks, weights)
    if program is None:
        raise UserError("program: expected what `read` returns, as there is a correction; found None")
    check_repeatable(batches)
    return merging.merged(
        networks,
        weights,
        correction,
        program,
        lambda: over_devices(masked_batches(batches, labelled=False)),
    )
