"""How the report reads `results.json`: nulls, paths, and the names that people see."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Results: TypeAlias = Mapping[str, Any]
"""The contents of `results.json`."""

CONVENTIONS = {"recompute": "BN recomputed", "repair": "REPAIR"}
"""What follows the slash in a path's key -> how a reader is told."""

RUN_SEPARATOR = "|"
"""In the results of several runs, what stands between a run's name and the key of its path or network."""

FRACTIONS = {0.25: "¼", 0.5: "½", 0.75: "¾"}


def numbers(values: Sequence[float | None] | float | None) -> NDArray[np.float64]:
    """A float64 array of `values`, with JSON's null as NaN.

    >>> numbers([1, None])
    array([ 1., nan])
    """
    return np.asarray(values, dtype=np.float64)


def network_label(name: str) -> str:
    """The symbol of a network: its letter, with the epoch of its spawn in a sweep, in π(·) once permuted.

    >>> network_label("a"), network_label("b_aligned"), network_label("trunk"), network_label("mlp|b")
    ('A', 'π(B)', 'trunk', 'mlp: B')
    >>> network_label("a@0.5"), network_label("b@2_aligned")
    ('A@0.5', 'π(B@2)')
    """
    run, _, name = name.rpartition(RUN_SEPARATOR)
    if run:
        return f"{run}: {network_label(name)}"
    letter, _, suffix = name.partition("_")
    letter = letter.upper() if len(letter.partition("@")[0]) == 1 else letter
    if suffix == "aligned":
        return f"π({letter})"
    return f"{letter} {suffix}".strip()


def path_label(path: str) -> str:
    """The name of a path `[run|]first-second[/convention]` in the figures and tables.

    >>> path_label("a-b_aligned"), path_label("a-b/recompute"), path_label("mlp|a-b")
    ('A–π(B)', 'A–B, BN recomputed', 'mlp: A–B')
    """
    run, _, path = path.rpartition(RUN_SEPARATOR)
    if run:
        return f"{run}: {path_label(path)}"
    pair, _, convention = path.partition("/")
    label = "–".join(network_label(name) for name in pair.split("-"))
    return f"{label}, {CONVENTIONS.get(convention, convention)}" if convention else label


def ends(path: str) -> list[str]:
    """The networks at the ends of a path.

    >>> ends("a-b_aligned/repair"), ends("mlp|a-b")
    (['a', 'b_aligned'], ['mlp|a', 'mlp|b'])
    """
    run, separator, path = path.rpartition(RUN_SEPARATOR)
    return [f"{run}{separator}{name}" for name in path.partition("/")[0].split("-")]


def spawn_epoch(path: str) -> float | None:
    """The epoch at which the ends of a path of a sweep parted; None elsewhere.

    >>> spawn_epoch("a@0.5-b@0.5/recompute"), spawn_epoch("a-b")
    (0.5, None)
    """
    _, _, epoch = ends(path)[0].partition("@")
    return float(epoch) if epoch else None


def convention(path: str) -> str:
    """How a reader is told of what was corrected along a path, and whether it was permuted; often empty.

    >>> convention("a@0.5-b@0.5/recompute"), convention("a-b_aligned"), convention("a-b")
    ('BN recomputed', 'permuted', '')
    """
    suffix = path.partition("/")[2]
    return ", ".join(filter(None, ["permuted" * is_aligned(path), CONVENTIONS.get(suffix, suffix)]))


def several_runs(entries: Results) -> bool:
    """Whether the keys, of paths, name the runs that they belong to."""
    return any(RUN_SEPARATOR in path for path in entries)


def is_aligned(path: str) -> bool:
    """Whether an end of the path was permuted."""
    return any(name.endswith("_aligned") for name in ends(path))


def primary_path(paths: Sequence[str]) -> str:
    """The path that a summary shows: the first aligned one if there is one, else the first."""
    return next((path for path in paths if is_aligned(path)), paths[0])


def alpha_label(alpha: float) -> str:
    """A short name of α.

    >>> alpha_label(0.5), alpha_label(0.1)
    ('½', '0.1')
    """
    return FRACTIONS.get(alpha, f"{alpha:g}")


def nearest_half(alphas: Sequence[float]) -> int:
    """The index of the α closest to ½, where linearity is hardest."""
    return int(np.argmin(np.abs(numbers(alphas) - 0.5)))


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


def share(ratio: float | None) -> str:
    """A ratio.

    >>> share(0.0396), share(0.0003), share(0.00001), share(0.0), share(None)
    ('4.0 %', '0.03 %', '< 0.01 %', '0 %', '–')
    """
    number = 100 * float(numbers(ratio))
    if not np.isfinite(number):
        return "–"
    if number < 0.01:
        return "< 0.01 %" if number else "0 %"
    return f"{number:.1f} %" if number >= 1 else f"{number:.2f} %"


def distance(value: float | None) -> str:
    """A cosine distance or another number of unknown magnitude.

    >>> distance(0.00123), distance(0), distance(None)
    ('1.2e-03', '0', '–')
    """
    number = float(numbers(value))
    if not np.isfinite(number):
        return "–"
    return f"{number:.1e}" if number else "0"


def coefficient(value: float | None) -> str:
    """A number near one, or its deviation.

    >>> coefficient(0.99712), coefficient(None)
    ('0.997', '–')
    """
    number = float(numbers(value))
    return f"{number:.3f}" if np.isfinite(number) else "–"
