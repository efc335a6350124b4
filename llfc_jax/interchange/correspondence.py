"""Which array of a file is which of a network: by our own names, by a name table, or by shapes and names.

A file may hold more than a network: the deepest part of it that holds a whole one is an *entry*. What else
there is lies beside it.
"""

import re
from collections.abc import Container, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from llfc_jax.errors import UserError
from llfc_jax.interchange import lists, misfit
from llfc_jax.interchange import names as naming
from llfc_jax.interchange.assignment import Ambiguous, Assignment, Crossing, assign, dotted
from llfc_jax.interchange.misfit import listed
from llfc_jax.interchange.name_tables import TABLES, Names
from llfc_jax.interchange.name_tables import own as own_names
from llfc_jax.interchange.names import Module
from llfc_jax.interchange.slots import MISSING, Fit, Slot, Target, fit, may_be, target
from llfc_jax.interchange.stored import File
from llfc_jax.interchange.torch_layouts import Layout, Shape

__all__ = ["Match", "Place", "Places", "find", "target"]


class Place(NamedTuple):
    """Where an array of ours is in a file."""

    key: str
    role: str
    layout: Layout


Places = dict[str, Place]
"""Our name, such as `params/dense1/kernel`, -> the place in the file."""


class Match(NamedTuple):
    """A network found in a file."""

    places: Places
    missing: dict[str, float]
    """Our name -> what an array is, all over, that the file has none for."""
    entry: Module
    """Where in the file it lies."""
    matched_by: str
    pairing: tuple[tuple[str, str], ...]
    """(our layer, their module)."""
    others: tuple[Module, ...]
    """Where in the file other networks lie that would fit: running averages of it."""

    @property
    def by_name(self) -> bool:
        """Whether all names were known."""
        return self.matched_by.startswith("names of")


def find(file: File, wanted: Target, entry: str | None = None) -> Match:
    """Find every array of a network among those of a file.

    Args:
        file: what was read.
        wanted: what the network needs.
        entry: the part of the file to look in; None for all of it.

    Raises:
        UserError: there is no such network, or more than one, or it can't be told which array is which.
    """
    finder = _Finder(file, wanted, entry)
    found = finder.complete(finder.start)
    plain = [match for match in found if not naming.is_average(match.entry[len(finder.start) :])] or found
    if len(plain) > 1:
        entries = ", ".join(dotted(match.entry) for match in plain)
        raise UserError(
            f"it holds {len(plain)} networks that fit; choose one by config.pair.entry=…: {entries}"
        )
    if not plain:
        raise UserError(finder.why_none())
    others = tuple(match.entry for match in found if match is not plain[0])
    return plain[0]._replace(others=others)


