"""Curves from one network to another: theta at alpha, of the two ends and of what the curve bends towards."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from llfc_jax.path.interpolation import lerp
from llfc_jax.results.keys import BEZIER, POLYGON
from llfc_jax.types import Array, PyTree, Variables

LINE = "line"


def bezier(a: Variables, bend: Variables, b: Variables, alpha: Array | float) -> Variables:
    """(1 - alpha)^2 A + 2 alpha (1 - alpha) C + alpha^2 B, by de Casteljau's two steps: exact at the ends."""
    return lerp(lerp(a, bend, alpha), lerp(bend, b, alpha), alpha)


def polygon(a: Variables, bend: Variables, b: Variables, alpha: Array | float) -> Variables:
    """From A straight to C, where alpha is 1/2, and on to B."""
    first, second = jnp.minimum(2 * alpha, 1), jnp.maximum(2 * alpha - 1, 0)
    return lerp(lerp(a, bend, first), b, second)


BENT: dict[str, Callable[[Variables, Variables, Variables, Array | float], Variables]] = {
    BEZIER: bezier,
    POLYGON: polygon,
}
"""Curves with one bend C (Garipov et al. 2018, arXiv 1802.10026, section 3.2)."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("a", "b", "corrections", "bend"),
    meta_fields=("kind",),
)
@dataclass(frozen=True, eq=False)
class Curve:
    """A curve between two networks: the straight line, unless it has a bend."""

    a: Variables
    b: Variables
    corrections: Mapping[float, PyTree] | None = None
    """What mends theta_alpha, at each alpha; `None` leaves theta_alpha as it is."""
    bend: Variables | None = None
    kind: str = LINE
    """`line`, or one of `BENT`."""

    @property
    def is_line(self) -> bool:
        """Whether what is linear in theta is linear in alpha."""
        return self.kind == LINE

    def at(self, alpha: Array | float) -> Variables:
        """theta_alpha, before it is mended.

        Example:
            >>> curve = Curve({"w": jnp.zeros(1)}, {"w": jnp.zeros(1)}, None, {"w": jnp.ones(1)}, "bezier")
            >>> curve.at(0.5)
            {'w': Array([0.5], dtype=float32)}
        """
        if self.is_line:
            return lerp(self.a, self.b, alpha)
        return BENT[self.kind](self.a, self.bend, self.b, alpha)
