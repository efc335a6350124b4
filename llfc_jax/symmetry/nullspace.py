"""Exact solutions of homogeneous linear equations, over the rationals or modulo 2."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

Variable = TypeVar("Variable", bound=Hashable)


def nullspace(
    rows: Iterable[Mapping[Variable, Fraction]], variables: Sequence[Variable], *, modulo_2: bool = False
) -> list[dict[Variable, Fraction]]:
    """A basis of the solutions, one vector for each variable that is free; zeros are left out.

    Args:
        rows: each a sum of multiples of variables that is 0.
        variables: all of them; those at the end are left free first.
        modulo_2: whether the numbers are whole and count by their parity.

    Example:
        >>> nullspace([{"x": Fraction(1), "y": Fraction(-2)}], ["x", "y"])
        [{'y': Fraction(1, 1), 'x': Fraction(2, 1)}]
    """
    rank = {variable: i for i, variable in enumerate(variables)}
    pivots: dict[Variable, dict[Variable, Fraction]] = {}

    def reduced(number: Fraction) -> Fraction:
        return Fraction(number % 2) if modulo_2 else number

    for row in rows:
        left = {variable: reduced(factor) for variable, factor in row.items() if reduced(factor)}
        while left:
            first = min(left, key=rank.__getitem__)
            scale = left[first]
            if first not in pivots:
                pivots[first] = {variable: factor / scale for variable, factor in left.items()}
                break
            for variable, factor in pivots[first].items():
                difference = reduced(left.get(variable, Fraction(0)) - scale * factor)
                if difference:
                    left[variable] = difference
                else:
                    left.pop(variable, None)
    found = []
    order = sorted(pivots, key=rank.__getitem__, reverse=True)
    for free in (variable for variable in variables if variable not in pivots):
        solution = {free: Fraction(1)}
        for pivot in order:
            others = (
                -factor * solution[variable]
                for variable, factor in pivots[pivot].items()
                if variable in solution
            )
            if value := reduced(sum(others, start=Fraction(0))):
                solution[pivot] = value
        found.append(solution)
    return found
