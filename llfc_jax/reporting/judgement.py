"""Whether a path is linearly mode connected, whether LLFC holds along it, and how sure that is."""

import dataclasses
import enum
import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llfc_jax.errors import UserError
from llfc_jax.path.chord import excess
from llfc_jax.reporting import reading
from llfc_jax.reporting.reading import Results
from llfc_jax.results import PathKey

RESOLUTION = 1e-9
"""Cosine distances below this are float32's rounding: they count as zero."""

SAME_WEIGHTS = 1e-6
"""Networks no further apart than this, relatively, are one network but for rounding."""

ROUNDING = 1e-12
"""A barrier this far below its limit has reached it: 59/100 - 57/100 isn't 2/100 in float64."""

FAR_COEFFICIENT = 0.1
"""A coefficient this far from one is worth a word."""

MAX_NAMED = 3
"""How many layers a sentence names."""


@dataclasses.dataclass(frozen=True)
class Criteria:
    """By which paths are judged; `config.verdict`, which may set every one of them.

    LMC is judged by four barriers, of the loss and of the error, on the test and on the training set: a path
    that generalises flatly while training data are forgotten on it is no flat path. It holds where all four
    are below their limits for sure: a barrier's whole interval is. It doesn't where one of them isn't below.
    Between the two it is undecided, for want of examples.

    LLFC is judged layer by layer at alpha = 1/2 (or the nearest alpha measured), on the test set: how far
    theta_alpha's features are from the line between the ends' features, *in units of what staying at the
    nearer end would give*. On the line that is 0, and 1 is no better than an end. It holds where it does in
    every layer; in part where it does in the median layer; and else it doesn't.

    Attributes:
      max_error_barrier: A fraction. The instability threshold of Frankle et al., ICML 2020
        (arXiv 1912.05671), section 2: 2 %, above what two runs of one recipe differ by.
      max_loss_barrier: As a part of log(classes), the loss of a guess. The same 2 % on the loss's own scale:
        0.046 nats for ten classes.
      max_llfc: In units of the nearer end's distance. 1 - cos is half a squared distance between directions,
        so that one minus this ratio is a share of variance explained, with the nearer end for the null
        model. At one half, the line explains as much of a layer as it leaves.
      chance: An end whose test error reaches this part of a guess's, 1 - 1/classes, has learnt nothing worth
        connecting: neither LMC nor LLFC says anything, nor do they where A and B are one network.
      confidence: Of a barrier's interval, see `barriers`.
    """

    max_error_barrier: float = 0.02
    max_loss_barrier: float = 0.02
    max_llfc: float = 0.5
    chance: float = 0.9
    confidence: float = 0.95

    def loss_limit(self, classes: int) -> float:
        """The largest loss barrier, in nats."""
        return self.max_loss_barrier * math.log(classes)


