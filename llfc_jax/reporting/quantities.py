"""Numbers that measures tell of a path: of each layer, at each alpha, or one."""

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

from llfc_jax.reporting import reading
from llfc_jax.reporting.reading import Results

KNOWN: dict[str, dict[str, str]] = {
    "weak_additivity": {"cosine_distance.mean": "weak additivity, 1 − cos"},
    "commutativity": {"dist_com.mean": "Dist_com", "dist_w": "Dist_W", "dist_h.mean": "Dist_H"},
    "deviation": {"deviation": "deviation from the line"},
    "stitching": {"prefix_a.loss": "loss, A up to ℓ, then B", "prefix_b.loss": "loss, B up to ℓ, then A"},
    "effective_rank": {"features": "effective rank of features", "weights": "effective rank of weights"},
    "random_direction": {
        "random_loss": "loss, random direction (nats)",
        "filters_loss": "loss, random direction by filters (nats)",
    },
    "temperature": {
        "barrier": "loss barrier (nats)",
        "recalibrated_barrier": "loss barrier, recalibrated (nats)",
    },
}
"""Measure -> number of its entry, or of each of its layers -> what a reader is told that it is.

Of those that don't tell it in their entries, since figures of their own show them.
"""


class Place(NamedTuple):
    """Where a number was taken, and what it was in all runs."""

    layer: str | None
    alpha: float | None
    found: Results


def described(measure: str, entry: Results) -> dict[str, str]:
    """Number of an entry -> what a reader is told that it is; nothing of what is no measure.

    Example:
        >>> described("own", {"quantities": {"cka": "CKA"}}), described("weights", {"relative": 0.1})
        ({'cka': 'CKA'}, {})
    """
    return {**entry.get("quantities", {}), **KNOWN.get(measure, {})}


def of_layer(entry: Results, layer: Results, name: str) -> float | None:
    """A layer's number, at the alpha nearest to a half where it has one at each; None where it has none.

    Example:
        >>> entry = {"alphas": [0.0, 0.5], "layers": [{"error": {"mean": [1.0, 2.0]}}]}
        >>> of_layer(entry, entry["layers"][0], "error.mean"), of_layer(entry, entry["layers"][0], "rank")
        (2.0, None)
    """
    value = _number(layer, name)
    return value[reading.nearest_half(entry["alphas"])] if isinstance(value, list | tuple) else value


def of_path(entry: Results, name: str) -> Any:
    """A number of the whole path, or one at each alpha."""
    return _number(entry, name)


def places(entry: Results, name: str) -> list[Place]:
    """The numbers of one name of a measure's entry, by layer or alpha."""
    if "layers" in entry:
        return [Place(own["layer"], entry["layers_at"], own["values"][name]) for own in entry["layers"]]
    if name in entry["of_path"]:
        return [Place(None, None, entry["of_path"][name])]
    along = entry["along"][name]
    return [
        Place(
            None,
            alpha,
            {
                "mean": along["mean"][at],
                "std": along["std"][at],
                "each": [run[at] for run in along["each"]],
            },
        )
        for at, alpha in enumerate(entry["alphas"])
    ]


def _number(found: Mapping[str, Any], name: str) -> Any:
    first, *rest = name.split(".")
    return reduce(getitem, rest, found[first]) if first in found else None
