"""Which module of a file is which layer of ours: a search among the assignments that shapes allow.

Shapes say which modules fit a layer. Of the assignments left, names veto those in which modules that are
numbered alike change their order, or in which a block of theirs is spread over several of ours: blocks may
lie in each other, but not cross. So a pre-activation block (norm, conv, norm, conv) is none of (conv, norm,
conv, norm), though a network of them has the same arrays. If several assignments are left, the order in which
a file was written decides, if the format keeps it and nothing known contradicts it; else they are ambiguous.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import NamedTuple

from llfc_jax.interchange import names
from llfc_jax.interchange.names import Module
from llfc_jax.interchange.slots import Slot
from llfc_jax.models import Network

_BUDGET = 50_000
"""Steps of the search; far more than names that say anything about an order need."""


class Assignment(NamedTuple):
    """The module of each slot."""

    modules: tuple[Module, ...]
    decided_by: str
    """What told it from all others: `shapes`, `shapes and names`, `shapes and order`."""


class Ambiguous(NamedTuple):
    """Several assignments are possible."""

    candidates: tuple[Module, ...]
    slots: tuple[Slot, ...]
    why: str


class Crossing(NamedTuple):
    """Shapes fit, but names veto every assignment."""

    group: frozenset[Module]
    """A block of theirs that none of ours can be."""


def assign(
    slots: Sequence[Slot],
    domains: Sequence[Sequence[Module]],
    network: Network,
    position: Mapping[Module, int] | None,
) -> Assignment | Ambiguous | Crossing:
    """Find the one assignment of modules to slots.

    Args:
        slots: in the order of the stages.
        domains: the modules that fit each slot; as many in all as there are slots.
        network: that the slots are of.
        position: of each module in the file; None where the format keeps no order.
    """
    if all(len(domain) == 1 for domain in domains):
        return Assignment(tuple(domain[0] for domain in domains), "shapes")
    search = _Search(slots, domains, network)
    solutions = list(islice(search.solutions(), 2))
    if not solutions:
        return Crossing(search.crossed)
    first, last = solutions[0], solutions[-1]
    if len(solutions) == 1 and search.budget:
        return Assignment(first, "shapes and names")
    why = (
        "the format keeps no order"
        if position is None
        else _distrust(slots, domains, first, position, network)
    )
    if why is None:
        return Assignment(first, "shapes and order")
    differing = next(
        (index for index, pair in enumerate(zip(first, last, strict=True)) if len({*pair}) > 1), 0
    )
    alike = tuple(slot for slot, domain in zip(slots, domains, strict=True) if domain == domains[differing])
    return Ambiguous(tuple(domains[differing]), alike, why)


class _Search:
    """Depth first over the slots, in their order."""

    def __init__(self, slots: Sequence[Slot], domains: Sequence[Sequence[Module]], network: Network) -> None:
        self.domains, self.budget = domains, _BUDGET
        self.crossed: frozenset[Module] = frozenset()
        self.groups = _mixed_groups(slots, domains)
        self.ending = _blocks_by_end(slots, network)
        order = {domain: _before(domain) for domain in map(tuple, domains)}
        self.before = [order[tuple(domain)] for domain in domains]
        has_shortcuts = any(names.SHORTCUT.search(slot.name) for slot in slots)
        self.in_shortcut = (
            [bool(names.SHORTCUT.search(slot.name)) for slot in slots] if has_shortcuts else None
        )

    def solutions(self) -> Iterator[tuple[Module, ...]]:
        """Assignments that no name vetoes, those that keep the order of the domains first."""
        return self._extend([], set())

    def _extend(self, chosen: list[Module], used: set[Module]) -> Iterator[tuple[Module, ...]]:
        index = len(chosen)
        if index == len(self.domains):
            yield tuple(chosen)
            return
        for module in self.domains[index]:
            if module in used or not self.before[index][module] <= used or not self._may_be(module, index):
                continue
            if self.budget == 0:
                return
            self.budget -= 1
            chosen.append(module)
            used.add(module)
            if not self._crosses(chosen):
                yield from self._extend(chosen, used)
            chosen.pop()
            used.remove(module)

    def _may_be(self, module: Module, index: int) -> bool:
        if self.in_shortcut is None or self.in_shortcut[index]:
            return True
        return not any(names.SHORTCUT.search(part) for part in module[-2:])

    def _crosses(self, chosen: Sequence[Module]) -> bool:
        """Whether one of the blocks of ours that are now complete crosses one of theirs."""
        for start in self.ending.get(len(chosen), ()):
            block = frozenset(chosen[start:])
            for group in self.groups:
                if block & group and not (block <= group or group <= block):
                    self.crossed = group
                    return True
        return False


def _before(domain: Sequence[Module]) -> dict[Module, set[Module]]:
    """Module -> those that numbers put before it."""
    found: dict[Module, set[Module]] = {module: set() for module in domain}
    for one, other in combinations(domain, 2):
        if (order := names.numbered(one, other)) is not None:
            first, second = (one, other) if order < 0 else (other, one)
            found[second].add(first)
    return found


def _mixed_groups(slots: Sequence[Slot], domains: Sequence[Sequence[Module]]) -> list[frozenset[Module]]:
    """What names put together and holds both weights and normalisations; lists of one kind are no blocks."""
    is_norm = {module: slot.is_norm for slot, domain in zip(slots, domains, strict=True) for module in domain}
    mixed = (group for group in names.groups(is_norm) if len({is_norm[module] for module in group}) > 1)
    return sorted((group for group in mixed if len(group) < len(is_norm)), key=len)


def _blocks_by_end(slots: Sequence[Slot], network: Network) -> dict[int, list[int]]:
    """Index after the last slot of a block of ours -> indices of the first slots; a block is never scattered.

    Blocks are those that the names of stages have before their dot, and each layer with the normalisation
    of its output.
    """
    sources = {stage.name: stage.inputs[0] for stage in network.stages}
    ends: dict[int, list[int]] = {}
    for index, slot in enumerate(slots):
        if index and slot.is_norm and sources[slot.stage] == slots[index - 1].stage:
            ends.setdefault(index + 1, []).append(index - 1)
    blocks = [slot.stage.rpartition(".")[0] for slot in slots]
    for block in dict.fromkeys(filter(None, blocks)):
        start, count = blocks.index(block), blocks.count(block)
        ends.setdefault(start + count, []).append(start)
    return ends


def _distrust(
    slots: Sequence[Slot],
    domains: Sequence[Sequence[Module]],
    chosen: Sequence[Module],
    position: Mapping[Module, int],
    network: Network,
) -> str | None:
    """Why the order of a file doesn't tell that of its layers, if so: it contradicts what is known."""
    upstream = _upstream(network)
    for (i, slot), (j, later) in combinations(enumerate(slots), 2):
        first, second = chosen[i], chosen[j]
        if slot.is_norm != later.is_norm or slot.stage not in upstream[later.stage]:
            continue
        if position[first] > position[second]:
            return (
                f"the file isn't in the order of computation: {dotted(second)!r} comes before "
                f"{dotted(first)!r}"
            )
        if domains[i] == domains[j] and names.spelled(first, second) == 1:
            return (
                f"the file's order isn't that of its names: {dotted(first)!r} comes before {dotted(second)!r}"
            )
    return None


def _upstream(network: Network) -> dict[str, set[str]]:
    """Stage -> all stages whose output it depends on."""
    found: dict[str, set[str]] = {}
    for stage in network.stages:
        known = [found[source] | {source} for source in stage.inputs if source in found]
        found[stage.name] = set().union(*known)
    return found


def dotted(module: Module) -> str:
    """A module's name as it is printed."""
    return ".".join(module)
