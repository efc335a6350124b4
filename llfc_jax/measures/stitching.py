"""Stitching: the first layers of one network feed the last layers of the other, without an adapter."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.measures.evaluation import Scores, add_logits, means, no_scores
from llfc_jax.measures.fold import Measure, Point, View, repeat
from llfc_jax.models import Network, Stage
from llfc_jax.models.network import INPUT
from llfc_jax.types import Array, Features, PyTree, Variables

DIRECTIONS = ("prefix_a", "prefix_b")


def stitching(stages: Sequence[Stage]) -> Measure:
    """Loss (nats) and error (fraction) of the network whose layers up to l are B's and the others A's.

    And of the reverse; for every l (LLFC, section 5). Stitching behind a layer without parameters gives the
    same network as stitching in front of it, and is not computed again. The measure's alpha doesn't matter.

    Args:
        stages: of the network, in forward order.

    Returns:
        The measure; its result is `{prefix_a: {loss, error}, prefix_b: {loss, error}}`, each a list with an
        entry for each cut: give it to `join`.
    """

    def init(point: Point) -> dict[str, Scores]:
        cuts = len(_cuts(stages, point.a.variables))
        return {direction: repeat(no_scores(), cuts) for direction in DIRECTIONS}

    def update(state: dict[str, Scores], point: Point) -> dict[str, Scores]:
        def direction(state: Scores, prefix: View, suffix: View) -> Scores:
            logits = stitched(stages, prefix.features, suffix.variables)
            return jax.vmap(add_logits, in_axes=(0, 0, None, None))(state, logits, point.labels, point.mask)

        return {
            "prefix_a": direction(state["prefix_a"], point.a, point.b),
            "prefix_b": direction(state["prefix_b"], point.b, point.a),
        }

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> dict[str, Any]:
        del alphas
        return {
            direction: {name: values[0].tolist() for name, values in means(scores).items()}
            for direction, scores in state.items()
        }

    return Measure(init, update, finalize)


def join(found: dict[str, Any], stages: Sequence[Stage], variables: Variables) -> list[dict[str, Any]]:
    """A row for each layer, as `results.json` has them: those without parameters share the last cut's."""
    return [
        {"layer": stage.name, "kind": stage.kind}
        | {
            direction: {name: values[cut] for name, values in found[direction].items()}
            for direction in DIRECTIONS
        }
        for stage, cut in _last_cut(stages, variables)
    ]


def stitched(stages: Sequence[Stage], prefix: Features, variables: Variables) -> Array:
    """Logits of `variables` fed, behind each stage with parameters in turn, with what `prefix` has there.

    All stitched networks run side by side as one batch that grows from cut to cut, so that each stage of the
    suffix is applied once. At a cut, whatever later stages still read comes from the prefix: also the
    entry of a residual branch that is cut in the middle.

    Args:
        stages: of the network, in forward order.
        prefix: features of the network that the first stages belong to.
        variables: of the network that the last stages belong to.

    Returns:
        (cuts, n, classes).
    """
    cuts = _cuts(stages, variables)
    values: Features = {}  # stage -> (cuts so far, n, ...)
    for position, stage in enumerate(stages):
        if values:
            entries = {name: values[name].reshape(-1, *values[name].shape[2:]) for name in stage.inputs}
            output = Network.run(variables, entries, [stage])[stage.name]
            values[stage.name] = output.reshape(-1, *prefix[stage.name].shape)
        if stage.name in cuts:
            awaited = {name for later in stages[position + 1 :] for name in later.inputs}
            known = [INPUT, *(earlier.name for earlier in stages[:position])]
            alive = [*(name for name in known if name in awaited), stage.name]
            values = {
                name: jnp.concatenate([*([values[name]] if name in values else []), prefix[name][None]])
                for name in alive
            }
    return values[stages[-1].name]


def _cuts(stages: Sequence[Stage], variables: Variables) -> list[str]:
    """The stages with parameters."""
    return [stage.name for stage in stages if stage.name in variables["params"]]


def _last_cut(stages: Sequence[Stage], variables: Variables) -> Iterator[tuple[Stage, int]]:
    """Each feature behind the first cut, and the number of the last cut at or before it."""
    cuts, passed = _cuts(stages, variables), -1
    for stage in stages:
        passed += stage.name in cuts
        if stage.is_feature and passed >= 0:
            yield stage, passed