class Answer(enum.Enum):
    """To whether LMC or LLFC holds: how it is said, in a word or two."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    FAILS = "does not hold"
    OPEN = "is undecided"
    TRIVIAL = "says nothing here"
    UNDEFINED = "is undefined"
    UNJUDGED = "is not judged"


class Barrier(NamedTuple):
    """One of the barriers of a path, and what is known of it."""

    split: str
    quantity: str
    value: float
    low: float
    high: float
    """Ends of its interval."""
    limit: float
    """NaN of a loss of the caller's own, which has no scale."""

    def __str__(self) -> str:
        return f"{self.split} {self.quantity}"

    def is_finite(self) -> bool:
        """Whether it and its interval are numbers."""
        return bool(np.isfinite([self.value, self.low, self.high]).all())

    def show(self, value: float) -> str:
        """A value in the barrier's unit."""
        if math.isnan(self.limit):
            return reading.nats(value)
        return f"{reading.nats(value)} nats" if self.quantity == "loss" else reading.percent(value)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The judgement on one path; `str(verdict)` is its sentences.

    Attributes:
      path: The key of the path, such as `a-b_aligned`.
      connected: Whether LMC holds; None if it was not measured.
      linear: Whether LLFC holds; None if it was not measured.
      barriers: On test and train, of loss and error.
      alpha: The α at which LLFC was judged.
      median: The median layer's distance, in units of the nearer end's.
      worst: The largest of any layer.
      worst_layer: That layer.
      below: How many layers are at `max_llfc` at most.
      layers: How many could be judged.
      failing: Layers above it, the worst first.
      dead: Layers without a sample to judge by, already at the ends.
      undefined: Layers and curves with numbers that are none.
      coefficient: The coefficient furthest from one.
      coefficient_layer: Its layer.
      trivial: Why the answers say nothing; empty if they say something.
      criteria: By which it was judged.
    """

    path: str
    connected: Answer | None = None
    linear: Answer | None = None
    barriers: tuple[Barrier, ...] = ()
    alpha: float = float("nan")
    median: float = float("nan")
    worst: float = float("nan")
    worst_layer: str | None = None
    below: int = 0
    layers: int = 0
    failing: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    coefficient: float = float("nan")
    coefficient_layer: str | None = None
    trivial: str = ""
    criteria: Criteria = dataclasses.field(default_factory=Criteria)

    def __str__(self) -> str:
        sentences = [part for part in (self._connectivity(), self._linearity()) if part]
        if not sentences:
            return "nothing was measured along this path"
        if PathKey.parse(self.path).is_control:
            sentences.append("This is the control: the two share nothing")
        return ". ".join(
            [*sentences, self.trivial[:1].upper() + self.trivial[1:]] if self.trivial else sentences
        )

    def _connectivity(self) -> str:
        if self.connected is None:
            return ""
        found = []
        for split in dict.fromkeys(barrier.split for barrier in self.barriers):
            both = " and ".join(each.show(each.value) for each in self.barriers if each.split == split)
            found.append(f"{both} on {split}")
        sentence = f"LMC {self.connected.value}: barrier {', '.join(found)}"
        if self.connected is Answer.FAILS:
            above = [each for each in self.barriers if _reaches(each, each.value)]
            sentence += f"; over the limit: {', '.join(map(str, above))}"
        if self.connected is Answer.UNJUDGED:
            sentence += "; a loss of one's own has no scale to judge it by"
        if self.connected is Answer.UNDEFINED:
            unknown = [each for each in self.barriers if not each.is_finite()]
            sentence += f"; not a number: {', '.join(map(str, unknown))}"
        if self.connected is Answer.OPEN:
            unsure = [
                f"{each} up to {each.show(each.high)}" for each in self.barriers if _reaches(each, each.high)
            ]
            sentence += f"; too few examples to exclude a {_listed(unsure)}"
        return sentence

    def _linearity(self) -> str:
        if self.linear is None:
            return ""
        at = "" if self.alpha == 0.5 else f" at α = {reading.alpha_label(self.alpha)}"
        sentence = f"LLFC {self.linear.value}{at}"
        if self.undefined:
            sentence += f": not a number in {_listed(self.undefined)}"
        elif self.layers:
            sentence += (
                f": the median layer is at {reading.ratio(self.median)} of the nearer end's distance "
                f"from the line, the worst at {reading.ratio(self.worst)} ({self.worst_layer})"
            )
            if self.failing:
                limit = f"{self.criteria.max_llfc:g}"
                sentence += f"; {self.below} of {reading.count(self.layers, 'layer')} within {limit}, "
                sentence += f"not {_listed(self.failing)}"
        if self.linear in (Answer.HOLDS, Answer.IN_PART) and abs(self.coefficient - 1) > FAR_COEFFICIENT:
            way = "shorter" if self.coefficient < 1 else "longer"
            sentence += f"; features are {way} than on the line, {self.coefficient:.2f} times"
            sentence += f" in {self.coefficient_layer}"
        if self.dead:
            sentence += f"; dead at the ends and not judged: {_listed(self.dead)}"
        return sentence


def criteria(results: Results) -> Criteria:
    """What `config.verdict` says, with the defaults of `Criteria`."""
    chosen = results.get("config", {}).get("verdict", {})
    known = {field.name for field in dataclasses.fields(Criteria)}
    return Criteria(**{name: value for name, value in chosen.items() if name in known})


def verdict(results: Results, path: str = "a-b") -> Verdict:
    """Judges a path; see `Criteria`.

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
    by = criteria(results)
    found: dict[str, Any] = {"criteria": by, "trivial": _why_trivial(results, path, by)}
    if path in lmc:
        found |= _judge_barriers(barriers(results, path))
    if path in llfc:
        found |= _judge_layers(llfc[path], results["data"]["test_examples"], by)
    if found["trivial"]:
        for answer in ("connected", "linear"):
            if found.get(answer) in (Answer.HOLDS, Answer.IN_PART, Answer.OPEN):
                found[answer] = Answer.TRIVIAL
    return Verdict(path, **found)


