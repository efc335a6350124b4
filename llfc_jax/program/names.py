"""Readable names for the nodes of a program that nobody has named."""

import itertools
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

_COLLECTIONS = ("params", "batch_stats")
_SCOPE = re.compile(r"[\w.]+")


class Unnamed(NamedTuple):
    """What a node can be named by."""

    label: str
    """What it does."""
    scope: str
    """The named scopes around it."""
    weights: Sequence[str]
    """Paths of the leaves that are its own."""
    inputs: Sequence[int]
    """Positions of the nodes before it."""
    given: str | None
    """The name that somebody gave it."""


def choose(nodes: Sequence[Unnamed]) -> list[str]:
    """A name for each node, no two alike.

    What was given; else the module of its weights, or their own path where a module has several; else what it
    does, numbered, in the module whose scope it is in or whose nodes it follows. Layers of a scan begin with
    their number.

    Example:
        >>> dense = [Unnamed("dense", "", (f"params/Dense_{i}/kernel",), (), None) for i in (0, 1)]
        >>> choose([dense[0], Unnamed("relu", "", (), (0,), None), dense[1]])
        ['Dense_0', 'relu1', 'Dense_1']
    """
    owners: dict[str, set[str]] = {}
    for node in nodes:
        if node.weights:
            owners.setdefault(_module(node.weights), set()).add(_own(node.weights))
    taken = {node.given for node in nodes if node.given is not None}
    names: list[str] = []
    modules: list[str] = []
    for node in nodes:
        scopes = [part for part in node.scope.split("/") if _SCOPE.fullmatch(part)]
        step = "".join(f"{part}/" for part in scopes if part.isdecimal())
        if node.weights:
            module = _module(node.weights)
            several = len(owners[module]) > 1
            name = _unused(step + (_own(node.weights) if several else module), taken)
            inside = step + (module if several else module.rpartition("/")[0])
        else:
            inside = "/".join(scopes[1:]) if scopes else _last(modules, node.inputs)
            name = _numbered("/".join(part for part in (inside, node.label) if part), taken)
        name = node.given or name
        taken.add(name)
        names.append(name)
        modules.append(inside.rstrip("/"))
    return names


def _last(modules: Sequence[str], inputs: Sequence[int]) -> str:
    return modules[inputs[-1]] if inputs else ""


def _path(leaf: str) -> str:
    """Without the collection, and without what NNX puts behind."""
    parts = leaf.split("/")
    parts = parts[1:] if parts[0] in _COLLECTIONS and len(parts) > 1 else parts
    return "/".join(parts[:-1] if parts[-1] == "value" and len(parts) > 1 else parts)


def _own(weights: Sequence[str]) -> str:
    return _path(weights[0])


def _module(weights: Sequence[str]) -> str:
    """What contains all of the leaves; a leaf at the root stands for itself."""
    paths = [_path(leaf).split("/") for leaf in weights]
    levels = zip(*(path[:-1] for path in paths), strict=False)
    shared = [level[0] for level in itertools.takewhile(lambda level: len({*level}) == 1, levels)]
    return "/".join(shared or paths[0])


def _unused(name: str, taken: Collection[str]) -> str:
    return name if name not in taken else _numbered(f"{name}_", taken, start=2)


def _numbered(prefix: str, taken: Collection[str], start: int = 1) -> str:
    names = (f"{prefix}{number}" for number in itertools.count(start))
    return next(name for name in names if name not in taken)
