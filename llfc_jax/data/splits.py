"""Split expressions such as `train[:10000]`, `train[-10%:]` or `train[:500]+test`, in TFDS's syntax."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llfc_jax.errors import UserError

_TERM = re.compile(r"([\w-]+)(?:\[([^:]*):([^:]*)\])?")
_BOUND = re.compile(r"(-?\d+)|(-?\d+(?:\.\d+)?)%")


class Slice(NamedTuple):
    """Examples `start` to `stop` (exclusive) of a named split."""

    split: str
    start: int
    stop: int


def parse(expression: str, sizes: Mapping[str, int], *, field: str) -> tuple[Slice, ...]:
    """Resolves a split expression into slices with absolute bounds.

    Percentages are rounded to the closest example, as TFDS does by default; unlike Python's slices,
    bounds beyond the end are an error, as in TFDS.

    Args:
      expression: sum of `name` or `name[start:stop]`; a bound is a number of examples or a percentage, and
        counts from the end when negative.
      sizes: number of examples in each split.
      field: the configuration field that an error names.

    Raises:
      UserError: the syntax is wrong, there is no such split, or the slice is empty or exceeds the split.

    >>> parse("train[:10%]+test[-20:]", {"train": 500, "test": 100}, field="data.train_split")
    (Slice(split='train', start=0, stop=50), Slice(split='test', start=80, stop=100))
    """
    where = f"{field}={expression!r}"
    return tuple(_parse_term(term.strip(), sizes, where) for term in expression.split("+"))


def check_disjoint(train: Sequence[Slice], test: Sequence[Slice], *, expressions: Mapping[str, str]) -> None:
    """Check that no example is taken twice, which would be tested on what was trained on.

    Args:
      train: slices to train on.
      test: slices to test on.
      expressions: configuration field -> what it says, of both, for the error.

    Raises:
      UserError: two slices overlap.

    >>> check_disjoint([Slice("train", 0, 50)], [Slice("train", 50, 60)], expressions={})
    """
    for one, other in itertools.combinations([*train, *test], 2):
        start, stop = max(one.start, other.start), min(one.stop, other.stop)
        if one.split == other.split and start < stop:
            said = " and ".join(f"{field}={expression!r}" for field, expression in expressions.items())
            twice = f"{one.split}[{start}:{stop}]"
            raise UserError(f"{said}: expected splits without overlap; found {twice} twice")


def _parse_term(term: str, sizes: Mapping[str, int], where: str) -> Slice:
    match = _TERM.fullmatch(term)
    if match is None:
        raise UserError(
            f"{where}: expected a split such as 'train', 'train[:1000]' or 'train[10%:]', found {term!r}"
        )
    name, start, stop = match.groups(default="")
    if name not in sizes:
        raise UserError(
            f"{where}: no split {name!r}; expected {', '.join(sizes)}, or a slice such as 'train[:1000]'"
        )
    if start and stop and start.endswith("%") != stop.endswith("%"):
        raise UserError(
            f"{where}: expected both bounds of {term!r} as numbers of examples or both as percentages"
        )
    size = sizes[name]
    result = Slice(name, _parse_bound(start, 0, size, where), _parse_bound(stop, size, size, where))
    if not result.start < result.stop:
        raise UserError(f"{where}: {term!r} holds no examples; split {name!r} has {size}")
    return result


def _parse_bound(text: str, default: int, size: int, where: str) -> int:
    if not text:
        return default
    match = _BOUND.fullmatch(text)
    if match is None:
        raise UserError(f"{where}: expected a number of examples or a percentage as bound, found {text!r}")
    count, percentage = match.groups()
    bound = int(count) if count else round(float(percentage) * size / 100)
    if abs(bound) > size:
        raise UserError(f"{where}: bound {text} is beyond the {size} examples of the split")
    return bound + size if bound < 0 else bound