def barriers(results: Results, path: str) -> tuple[Barrier, ...]:
    """The barriers of a path with their intervals.

    All networks see the same examples, so that what counts is how an example's excess over its own chord,
    l(theta_alpha) - ((1 - alpha) l(A) + alpha l(B)), varies: its standard error is std / sqrt(n). For the
    error, which comes in whole labels, the sum of squares has one label more, as Agresti & Min (2005,
    for matched proportions): no difference in 360 examples is still known to half a percent only. Examples
    are what was drawn: of sequences they are these and not their tokens (`measures.lmc`). The normal
    band around the excess at every alpha gives the interval: from the largest of its lower ends to the
    largest of its upper ends, and from 0 on. It tells of other examples of the same distribution, not of
    other runs.
    """
    by, lmc = criteria(results), results["lmc"][path]
    limits, classes = {"loss": math.nan}, results["data"].get("num_classes")
    if classes is not None and "error" in reading.quantities({path: lmc}):
        limits = {"loss": by.loss_limit(classes), "error": by.max_error_barrier}
    return tuple(
        Barrier(
            split,
            quantity,
            float(reading.numbers(lmc[split][f"{quantity}_barrier"])),
            *_interval(lmc, split, quantity, by.confidence),
            limit,
        )
        for split in ("test", "train")
        if split in lmc
        for quantity, limit in limits.items()
    )


def band(lmc: Results, split: str, quantity: str, confidence: float) -> NDArray[np.float64]:
    """Half the width of the interval of the excess at every α: see `barriers`."""
    alphas, std = reading.numbers(lmc["alphas"]), reading.numbers(lmc[split][f"{quantity}_excess_std"])
    examples = lmc[split]["examples"]
    of_one_label = examples / max(lmc[split].get("labels", examples), 1)
    pseudo = of_one_label**2 * ((quantity == "error") & (alphas > 0) & (alphas < 1))
    standard_error = np.sqrt(examples * std**2 + pseudo) / examples
    return NormalDist().inv_cdf((1 + confidence) / 2) * standard_error


def llfc_shares(entry: Results, examples: int) -> NDArray[np.float64]:
    """Each layer's distance from the line at α ≈ ½, in units of the nearer end's: (layers,).

    Infinite where the ends agree and θ_α doesn't, or where θ_α's features vanish and the ends' don't; NaN
    where the ends themselves are dead, or a number is none.

    Args:
      entry: One path of `results["llfc"]`.
      examples: How many were measured on.
    """
    at, layers = reading.nearest_half(entry["alphas"]), entry["layers"]
    distances = reading.numbers([layer["cosine_distance"]["mean"][at] for layer in layers])
    units = reading.numbers([layer["end"]["mean"][at] for layer in layers])
    vanished = np.array([layer["dead"][at] >= examples > layer["baseline"]["dead"] for layer in layers])
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(units > RESOLUTION, distances / units, np.where(np.isnan(units), np.nan, np.inf))
    shares = np.where(distances <= RESOLUTION, 0.0, np.where(np.isnan(distances), np.nan, shares))
    return np.where(vanished, np.inf, shares)


def _interval(lmc: Results, split: str, quantity: str, confidence: float) -> tuple[float, float]:
    over = excess(lmc["alphas"], reading.numbers(lmc[split][quantity]))
    half = band(lmc, split, quantity, confidence)
    return float(np.maximum(np.max(over - half), 0)), float(np.maximum(np.max(over + half), 0))


