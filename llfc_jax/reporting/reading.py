"""How the report reads `results.json`: nulls, paths, and the names that people see."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llfc_jax.results import TASK, NetworkKey, PathKey

Results: TypeAlias = Mapping[str, Any]
"""The contents of `results.json`."""

CURVES = {"bezier": "Bézier curve", "polygon": "polygonal chain"}
CORRECTIONS = {"recompute": "BN recomputed", "repair": "REPAIR"}
"""What follows the slash in a path's key -> how a reader is told."""

FRACTIONS = {0.25: "¼", 0.5: "½", 0.75: "¾"}


def numbers(values: Sequence[float | None] | float | None) -> NDArray[np.float64]:
    """A float64 array of `values`, with JSON's null as NaN.

    >>> numbers([1, None])
    array([ 1., nan])
    """
    return np.asarray(values, dtype=np.float64)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested configuration as (dotted field, value) pairs, as the command line overrides them.

    >>> list(flat({"seed": 0, "model": {"width": 2.0}}))
    [('seed', 0), ('model.width', 2.0)]
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def network_label(name: str) -> str:
    """The symbol of a network: its letter, with the epoch of its spawn in a sweep, in π(·) once permuted.

    >>> network_label("a"), network_label("b_aligned"), network_label("trunk"), network_label("mlp|b")
    ('A', 'π(B)', 'trunk', 'mlp: B')
    >>> network_label("a@0.5"), network_label("b@2_aligned")
    ('A@0.5', 'π(B@2)')

    On the line to it from its trunk there is one more.

    >>> network_label("taska@2")
    'τ(A@2)'
    """
    key = NetworkKey.parse(name)
    run = f"{key.run}: " if key.run else ""
    letter = key.name.removeprefix(TASK)
    symbol = str(key._replace(name=letter.upper() if len(letter) == 1 else key.name, aligned=False, run=""))
    if len(letter) < len(key.name):
        symbol = f"τ({symbol})"
    return f"{run}π({symbol})" if key.aligned else f"{run}{symbol}"


def path_label(path: str) -> str:
    """The name of a path in the figures and tables.

    >>> path_label("a-b_aligned"), path_label("a-b/bezier/recompute"), path_label("mlp|a-b")
    ('A–π(B)', 'A–B, Bézier curve, BN recomputed', 'mlp: A–B')
    """
    key = PathKey.parse(path)
    ends = f"{network_label(str(key.a))}–{network_label(str(key.b._replace(run='')))}"
    return ", ".join(filter(None, [ends, *_modes(key)]))


def _modes(key: PathKey) -> list[str]:
    """How a path is bent and what was mended on it; empty where not."""
    return [CURVES.get(key.curve, key.curve), CORRECTIONS.get(key.correction, key.correction)]


def ends(path: str) -> list[str]:
    """The networks at the ends of a path.

    >>> ends("a-b_aligned/repair"), ends("mlp|a-b")
    (['a', 'b_aligned'], ['mlp|a', 'mlp|b'])
    """
    return [str(end) for end in PathKey.parse(path)[:2]]


def plain_path(path: str) -> str:
    """The same path without a correction.

    >>> plain_path("a-b_aligned/repair")
    'a-b_aligned'
    """
    return str(PathKey.parse(path).plain)


def spawn_epoch(path: str) -> float | None:
    """The epoch at which the ends of a path of a sweep parted; None elsewhere.

    >>> spawn_epoch("a@0.5-b@0.5/recompute"), spawn_epoch("a-b")
    (0.5, None)
    """
    return PathKey.parse(path).a.spawn_epoch


def convention(path: str) -> str:
    """How a reader is told of what was corrected along a path, and whether it was permuted; often empty.

    >>> convention("a@0.5-b@0.5/recompute"), convention("a-b_aligned"), convention("a-b")
    ('BN recomputed', 'permuted', '')
    """
    key = PathKey.parse(path)
    return ", ".join(filter(None, ["permuted" * key.aligned, *_modes(key)]))


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is.

    >>> count(1, "layer"), count(3, "layer")
    ('1 layer', '3 layers')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def quantities(lmc: Results) -> tuple[str, ...]:
    """`loss` and, unless it is one of the caller's own, `error`: what was measured along all paths."""
    curves = [entry[split] for entry in lmc.values() for split in ("test", "train") if split in entry]
    needed = {"error", "error_barrier", "error_midpoint_gap", "error_excess_std"}
    return ("loss", *["error"] * all(needed <= own.keys() for own in curves))


def loss(value: float | None, lmc: Results) -> str:
    """A loss with its unit, which one of the caller's own doesn't have."""
    return f"{nats(value)} nats" if "error" in quantities(lmc) else nats(value)


