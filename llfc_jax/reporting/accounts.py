"""What the page says beyond the verdict: what bounds are worth, what corrections change, LLFC beside LEWC."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from llfc_jax.path.chord import excess
from llfc_jax.reporting import reading
from llfc_jax.reporting.quantities import of_layer
from llfc_jax.reporting.reading import Results

VACUOUS = 1.0
"""A bound on ||delta|| / ||v|| from here on says nothing: features that vanish keep it."""

WORSE = 0.005
"""An end whose error a correction raises by more than this has been hurt by it."""


class Bound(NamedTuple):
    """Theorem 1 along a path, at the one α at which its bound on the output is tightest."""

    alpha: float
    deviation: float
    """Of the output: ‖δ‖ / ‖v‖."""
    bound: float
    vacuous: bool
    """Whether features that vanish would keep it."""
    telling: int
    """Layers whose bound says something there."""
    layers: int
    broken: tuple[str, ...]
    """Layers that break their bound, at any α: something is wrong then."""


class Change(NamedTuple):
    """What a correction made of a path on the test set: error fractions before and after."""

    path: str
    ends: tuple[float, float]
    """The mean of both ends."""
    middle: tuple[float, float]
    """At α = ½."""
    barrier: tuple[float, float]
    says: str


class Midpoint(NamedTuple):
    """A layer at the α nearest ½, by LLFC and by LEWC."""

    layer: str
    depth: int
    """Contractions with weights up to it."""
    llfc: tuple[float | None, float | None]
    """1 − cos, coefficient."""
    lewc: tuple[float | None, float | None]


def midpoints(results: Results) -> dict[str, list[Midpoint]]:
    """Path -> its layers that LLFC and LEWC know, side by side."""
    llfc, lewc = results.get("llfc", {}), results.get("lewc", {})
    return {path: _midpoints(llfc[path], lewc[path]) for path in lewc if path in llfc}


def _midpoints(llfc: Results, lewc: Results) -> list[Midpoint]:
    linear = {layer["layer"]: layer for layer in llfc["layers"]}

    def numbers(entry: Results, layer: Results, names: tuple[str, str]) -> tuple[float | None, float | None]:
        first, second = (of_layer(entry, layer, name) for name in names)
        return first, second

    return [
        Midpoint(
            layer["layer"],
            layer["depth"],
            numbers(llfc, linear[layer["layer"]], ("cosine_distance.mean", "coefficient.mean")),
            numbers(lewc, layer, ("distance", "coefficient")),
        )
        for layer in lewc["layers"]
        if layer["layer"] in linear
    ]


def tightest_bound(theorem1: Results) -> Bound:
    """What Theorem 1 says of the output of a path, at one α."""
    output = theorem1["layers"][-1]
    bounds, deviations = (reading.numbers(output[name]) for name in ("bound", "deviation"))
    tightness = np.nan_to_num(deviations / np.where(bounds > 0, bounds, np.nan), nan=-1.0)
    half = reading.nearest_half(theorem1["alphas"])
    at = int(np.argmax(tightness)) if tightness.max() > 0 else half
    of_layers = reading.numbers([layer["bound"][at] for layer in theorem1["layers"]])
    return Bound(
        theorem1["alphas"][at],
        float(deviations[at]),
        float(bounds[at]),
        not bounds[at] < VACUOUS,
        int(np.sum(of_layers < VACUOUS)),
        len(of_layers),
        tuple(layer["layer"] for layer in theorem1["layers"] if layer["holds"] is False),
    )


def corrections(results: Results) -> Iterator[Change]:
    """What each correction changed along its path, and why that is."""
    lmc = results.get("lmc", {})
    for path, entry in lmc.items():
        plain = lmc.get(reading.plain_path(path))
        if plain is None or plain is entry or "error" not in reading.quantities({"": plain, path: entry}):
            continue
        before, after = (reading.numbers(each["test"]["error"]) for each in (plain, entry))
        middle = reading.nearest_half(entry["alphas"])
        ends = float(before[[0, -1]].mean()), float(after[[0, -1]].mean())
        barrier = tuple(float(excess(entry["alphas"], each).max()) for each in (before, after))
        yield Change(
            path,
            ends,
            (float(before[middle]), float(after[middle])),
            (barrier[0], barrier[1]),
            _explain(after[[0, -1]] - before[[0, -1]], before[middle] - after[middle]),
        )


def _explain(of_ends: np.ndarray, gained: float) -> str:
    """Why the correction helps or hurts."""
    worse = float(of_ends.max())
    says = []
    if gained > WORSE:
        says.append("it helps between the ends, where averaged statistics belong to neither network")
    elif gained < -WORSE:
        says.append("it hurts between the ends, where what was averaged had been good enough")
    if worse > WORSE:
        says.append(
            f"it worsens an end by {reading.percent(worse)}: what it estimates isn't what training left, "
            "for want of examples or because they are not those of training"
        )
    return "; ".join(says) or "it changes little"