class _Finder:
    """Looks for a network in the tree of a file's modules."""

    def __init__(self, file: File, wanted: Target, entry: str | None) -> None:
        self.file, self.wanted, self.slots = file, wanted, wanted.slots
        weights = (name for name, one in file.stored.items() if one.is_floating or _is_layer(name))
        modules = lists.modules({name: file.stored[name].shape for name in weights})
        self.start: Module = ()
        if entry is not None:
            self.start = _entry(entry, modules)
        else:
            modules = {module: own for module, own in modules.items() if not naming.is_of_optimizer(module)}
        self.arrays = {
            module: {role: name for role, name in own.items() if role in self.roles}
            for module, own in modules.items()
        }
        self.arrays = {module: own for module, own in self.arrays.items() if own}
        self.position = {module: index for index, module in enumerate(self.arrays)}
        self.ambiguous: Ambiguous | None = None
        self.crossing: Crossing | None = None

    @cached_property
    def roles(self) -> set[str]:
        """What arrays of layers are called."""
        return {*naming.ROLES, *(array for slot in self.slots for _, array, _ in slot.arrays)}

    @cached_property
    def shapes(self) -> dict[Module, dict[str, Shape]]:
        """Module -> role -> shape."""
        return {
            module: {role: self.file.stored[name].shape for role, name in own.items()}
            for module, own in self.arrays.items()
        }

    @cached_property
    def fits(self) -> list[dict[Module, Fit]]:
        """For each slot, the modules that fit it by shape."""
        return [
            {
                module: found
                for module, shapes in self.shapes.items()
                if (found := fit(slot, shapes)) is not None and may_be(slot, module)
            }
            for slot in self.slots
        ]

    def complete(self, entry: Module) -> list[Match]:
        """All whole networks in a part of the file, each by the smallest part that holds it."""
        inside = [module for module in self.arrays if module[: len(entry)] == entry]
        if not all(any(module in own for module in inside) for own in self.fits):
            return []
        deeper = dict.fromkeys(module[: len(entry) + 1] for module in inside if len(module) > len(entry))
        found = [match for part in deeper for match in self.complete(part)]
        taken = [match.entry for match in found]
        rest = [module for module in inside if not any(module[: len(part)] == part for part in taken)]
        if (
            len(found) == 1
            and not found[0].by_name
            and (named := self.match_by_name(entry, inside)) is not None
        ):
            found = [named._replace(entry=found[0].entry)]
        here = self.match(entry, rest)
        return found + ([here] if here is not None else [])

    def match(self, entry: Module, inside: Sequence[Module]) -> Match | None:
        """The whole network that modules are, with nothing left over that could be a layer of it."""
        domains = [tuple(module for module in inside if module in own) for own in self.fits]
        if not all(domains):
            return None
        layers = self.without_asides(entry, inside, {module for domain in domains for module in domain})
        if (named := self.match_by_name(entry, layers)) is not None:
            return named
        if {module for domain in domains for module in domain} != {*layers} or len(layers) != len(self.slots):
            return None
        result = assign(
            self.slots, domains, self.wanted.network, self.position if self.file.ordered else None
        )
        if isinstance(result, Assignment):
            return self.as_match(entry, result.modules, result.decided_by)
        if isinstance(result, Ambiguous):
            self.ambiguous = result
        else:
            self.crossing = result
        return None

    def match_by_name(self, entry: Module, layers: Sequence[Module]) -> Match | None:
        """The same where our names, or those of a table, are those of all layers."""
        for title, table in {"llfc_jax": own_names, **TABLES}.items():
            named = _named(entry, self.slots, table(self.wanted.network))
            if (
                named is not None
                and sorted(named) == sorted(layers)
                and all(map(_contains, self.fits, named))
            ):
                return self.as_match(entry, named, f"names of {title}")
        return None

    def without_asides(self, entry: Module, inside: Iterable[Module], fitting: set[Module]) -> list[Module]:
        """What may be the network: not what lies in containers of another kind, where no layer fits."""
        parts: dict[str, list[Module]] = {}
        for module in inside:
            parts.setdefault(module[len(entry)] if len(module) > len(entry) else "", []).append(module)
        ours = {naming.template(part) for part, own in parts.items() if fitting & {*own}}
        kept = []
        for part, own in parts.items():
            contained = all(len(module) > len(entry) + 1 for module in own)
            aside = naming.ASIDE.fullmatch(part) or (contained and naming.template(part) not in ours)
            if fitting & {*own} or not aside:
                kept += own
        return kept

    def as_match(self, entry: Module, modules: Sequence[Module], matched_by: str) -> Match:
        """With the arrays of each module."""
        places: Places = {}
        missing: dict[str, float] = {}
        for slot, own, module in zip(self.slots, self.fits, modules, strict=True):
            for _, array, _ in slot.arrays:
                name = slot.full_name(array)
                if array in own[module]:
                    role, layout = own[module][array]
                    places[name] = Place(self.arrays[module][role], role, layout)
                else:
                    missing[name] = MISSING[array]
        pairing = tuple(
            (slot.name, dotted(module[len(entry) :]))
            for slot, module in zip(self.slots, modules, strict=True)
        )
        return Match(places, missing, entry, matched_by, pairing, ())

    def why_none(self) -> str:
        """What is wrong with the file: by the naming that is closest to its own, else by shapes."""
        if self.ambiguous is not None:
            modules, slots, why = self.ambiguous
            return (
                f"it can't be told which of {listed(map(dotted, modules))} is which of "
                f"{listed(slot.name for slot in slots)}: they have one shape, their names don't say, "
                f"and {why}"
            )
        if self.crossing is not None:
            group = listed(map(dotted, sorted(self.crossing.group, key=self.position.__getitem__)))
            return (
                f"its arrays have the shapes of the model, but {group} are put together in the file and "
                "are no block of the model; is it a network of another kind, such as a pre-activation ResNet?"
            )
        return misfit.describe(self.file, self.arrays, self.wanted, self.start)


def _named(entry: Module, slots: Sequence[Slot], names: Names) -> list[Module] | None:
    """Where a table has the module of each slot; None if it doesn't know all of them."""
    if not slots or any(slot.stage not in names for slot in slots):
        return None
    return [(*entry, *re.split("[/.]", names[slot.stage]), *slot.tail) for slot in slots]


def _contains(domain: Container[Module], module: Module) -> bool:
    return module in domain


def _is_layer(name: str) -> bool:
    """Whether an array of any type would have to be a layer's."""
    return naming.locate(name)[1] in ("kernel", "weight")


def _entry(entry: str, modules: Iterable[Module]) -> Module:
    """The part of a file that a user means.

    Raises:
        UserError: there is none of that name; says which there are.
    """
    start = naming.parts(entry)
    if not any(module[: len(start)] == start for module in modules):
        first = dict.fromkeys(module[0] for module in modules if module)
        raise UserError(f"config.pair.entry={entry}: it has no such part; it has {listed(first) or 'none'}")
    return start
