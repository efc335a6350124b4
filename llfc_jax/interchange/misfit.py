"""Why a file doesn't hold a network, in one line."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from llfc_jax.interchange.name_tables import TABLES, nearest, own
from llfc_jax.interchange.names import Module
from llfc_jax.interchange.slots import MISSING, Slot, Target, fit, may_be
from llfc_jax.interchange.stored import File
from llfc_jax.interchange.torch_layouts import LAYERS, Shape

Shapes = Mapping[Module, Mapping[str, Shape]]
"""Module -> role -> shape."""


def describe(file: File, arrays: Mapping[Module, Mapping[str, str]], wanted: Target, start: Module) -> str:
    """What is missing, left over or of another shape; and the known architecture that the file is of.

    Args:
        file: what was read.
        arrays: module -> role -> name in the file, of what may be layers.
        wanted: what the network needs.
        start: the part of the file that was looked in.
    """
    pickled = [repr(name) for name, one in file.stored.items() if one.dtype == "object"]
    if pickled and not arrays:
        return f"it has no arrays of layers, and {listed(pickled)} are pickled objects, which are not read"
    shapes = {
        module: {role: file.stored[name].shape for role, name in own.items()}
        for module, own in arrays.items()
    }
    prefixes = list(_prefixes(arrays, start))
    separator = "/" if any("/" in name for name in file.stored) else "."
    faults = _by_name(shapes, wanted, prefixes, separator) or _by_shape(shapes, wanted.slots)
    parts = [
        {
            ".".join(module[len(prefix) :]): frozenset(own)
            for module, own in arrays.items()
            if _in(module, prefix)
        }
        for prefix in prefixes
    ]
    known = nearest(parts, wanted.input_shape)
    return "; ".join(faults) + (f"; nearest known architecture: {known}" if known else "")


def listed(items: Iterable[str]) -> str:
    """The first few of several names.

    Example:
        >>> listed("abcdefghij")
        'a, b, c, d, e, f and 4 more'
    """
    items = [*items]
    return ", ".join(items[:6]) + (f" and {len(items) - 6} more" if len(items) > 6 else "")


def _in(module: Module, part: Module) -> bool:
    return module[: len(part)] == part


def _prefixes(modules: Iterable[Module], start: Module) -> Iterator[Module]:
    """What most names begin with, from the shortest: a wrapper, a container of all layers."""
    inside = [module for module in modules if _in(module, start)]
    while inside:
        yield start
        deeper = [module[: len(start) + 1] for module in inside if len(module) > len(start)]
        start = max({*deeper}, key=deeper.count, default=start)
        if 2 * deeper.count(start) <= len(inside):
            return
        inside = [module for module in inside if _in(module, start)]


def _by_name(shapes: Shapes, wanted: Target, prefixes: Sequence[Module], separator: str) -> list[str]:
    """The difference to the known naming that shares most with the file, if it shares half."""
    of_jax = any("kernel" in roles for roles in shapes.values())
    candidates = []
    for prefix in prefixes:
        for table in (own, *TABLES.values()):
            names_ = table(wanted.network)
            if all(slot.stage in names_ for slot in wanted.slots):
                named = {
                    (*prefix, *re.split("[/.]", names_[slot.stage]), *slot.tail): slot
                    for slot in wanted.slots
                }
                candidates.append((len(named.keys() & shapes.keys()), prefix, named))
    shared, prefix, named = max(candidates, key=lambda candidate: candidate[0], default=(0, (), {}))
    if 2 * shared < len(named) or not named:
        return []
    expected = {
        (module, role): shape
        for module, slot in named.items()
        for role, shape in _expected(slot, of_jax, shapes.get(module, {})).items()
    }
    found = {
        (module, role): shape
        for module, roles in shapes.items()
        if _in(module, prefix)
        for role, shape in roles.items()
    }
    name = {key: separator.join((*key[0], key[1])) for key in {**expected, **found}}
    wrong = [
        f"{name[key]!r} is {size(found[key])} (expected {size(shape)})"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    missing = [
        f"{name[key]!r} ({size(shape)}) is missing" for key, shape in expected.items() if key not in found
    ]
    left_over = [
        f"{name[key]!r} ({size(shape)}) is left over" for key, shape in found.items() if key not in expected
    ]
    return [shortened(faults) for faults in (wrong, missing, left_over) if faults]


def _expected(slot: Slot, of_jax: bool, there: Mapping[str, Shape]) -> dict[str, Shape]:
    """Role -> shape, in the file's manner of speaking; without what it may lack and does."""
    table = {} if of_jax else LAYERS.get(slot.layer, {})
    roles = {}
    for _, array, shape in slot.arrays:
        role, there_shape = array, shape
        if array in table:
            role, layout = table[array]
            there_shape = layout(shape, slot.flattened).shape
        if role in there or not there or array not in MISSING:
            roles[role] = there_shape
    return roles


def _by_shape(shapes: Shapes, slots: Sequence[Slot]) -> list[str]:
    """Layers of ours that nothing fits, and modules of the file that fit nothing, counting both."""
    free = dict(shapes)
    unfilled = []
    for slot in slots:
        fitting = next((one for one, own in free.items() if fit(slot, own) and may_be(slot, one)), None)
        if fitting is None:
            unfilled.append(f"nothing in it fits {slot.name!r} ({_sizes({a: s for _, a, s in slot.arrays})})")
        else:
            del free[fitting]
    left_over = [f"{'.'.join(module)!r} ({_sizes(own)}) fits no layer" for module, own in free.items()]
    return [shortened(faults) for faults in (unfilled, left_over) if faults] or ["it holds no whole network"]


def shortened(faults: Sequence[str]) -> str:
    """The first of several, and how many are like it."""
    return faults[0] + (f", {len(faults) - 1} more like it" if len(faults) > 1 else "")


def _sizes(arrays: Mapping[str, Shape]) -> str:
    return ", ".join(f"{role} {size(shape)}" for role, shape in arrays.items())


def size(shape: Shape) -> str:
    """As it is printed."""
    return "x".join(map(str, shape)) or "scalar"
