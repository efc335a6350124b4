"""What networks and paths are called in checkpoints and `results.json`: made and read in this one place."""

import re
from typing import NamedTuple, Self

import numpy as np

from llfc_jax.errors import UserError

_NETWORK = re.compile(
    r"(?:(?P<run>.+)\|)?(?P<name>[a-z]+)(?:@(?P<epoch>\d+(?:\.\d+)?))?(?P<aligned>_aligned)?"
)

CURVES = BEZIER, POLYGON = "bezier", "polygon"
"""How curves between two networks are bent."""

CONTROL, STAR, TASK = "control", "star", "task"
"""The network that shares nothing with the others; the centre of the star whose tips they are; what precedes
the name of a network in that of another on the line to it from the trunk."""


class NetworkKey(NamedTuple):
    """A network, such as `a`, `b_aligned`, `trunk@0.5` or `RUN|b`."""

    name: str
    """`a`, `b`, ...; `trunk`; `control`; `star`; `taska`, `taskb`, ...; `merged`."""
    spawn_epoch: float | None = None
    """In a sweep: where its trunk ended."""
    aligned: bool = False
    """Whether its units were permuted into the basin of `a`."""
    run: str = ""
    """Among the results of several runs: the one it belongs to."""

    def __str__(self) -> str:
        epoch = self.spawn_epoch
        # No exponent: names are joined by dashes.
        spawned = "" if epoch is None else f"@{np.format_float_positional(epoch, trim='-')}"
        run = f"{self.run}|" if self.run else ""
        return f"{run}{self.name}{spawned}{'_aligned' * self.aligned}"

    @classmethod
    def parse(cls, key: str) -> Self:
        """The network that a key stands for.

        Raises:
            UserError: it stands for none.

        Example:
            >>> NetworkKey.parse("mlp|b@0.5_aligned")
            NetworkKey(name='b', spawn_epoch=0.5, aligned=True, run='mlp')
        """
        found = _NETWORK.fullmatch(key)
        if not found:
            raise UserError(f"expected a network such as a, b_aligned or trunk@2; found {key!r}")
        epoch = found["epoch"]
        return cls(
            found["name"], None if epoch is None else float(epoch), bool(found["aligned"]), found["run"] or ""
        )


class PathKey(NamedTuple):
    """The path between two networks, such as `a-b`, `a-b_aligned/recompute`, `a-b/bezier` or `RUN|a-b`."""

    a: NetworkKey
    """At alpha = 0."""
    b: NetworkKey
    """At alpha = 1; of the same run."""
    correction: str = ""
    """How theta_alpha was mended on it: `recompute`, `repair`, or not."""
    curve: str = ""
    """How it is bent: `bezier`, `polygon`, or not."""

    def __str__(self) -> str:
        ends = f"{self.a}-{self.b._replace(run='')}"
        return "/".join(filter(None, (ends, self.curve, self.correction)))

    @classmethod
    def parse(cls, key: str) -> Self:
        """The path that a key stands for.

        Raises:
            UserError: it stands for none.

        Example:
            >>> path = PathKey.parse("a-b_aligned/recompute")
            >>> path.b.aligned, path.correction, str(path.in_run("mlp"))
            (True, 'recompute', 'mlp|a-b_aligned/recompute')
        """
        run, _, path = key.rpartition("|")
        pair, *modes = path.split("/")
        curve = modes.pop(0) if modes and modes[0] in CURVES else ""
        names = pair.split("-")
        if len(names) != 2 or len(modes) > 1:
            raise UserError(f"expected a path such as a-b or a-b_aligned/recompute; found {key!r}")
        a, b = (NetworkKey.parse(name)._replace(run=run) for name in names)
        return cls(a, b, "".join(modes), curve)

    @property
    def plain(self) -> Self:
        """The same path without a correction."""
        return self._replace(correction="")

    @property
    def aligned(self) -> bool:
        """Whether an end of it was permuted."""
        return self.a.aligned or self.b.aligned

    @property
    def is_control(self) -> bool:
        """Whether its ends share nothing, on purpose."""
        return self.b.name == CONTROL

    def in_run(self, run: str) -> Self:
        """The same path among the results of several runs."""
        return self._replace(a=self.a._replace(run=run), b=self.b._replace(run=run))