def _reaches(barrier: Barrier, value: float) -> bool:
    """Whether a value is over the limit; nothing is not, even where the limit is 0, as of a single class."""
    return value > 0 and value >= barrier.limit - ROUNDING


def _judge_barriers(found: tuple[Barrier, ...]) -> dict[str, Any]:
    if not all(barrier.is_finite() for barrier in found):
        answer = Answer.UNDEFINED  # of a network that diverged: no evidence of anything
    elif any(math.isnan(barrier.limit) for barrier in found):
        answer = Answer.UNJUDGED
    elif any(_reaches(barrier, barrier.value) for barrier in found):
        answer = Answer.FAILS
    elif any(_reaches(barrier, barrier.high) for barrier in found):
        answer = Answer.OPEN
    else:
        answer = Answer.HOLDS
    return {"connected": answer, "barriers": found}


def _judge_layers(entry: Results, examples: int, by: Criteria) -> dict[str, Any]:
    at, shares = reading.nearest_half(entry["alphas"]), llfc_shares(entry, examples)
    names = np.array([layer["layer"] for layer in entry["layers"]])
    dead = np.array([layer["baseline"]["dead"] >= examples for layer in entry["layers"]])
    judged = ~np.isnan(shares)
    undefined = names[~judged & ~dead].tolist()
    found: dict[str, Any] = {
        "alpha": entry["alphas"][at],
        "layers": int(judged.sum()),
        "dead": tuple(names[dead & ~judged].tolist()),
        "undefined": tuple(undefined),
        "linear": Answer.UNDEFINED,
    }
    if not judged.any() or undefined:
        return found
    worst_first = [
        index for index in np.argsort(-np.where(judged, shares, -1), kind="stable") if judged[index]
    ]
    failing = [str(names[index]) for index in worst_first if shares[index] > by.max_llfc]
    coefficients = reading.numbers([layer["coefficient"]["mean"][at] for layer in entry["layers"]])
    furthest = int(np.argmax(np.nan_to_num(np.abs(coefficients - 1))))
    median = float(np.median(shares[judged]))
    answer = Answer.IN_PART if median <= by.max_llfc else Answer.FAILS
    return found | {
        "linear": answer if failing else Answer.HOLDS,
        "median": median,
        "worst": float(shares[worst_first[0]]),
        "worst_layer": str(names[worst_first[0]]),
        "below": len(worst_first) - len(failing),
        "failing": tuple(failing),
        "coefficient": float(coefficients[furthest]),
        "coefficient_layer": str(names[furthest]),
    }


def _why_trivial(results: Results, path: str, by: Criteria) -> str:
    relative = results.get("weights", {}).get(reading.plain_path(path), {}).get("relative")
    layers = results.get("llfc", {}).get(path, {}).get("layers", [])
    apart = reading.numbers([layer["baseline"]["mean"] for layer in layers])
    if (relative is not None and relative <= SAME_WEIGHTS) or (layers and (apart <= RESOLUTION).all()):
        return "the two are one network, so this says nothing"
    errors, classes = reading.numbers(_end_errors(results, path)), results["data"].get("num_classes")
    if classes is not None and (errors >= by.chance * (1 - 1 / classes)).any():
        return "an end is no better than chance, so this says nothing"
    return ""


def _end_errors(results: Results, path: str) -> list[float | None]:
    """Of the networks at the ends of the path, corrected as it is, on the test set."""
    if (entry := results.get("lmc", {}).get(path)) and "test" in entry:
        return [entry["test"]["error"][end] for end in (0, -1) if "error" in entry["test"]]
    ends = (results.get("endpoints", {}).get(name) for name in reading.ends(path))
    return [end["test"]["error"] for end in ends if end]


def _listed(names: Any) -> str:
    named = [str(name) for name in names]
    rest = len(named) - MAX_NAMED
    return ", ".join(named[:MAX_NAMED]) + (f" and {reading.count(rest, 'other')}" if rest > 0 else "")
