"""Putting B into A's basin: symmetries, a matcher, the moved network, and a check that it is still B."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.matching.activations import by_activations
from llfc_jax.matching.commutativity import by_commutativity
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.keeping import Keeper
from llfc_jax.matching.learned import by_learning
from llfc_jax.matching.leaves import check_all_finite
from llfc_jax.matching.moved import AS_IT_WAS, PERMUTED, Moved, Rung, ladder
from llfc_jax.matching.problem import Matcher, Problem
from llfc_jax.matching.procrustes import by_procrustes
from llfc_jax.matching.straight_through import by_straight_through
from llfc_jax.matching.universe import universe_matching
from llfc_jax.matching.weights import by_weights
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.program.widening import is_short, stored_as, widened
from llfc_jax.symmetry import (
    PermutationSpec,
    Symmetry,
    apply_permutation,
    check_deterministic,
    check_equivalence,
    describe,
    describe_actions,
    permutation_spec,
)
from llfc_jax.types import Array, Batch, Permutation, PRNGKey, PyTree, Variables

MATCHERS: dict[str, Matcher] = {
    "weight_matching": by_weights,
    "activation_matching": by_activations,
    "commutativity_matching": by_commutativity,
    "straight_through": by_straight_through,
    "procrustes_matching": by_procrustes,
    "learned_matching": by_learning,
}
"""Name -> matcher."""

KEPT = ("learned_matching",)
"""Those that keep where they are after every epoch."""

UNIVERSE = "universe_matching"
"""The matcher of several networks at once, see `align_many`."""

DEFAULTS: Mapping[str, Any] = {
    "restarts": 8,
    "max_sweeps": 100,
    "statistic": "correlation",
    "epochs": 5,
    "learning_rate": None,
    "classes": (),
    "relaxation": "straight_through",
}
"""What the matchers can be told; no learning rate is each one's own."""

MAX_EQUIVALENCE_ERROR = 1e-3
"""Relative error of the moved network's logits above which something is wrong, not just rounded."""


class Aligned(NamedTuple):
    """B, moved towards A along its symmetries."""

    variables: Variables
    permutation: Permutation | None
    """None where B was moved by more than a permutation."""
    info: MatchInfo
    summary: dict[str, Any]
    """The same for `results.json`, with the symmetries, and by how much B's outputs moved: by rounding alone,
    which may be more where B is stored in a short format and moved by more than a permutation."""


def align(
    key: PRNGKey,
    a: Variables,
    b: Variables,
    *,
    method: str | Matcher,
    apply: Callable[[Variables, Any], PyTree],
    loss: Callable[[Variables, Batch], Array],
    batches: Callable[[], Iterable[Batch]],
    inputs: Callable[[], Iterable[PyTree]],
    options: Mapping[str, Any] = DEFAULTS,
    keeper: Keeper | None = None,
) -> Aligned:
    """Move B along its symmetries so that it lies in A's basin: permute its units, or more.

    Args:
        key: draws whatever the method draws.
        a: variables of A.
        b: variables of B.
        method: a name in `MATCHERS`, or a matcher of one's own.
        apply: see `Problem`, as the next three.
        loss: for the straight-through estimator, and learned matching.
        batches: the same.
        inputs: of the first batch all methods see what moving B changes.
        options: for the matcher.
        keeper: for learned matching, which goes on from what it has kept.

    Raises:
        UserError: A and B differ in architecture or have NaN parameters, `apply` is not deterministic,
            moving B changes its outputs, or there is no such method.
    """
    if isinstance(method, str) and method not in MATCHERS:
        raise UserError(f"method: expected one of {', '.join(MATCHERS)}; found {method!r}")
    some = next(iter(inputs()))
    spec = _symmetries_of([a, b], apply, some)
    started = time.monotonic()
    match = MATCHERS[method] if isinstance(method, str) else method
    problem = _in_single_precision(Problem(spec, a, b, apply, loss, batches, inputs, keeper))
    found = match(key, problem, options)
    permutation, moved = (None, found) if isinstance(found, Moved) else _permuted(spec, a, b, *found)
    name = method if isinstance(method, str) else method.__name__
    timed = {"method": name, "seconds": time.monotonic() - started}
    return _aligned(apply, b, moved, permutation, some, timed)


