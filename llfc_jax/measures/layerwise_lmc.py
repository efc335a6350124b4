"""Layerwise linear mode connectivity: some layers interpolated, the others A's."""

from functools import partial
from typing import Any

import jax

from llfc_jax.measures.evaluation import LossFn, Scores, add_scores, means, no_scores, scores_of_logits
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
from llfc_jax.measures.stitching import cuts, stitched
from llfc_jax.path.traversal import Planned
from llfc_jax.program.nodes import Program

QUANTITIES = {
    "alone": "loss, layer alone interpolated (nats)",
    "all_but": "loss, all others interpolated (nats)",
    "prefix": "loss, layers up to it interpolated (nats)",
    "suffix": "loss, layers behind it interpolated (nats)",
}


def measure(options: Options) -> Measure:
    """`{alpha, layers}`, a row for each node with weights, at the alpha of the features' nearest to 1/2."""
    alpha = min(options.alphas, key=lambda one: abs(one - 0.5))

    def entry(found: Found) -> dict[str, Any]:
        scores = found.folds[TEST]["layers"]
        layers = [
            {"layer": name, "kind": found.program[name].label}
            | {which: own["loss"][cut] for which, own in scores.items()}
            | {f"{which}_error": own["error"][cut] for which, own in scores.items() if "error" in own}
            for cut, name in enumerate(cuts(found.program))
        ]
        return {"alpha": alpha, "layers": layers}

    return Measure(
        name="layerwise_lmc",
        folds=lambda program: {"layers": Planned(layerwise_lmc(program, options.loss_fn), (alpha,))},
        entry=entry,
        labelled=True,
        quantities=QUANTITIES,
    )


@by_value
def layerwise_lmc(program: Program, loss_fn: LossFn | None = None) -> Tally:
    """Loss (nats) and error (fraction) with a part of the layers of theta_alpha and the rest of A.

    One layer alone, all but one, a growing prefix, and the suffix behind it (Adilova et al. 2024, arXiv
    2307.06966). Layers are the nodes with weights; where a leaf is read in several places, each is a layer.
    The longest prefix is theta_alpha itself, bit for bit.

    Returns:
        The measure; its result is `{alone, all_but, prefix, suffix}`, each `{loss, error}` with a list of a
        number for each layer.
    """

    def look(point: Point) -> dict[str, Scores]:
        theta, a = point.theta, point.a
        alone, prefix = stitched(program, [(a, theta), (theta, theta)], a)
        all_but, suffix = stitched(program, [(theta, a), (a, a)], theta)
        logits = {"alone": alone, "all_but": all_but, "prefix": prefix, "suffix": suffix}
        of_each = jax.vmap(partial(scores_of_logits, loss_fn=loss_fn), (0, None, None))
        return {which: of_each(own, point.labels, point.mask) for which, own in logits.items()}

    def finalize(state: dict[str, Scores], alphas: tuple[float, ...]) -> dict[str, Any]:
        del alphas
        return {
            which: {name: values[0].tolist() for name, values in means(scores).items()}
            for which, scores in state.items()
        }

    return Tally(look, add_scores, finalize, dict.fromkeys(QUANTITIES, no_scores(loss_fn)))
