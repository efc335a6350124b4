"""Says in a sentence whether a path is linearly mode connected and whether LLFC holds along it."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llfc_jax.errors import UserError
from llfc_jax.report import reading
from llfc_jax.report.reading import Results

MAX_ERROR_BARRIER = 0.02
"""LMC holds when the test error barrier is below this fraction.

It is the instability threshold of Frankle et al., ICML 2020 (arXiv 1912.05671), Section 2.
"""

MAX_BASELINE_SHARE = 0.10
"""LLFC holds when, at α = ½, every layer's mean cosine distance is at most this part of its A–B baseline."""

RESOLUTION = 1e-9
"""Cosine distances below this are float32's rounding: they count as zero."""

CHANCE_MARGIN = 0.9
"""An endpoint whose error exceeds this part of a random guess's has learnt nothing worth connecting."""

MAX_NAMED = 3
"""How many dead layers a sentence names."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The judgement on one path; `str(verdict)` is its sentence.

    Attributes:
      path: The key of the path, such as `a-b_aligned`.
      connected: Whether LMC holds; None if it was not measured.
      linear: Whether LLFC holds; None if it was not measured.
      loss_barrier: On the test set, in nats.
      error_barrier: On the test set, a fraction.
      alpha: The α at which LLFC was judged.
      worst_layer: The layer with the largest share of its baseline.
      worst_share: That share.
      failing: How many layers exceed `MAX_BASELINE_SHARE`.
      layers: How many layers could be judged.
      dead: Layers without a single sample to judge by.
      at_chance: Whether an endpoint is about as good as guessing, which makes connectivity trivial.
      same: Whether the features of A and B are equal in every layer, which makes everything trivial.
    """

    path: str
    connected: bool | None = None
    linear: bool | None = None
    loss_barrier: float = float("nan")
    error_barrier: float = float("nan")
    alpha: float = float("nan")
    worst_layer: str | None = None
    worst_share: float = float("nan")
    failing: int = 0
    layers: int = 0
    dead: tuple[str, ...] = ()
    at_chance: bool = False
    same: bool = False

    def __str__(self) -> str:
        parts = [part for part in (self._connectivity(), self._linearity()) if part]
        if self.at_chance:
            parts.append("but an endpoint is no better than chance, so this says little")
        if self.same:
            parts.append("but the two are one network, so this says nothing")
        return "; ".join(parts) or "nothing was measured along this path"

    def _connectivity(self) -> str:
        if self.connected is None:
            return ""
        judgement = "linearly mode connected" if self.connected else "not linearly mode connected"
        loss, error = reading.nats(self.loss_barrier), reading.percent(self.error_barrier)
        return f"barrier {loss} nats (error {error}): {judgement}"

    def _linearity(self) -> str:
        if self.linear is None:
            return ""
        worst = f"{reading.share(self.worst_share)} of the {_ends(self.path)} baseline"
        at = "" if self.alpha == 0.5 else f" at α = {reading.alpha_label(self.alpha)}"
        if self.linear:
            sentence = f"LLFC distance{at} at most {worst} ({self.worst_layer})"
        else:
            sentence = (
                f"LLFC does not hold: distance{at} reaches {worst} in {self.worst_layer}, "
                f"and {self.failing} of {self.layers} layers exceed {100 * MAX_BASELINE_SHARE:g} %"
            )
        if self.dead:
            names = ", ".join(self.dead[:MAX_NAMED]) + (", …" if len(self.dead) > MAX_NAMED else "")
            sentence += f"; {len(self.dead)} dead and not judged ({names})"
        return sentence


def verdict(results: Results, path: str = "a-b") -> Verdict:
    """Judges a path by its test barrier and its layers' distances at α = ½ (or the nearest α measured).

    Args:
      results: The contents of `results.json`.
      path: A key of `results["lmc"]` or `results["llfc"]`.

    Returns:
      The verdict; what was not measured along the path stays None.

    Raises:
      UserError: If no measure knows the path.
    """
    lmc, llfc = results.get("lmc", {}), results.get("llfc", {})
    if path not in lmc and path not in llfc:
        known = ", ".join(dict.fromkeys([*lmc, *llfc])) or "none"
        raise UserError(f"path: expected one of {known}, found {path!r}")
    found: dict[str, Any] = {"at_chance": _at_chance(results, path)}
    if path in lmc and "test" in lmc[path]:
        found |= _judge_barrier(lmc[path]["test"])
    if path in llfc:
        found |= _judge_layers(llfc[path])
        found["same"] = all(layer["baseline"]["mean"] == 0 for layer in llfc[path]["layers"])
    return Verdict(path, **found)


def baseline_shares(entry: Results) -> NDArray[np.float64]:
    """Each layer's mean cosine distance at α ≈ ½ as a part of its baseline: `(layers,)`, NaN where dead.

    A baseline below `RESOLUTION` (A and B agree already) is taken as `RESOLUTION`, so no ratio is infinite.
    """
    at = reading.nearest_half(entry["alphas"])
    distances = reading.numbers([layer["cosine_distance"]["mean"][at] for layer in entry["layers"]])
    baselines = reading.numbers([layer["baseline"]["mean"] for layer in entry["layers"]])
    shares = distances / np.maximum(baselines, RESOLUTION)
    return np.where((distances <= RESOLUTION) & ~np.isnan(shares), 0.0, shares)


def _judge_barrier(test: Results) -> dict[str, Any]:
    error_barrier = float(reading.numbers(test["error_barrier"]))
    loss_barrier = float(reading.numbers(test["loss_barrier"]))
    # A NaN barrier, from a network that diverged, is no evidence of connectivity.
    connected = error_barrier < MAX_ERROR_BARRIER
    return {"connected": connected, "loss_barrier": loss_barrier, "error_barrier": error_barrier}


def _judge_layers(entry: Results) -> dict[str, Any]:
    shares = baseline_shares(entry)
    names = [layer["layer"] for layer in entry["layers"]]
    alive = np.isfinite(shares)
    found: dict[str, Any] = {
        "alpha": entry["alphas"][reading.nearest_half(entry["alphas"])],
        "layers": int(alive.sum()),
        "dead": tuple(name for name, is_alive in zip(names, alive, strict=True) if not is_alive),
    }
    if alive.any():
        worst = int(np.nanargmax(shares))
        failing = int((shares[alive] > MAX_BASELINE_SHARE).sum())
        found |= {"linear": failing == 0, "failing": failing}
        found |= {"worst_layer": names[worst], "worst_share": float(shares[worst])}
    return found


def _at_chance(results: Results, path: str) -> bool:
    classes = results.get("data", {}).get("num_classes")
    if not classes:
        return False
    limit = CHANCE_MARGIN * (1 - 1 / classes)
    ends = [results.get("endpoints", {}).get(name) for name in reading.ends(path)]
    return any(end and reading.numbers(end["test"]["error"]) >= limit for end in ends)


def _ends(path: str) -> str:
    return reading.path_label(path.partition("/")[0])
