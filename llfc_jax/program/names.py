"""Readable names for the nodes of a program that nobody has named."""

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

_COLLECTIONS = ("params", "batch_stats")
_ROLES = ("kernel", "weight", "scale", "gain", "gamma", "bias", "beta", "w", "b", "g")
_SCOPE = re.compile(r"[\w.]+")


class Unnamed(NamedTuple):
    """What a node can be named by."""

    label: str
    """What it does."""
    scope: str
    """The named scopes around it."""
    weights: Sequence[str]
    """Paths of the leaves that it is named by: those of a contraction's weight, else all."""
    beside: Sequence[str]
    """Paths of all leaves that it reads."""
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
        >>> leaves = [(f"params/Dense_{i}/kernel",) for i in (0, 1)]
        >>> first, last = (Unnamed("dense", "", own, own, (), None) for own in leaves)
        >>> choose([first, Unnamed("relu", "", (), (), (0,), None), last])
        ['Dense_0', 'relu1', 'Dense_1']
    """
    owners: dict[str, set[str]] = {}
    for node in nodes:
        if node.weights:
            owners.setdefault(_module(node), set()).add(_own(node))
    taken = {node.given for node in nodes if node.given is not None}
    names: list[str] = []
    modules: list[str] = []
    for node in nodes:
        scopes = [part for part in node.scope.split("/") if _SCOPE.fullmatch(part)]
        step = "".join(f"{part}/" for part in scopes if part.isdecimal())
        if node.weights:
            module = _module(node)
            several = len(owners[module]) > 1
            name = _unused(step + (_own(node) if several else module), taken)
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


def _own(node: Unnamed) -> str:
    """What a layer among others in one module is called: `ln1` if it reads `ln1_scale` and `ln1_bias`."""
    parent, _, last = _path(node.weights[0]).rpartition("/")
    paths = (_path(leaf).rpartition("/") for leaf in node.beside)
    shared = "".join(_common(name for module, _, name in paths if module == parent))
    stem, separator, role = last.rpartition("_")
    if shared != last and shared.endswith("_"):
        last = shared.rstrip("_")
    elif separator and role in _ROLES:
        last = stem
    return "/".join(part for part in (parent, last) if part)


def _module(node: Unnamed) -> str:
    """What contains all of the leaves; leaves at the root stand for themselves."""
    paths = [_path(leaf).split("/") for leaf in node.weights]
    return "/".join(_common(path[:-1] for path in paths)) or _own(node)


def _common(sequences: Iterable[Sequence[str]]) -> list[str]:
    """What all begin with."""
    levels = zip(*sequences, strict=False)
    return [level[0] for level in itertools.takewhile(lambda level: len({*level}) == 1, levels)]


def _unused(name: str, taken: Collection[str]) -> str:
    return name if name not in taken else _numbered(f"{name}_", taken, start=2)


def _numbered(prefix: str, taken: Collection[str], start: int = 1) -> str:
    names = (f"{prefix}{number}" for number in itertools.count(start))
    return next(name for name in names if name not in taken)