def several_runs(entries: Results) -> bool:
    """Whether the keys, of paths, name the runs that they belong to."""
    return any(PathKey.parse(path).a.run for path in entries)


def is_aligned(path: str) -> bool:
    """Whether an end of the path was permuted."""
    return PathKey.parse(path).aligned


def is_bent(path: str) -> bool:
    """Whether the path is another curve than the line."""
    return bool(PathKey.parse(path).curve)


def alpha_label(alpha: float) -> str:
    """A short name of α.

    >>> alpha_label(0.5), alpha_label(0.1)
    ('½', '0.1')
    """
    return FRACTIONS.get(alpha, f"{alpha:g}")


def point_label(path: str, alpha: float) -> str:
    """A network on a path: its end, or θ at α.

    >>> [point_label("a-b_aligned", alpha) for alpha in (0.0, 0.5, 1.0)]
    ['A', 'θ½', 'π(B)']
    """
    if alpha in (0, 1):
        return network_label(ends(path)[int(alpha)])
    return f"θ{alpha_label(alpha)}"


def written(text: str, newline: str = "\n") -> str:
    r"""What a language model wrote, without what would control a terminal.

    >>> written("a\nb\x1b[2J", newline="↵")
    'a↵b�[2J'
    """
    return "".join(newline if c == "\n" else c if c.isprintable() else "�" for c in text)


def nearest_half(alphas: Sequence[float]) -> int:
    """The index of the α closest to ½, where linearity is hardest."""
    return int(np.argmin(np.abs(numbers(alphas) - 0.5)))


def half_label(alphas: Sequence[float]) -> str:
    """The name of the α closest to ½.

    >>> half_label([0.2, 0.4, 0.9])
    'α = 0.4'
    """
    return f"α = {alpha_label(alphas[nearest_half(alphas)])}"


def dearest(rungs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The rung of a ladder of constraints that costs most.

    >>> dearest([{"cost": 0.1}, {"cost": None}, {"cost": 0.3}])
    {'cost': 0.3}
    """
    return max(rungs, key=lambda rung: -np.inf if rung["cost"] is None else rung["cost"])


UNCONSTRAINED = "no constraints to loosen: no bases are tied by skip connections, no array is read twice"
"""Said of a network whose ladder has one rung."""


def nats(value: float | None) -> str:
    """A loss.

    >>> nats(1.23456), nats(0.00123), nats(0.00001), nats(0.0), nats(None)
    ('1.235', '0.0012', '< 0.0001', '0', '–')
    """
    number = float(numbers(value))
    if not np.isfinite(number):
        return "–"
    if abs(number) < 0.00005:
        return "0" if number == 0 else "< 0.0001" if number > 0 else "> -0.0001"
    return f"{number:.3f}" if abs(number) >= 0.1 else f"{number:.4f}"


def percent(fraction: float | None) -> str:
    """An error, given as a fraction.

    >>> percent(0.0215), percent(0.9), percent(None)
    ('2.15 %', '90.0 %', '–')
    """
    number = 100 * float(numbers(fraction))
    if not np.isfinite(number):
        return "–"
    return f"{number:.1f} %" if abs(number) >= 10 else f"{number:.2f} %"


def ratio(value: float | None) -> str:
    """A ratio of lengths; infinite over a unit of zero.

    >>> ratio(0.396), ratio(0.0003), ratio(0.0), ratio(61.7), ratio(float("inf")), ratio(None)
    ('0.40', '< 0.01', '0', '62', '∞', '–')
    """
    number = float(numbers(value))
    if np.isnan(number):
        return "–"
    if np.isinf(number):
        return "∞"
    if number < 0.005:
        return "< 0.01" if number else "0"
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"


def distance(value: float | None) -> str:
    """A cosine distance or another number of unknown magnitude.

    >>> distance(0.163), distance(0.00123), distance(0.0000123), distance(0), distance(None)
    ('0.16', '0.0012', '1.2e-05', '0', '–')
    """
    number = float(numbers(value))
    if not np.isfinite(number):
        return "–"
    return f"{number:#.2g}" if abs(number) >= 1e-3 else f"{number:.1e}" if number else "0"


def number(value: Any) -> str:
    """A number of unknown kind with three digits, several in a row; what is no number as it is.

    >>> number(2.384185791015625e-07), number([0.28604125, 2.0]), number(48), number("cpu")
    ('2.38e-07', '0.286, 2', '48', 'cpu')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "unknown" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def coefficient(value: float | None) -> str:
    """A number near one, or its deviation.

    >>> coefficient(0.99712), coefficient(None)
    ('0.997', '–')
    """
    number = float(numbers(value))
    return f"{number:.3f}" if np.isfinite(number) else "–"
