"""What values fields can have: small predicates that can say what they expect."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

_MOST_SHOWN = 80

_LARGEST = 1e30
"""Of numbers without a bound of their own: float32 ends at 3e38, and what is made of them has to fit, too."""


class Rule(NamedTuple):
    """Whether a value fits, and what to say was expected where it doesn't."""

    fits: Callable[[Any], bool]
    expected: str


def shown(value: Any) -> str:
    """A value in an error's one line, which the longest shan't fill.

    Example:
        >>> shown("abc"), len(shown("x" * 5000))
        ("'abc'", 80)
    """
    written = repr(value)
    return written if len(written) <= _MOST_SHOWN else f"{written[: _MOST_SHOWN - 1]}…"


def whole(least: int, most: int | None = None) -> Rule:
    """An integer within bounds, both included, and such that JSON keeps it.

    Example:
        >>> [whole(1, 3).fits(value) for value in (1, 4, True, 2.0)], whole(1, 3).expected, whole(0).expected
        ([True, False, False, False], 'a whole number in [1, 3]', 'a whole number in [0, 2^53]')
    """
    rule = number(least, 2**53 if most is None else most)
    expected = f"a whole number in [{least}, {'2^53' if most is None else most}]"
    return Rule(lambda value: isinstance(value, int) and rule.fits(value), expected)


def number(least: float, most: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """A finite number within bounds, which `above` and `below` exclude; 1e30 bounds all.

    Example:
        >>> [number(0).fits(value) for value in (0, 1e300, float("nan"))], number(0, 1, below=True).expected
        ([True, False, False], 'a number in [0, 1)')
    """
    opening, closing = "(" if above else "[", ")" if below else "]"
    if most < math.inf:
        expected = f"a number in {opening}{least}, {most}{closing}"
    else:
        expected = f"a number above {least}" if above else f"a number, {least} at least"
        expected += f", up to {_LARGEST:g}"

    def fits(value: Any) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
        inside = is_number and (least < value if above else least <= value)
        return bool(inside and (value < most if below else value <= most))

    return Rule(fits, expected)


def finite() -> Rule:
    """Any number but infinities, NaN, and what is almost infinite."""
    return Rule(number(-math.inf).fits, f"a finite number, up to {_LARGEST:g}")


def switch() -> Rule:
    """True or false."""
    return Rule(lambda value: isinstance(value, bool), "true or false")


def choice(*names: str) -> Rule:
    """One of a few names."""
    return Rule(lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}")


def text() -> Rule:
    """Any string that a file or split could be called."""
    return Rule(lambda value: isinstance(value, str) and value.isprintable(), "a name or path")