def align_many(
    key: PRNGKey,
    networks: Sequence[Variables],
    *,
    apply: Callable[[Variables, Any], PyTree],
    inputs: Callable[[], Iterable[PyTree]],
    options: Mapping[str, Any] = DEFAULTS,
) -> tuple[Aligned, ...]:
    """Permute all networks but the first so that all lie in one basin, by `universe_matching`.

    Args:
        key: draws whatever it draws.
        networks: two or more.
        apply: see `Problem`, as the next.
        inputs: on the first batch it is checked that permuting changes no outputs.
        options: `restarts`, `max_sweeps`.

    Raises:
        UserError: as `align`.
    """
    first, *others = networks
    some = next(iter(inputs()))
    spec = _symmetries_of(networks, apply, some)
    started = time.monotonic()
    taken = {name: options[name] for name in ("restarts", "max_sweeps")}
    found = universe_matching(key, spec, networks, **taken)
    timed = {"method": UNIVERSE, "seconds": time.monotonic() - started}
    return tuple(
        _aligned(apply, other, _permuted(spec, first, other, own, found.info)[1], own, some, timed)
        for other, own in zip(others, found.permutations[1:], strict=True)
    )


def _symmetries_of(
    networks: Sequence[Variables], apply: Callable[[Variables, Any], PyTree], some: PyTree
) -> PermutationSpec:
    """Those of networks that can be matched."""
    for network in networks:
        check_same_structure(networks[0], network)
    check_all_finite(networks)
    one = jax.tree.map(lambda leaf: leaf[:1], some)
    check_deterministic(apply, networks[0], one)  # not under jit, which would freeze randomness of Python's
    return permutation_spec(apply, networks[0], some)


def _in_single_precision(problem: Problem) -> Problem:
    """The same of networks stored in short formats, which rotations would round at every step."""
    stored = problem.b
    if not any(is_short(jnp.result_type(leaf)) for leaf in jax.tree.leaves(stored)):
        return problem
    return problem._replace(
        a=widened(problem.a),
        b=widened(stored),
        apply=lambda variables, *given: problem.apply(stored_as(variables, stored), *given),
        loss=lambda variables, batch: problem.loss(stored_as(variables, stored), batch),
    )


def _aligned(
    apply: Callable[[Variables, Any], PyTree],
    b: Variables,
    moved: Moved,
    permutation: Permutation | None,
    some: PyTree,
    told: Mapping[str, Any],
) -> Aligned:
    """What was found, checked on some inputs, and told for `results.json`."""
    moved = moved._replace(info=jax.device_get(moved.info))
    compiled = jax.jit(apply)
    error = check_equivalence(compiled, b, moved.variables, some)
    if not error <= MAX_EQUIVALENCE_ERROR:
        raise UserError(
            f"align: moving B moved its logits by {error:.1e} (relative), expected at most "
            f"{MAX_EQUIVALENCE_ERROR}: is the network a function of its variables and inputs alone?"
        )
    stored = stored_as(moved.variables, b)
    if any(x is not y for x, y in zip(*map(jax.tree.leaves, (stored, moved.variables)), strict=True)):
        error = check_equivalence(compiled, b, stored, some)  # told, as rounding alone has its part in it
    summary = _summary(moved) | {"equivalence_error": error, **told}
    return Aligned(stored, permutation, moved.info, summary)


def _permuted(
    spec: PermutationSpec, a: Variables, b: Variables, permutation: Permutation, info: MatchInfo
) -> tuple[Permutation, Moved]:
    aligned = apply_permutation(spec, permutation, b)
    steps = ladder(a, {AS_IT_WAS: b, PERMUTED: aligned})
    return permutation, Moved(aligned, info, Symmetry(spec, {}, spec), (), steps)


def _summary(moved: Moved) -> dict[str, Any]:
    info, spec, actions = moved.info, moved.symmetry.spec, moved.symmetry.actions
    return {
        "objective": [_number(value) for value in info.objective[: info.sweeps + 1].tolist()],
        "sweeps": int(info.sweeps),
        "converged": bool(info.converged),
        "restart_objectives": info.restart_objectives.tolist(),
        "permutations": dict(spec.sizes),
        "classes": [*["permutation"] * bool(spec.sizes), *moved.classes],
        "ladder": [_plain(rung) for rung in moved.ladder],
        "description": "\n".join((describe(spec), *[describe_actions(moved.symmetry)] * bool(actions))),
    }


def _plain(rung: Rung) -> dict[str, Any]:
    """For JSON; without a loss where there is none."""
    found = {"step": rung.step, "relative": _number(rung.relative)}
    return found if rung.loss is None else found | {"loss": _number(rung.loss)}


def _number(value: float) -> float | None:
    """None for NaN and infinity, which JSON has not."""
    return value if math.isfinite(value) else None
