"""A network of the user's own in a file: its arrays by the names that its framework gives them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, names
from llfc_jax.interchange.loading import Source
from llfc_jax.interchange.misfit import listed, shortened, size
from llfc_jax.interchange.stored import File, Stored
from llfc_jax.interchange.torch_layouts import Layout, to_ours
from llfc_jax.models.own import Entry, OwnNetwork
from llfc_jax.models.own.network import by_path
from llfc_jax.types import Variables

Parts = tuple[str, ...]
"""A name, split where dots and slashes are."""

_OF_FLAX = "params"
"""The collection that a file of nothing else may leave out."""


class _Wanted(NamedTuple):
    """What a file has to hold."""

    entry: Entry
    leaf: jax.ShapeDtypeStruct
    shape: tuple[int, ...]
    """In the file."""


def read_own(path: Path, network: OwnNetwork, *, entry: str | None = None) -> tuple[Variables, Source]:
    """Read the variables of a network from a file, or a directory, that its framework wrote.

    The network may lie anywhere in the file, such as under `state_dict`; what isn't in its place is told by
    its name. Numbers are converted to the types of the network.

    Raises:
        UserError: the file can't be read, is of another network (the first name that differs), holds several,
            or numbers that aren't finite.
    """
    file = formats.read(path)
    wanted = _wanted(network)
    try:
        root, found = _locate(file, wanted, entry)
        _check(file, wanted, root, found)
        arrays = {name: _array(file.stored[key], wanted[name], key) for name, key in found.items()}
        leaves = _leaves(wanted, arrays)
    except UserError as error:
        raise UserError(f"{path} does not fit the model: {error}") from error
    shapes = network.shapes()
    order = by_path(shapes)
    variables = jax.tree.unflatten(
        jax.tree.structure(shapes), [jnp.asarray(leaves[name], order[name].dtype) for name in order]
    )
    source = {
        "file": str(path),
        "format": file.format,
        "sha256": file.sha256,
        "matched_by": f"names of {network.origin.written}",
        "framework": network.definition.framework,
        "conventions": {},
    }
    if (before := file.metadata.get("source")) is not None:
        return variables, {**before, **source}
    described = {
        _within(file, root, key): _described(wanted[name], file.stored[key].dtype)
        for name, key in found.items()
    }
    notes = [f"it lies in {'.'.join(root)}"] if root else []
    return variables, {**source, "notes": notes, "pairing": [], "arrays": described}


def trained_source(network: OwnNetwork) -> Source:
    """How the variables of a network that was trained here are written as its framework would."""
    arrays = {name: _described(one, str(one.leaf.dtype)) for name, one in _wanted(network).items()}
    return {"file": network.origin.written, "arrays": arrays}


def _wanted(network: OwnNetwork) -> dict[str, _Wanted]:
    leaves = by_path(network.shapes())
    return {
        name: _Wanted(entry, leaves[entry.leaf], tuple(leaves[entry.leaf].shape[axis] for axis in entry.axes))
        for name, entry in network.entries.items()
    }


def _split(name: str) -> Parts:
    parts = names.parts(name)
    of_nnx = len(parts) > 1 and parts[-1] in ("value", "raw_value")
    return parts[:-1] if of_nnx else parts


def _locate(file: File, wanted: Mapping[str, _Wanted], entry: str | None) -> tuple[Parts, dict[str, str]]:
    """Where in the file the network lies, and which of its names are there -> the file's.

    Raises:
        UserError: nothing of it is there, or it is there several times.
    """
    start = _split(entry) if entry else ()
    stored = {_split(key): key for key in file.stored}
    if start and not any(parts[: len(start)] == start for parts in stored):
        first = dict.fromkeys(parts[0] for parts in stored)
        raise UserError(f"config.pair.entry={entry}: it has no such part; it has {listed(first) or 'none'}")
    places = max(_manners(wanted), key=lambda names_: sum(_roots(stored, names_, start).values()))
    roots = _roots(stored, places, start)
    if not roots:
        name, one = next(iter(wanted.items()))
        raise UserError(
            f"{name!r} ({size(one.shape)}) is missing, as are all others; it has {listed(file.stored)}"
        )
    most = max(roots.values())
    best = [root for root, count in roots.items() if count == most]
    plain = [root for root in best if not names.is_average(root[len(start) :])] or best
    if len(plain) > 1:
        parts = ", ".join(".".join(root) or "the file itself" for root in plain)
        raise UserError(
            f"it holds {len(plain)} networks that fit; choose one by config.pair.entry=…: {parts}"
        )
    root = plain[0]
    return root, {name: stored[root + parts] for parts, name in places.items() if root + parts in stored}


def _manners(wanted: Mapping[str, _Wanted]) -> Iterator[dict[Parts, str]]:
    """The names of a network's arrays, split; and without the collection where there is but one."""
    names_ = {_split(name): name for name in wanted}
    yield names_
    if all(parts[0] == _OF_FLAX and len(parts) > 1 for parts in names_):
        yield {parts[1:]: name for parts, name in names_.items()}


def _roots(stored: Mapping[Parts, str], names_: Mapping[Parts, str], start: Parts) -> Counter[Parts]:
    """Part of the file -> how many of the names are in it."""
    lengths = {len(parts) for parts in names_}
    return Counter(
        parts[: len(parts) - length]
        for parts in stored
        for length in lengths
        if parts[len(parts) - length :] in names_
        and len(parts) >= length
        and parts[: len(start)] == start
        and len(start) <= len(parts) - length
        and not names.is_of_optimizer(parts[: len(parts) - length])
    )


def _check(file: File, wanted: Mapping[str, _Wanted], root: Parts, found: Mapping[str, str]) -> None:
    """That the file holds this network and no other.

    Raises:
        UserError: names what is missing, of another shape or left over.
    """
    known = {wanted[name].entry.leaf for name in found}
    missing = [
        f"{name!r} ({size(one.shape)}) is missing"
        for name, one in wanted.items()
        if one.entry.leaf not in known
    ]
    wrong = [
        f"{name!r} is {size(file.stored[key].shape)} (expected {size(wanted[name].shape)})"
        for name, key in found.items()
        if file.stored[key].shape != wanted[name].shape
    ]
    used, heads = {*found.values()}, {_split(name)[0] for name in wanted}
    roots = {file.roots.get(key, "") for key in used}
    left_over = [
        f"{'.'.join(parts[len(root) :])!r} ({size(stored.shape)}) is left over"
        for key, stored in file.stored.items()
        if key not in used
        and (parts := _split(key))[: len(root)] == root
        and file.roots.get(key, "") in roots
        and (file.format not in ("orbax", "msgpack") or parts[len(root)] in heads)
    ]
    if faults := [shortened(one) for one in (wrong, missing, left_over) if one]:
        raise UserError("; ".join(faults))


def _array(stored: Stored, wanted: _Wanted, key: str) -> np.ndarray:
    """An array in the type of the network.

    Raises:
        UserError: it is of another kind, or not finite.
    """
    dtype = wanted.leaf.dtype
    floats = jnp.issubdtype(dtype, jnp.floating)
    if stored.is_floating != floats:
        raise UserError(f"{key!r}: expected {dtype}; found {stored.dtype}")
    with np.errstate(over="ignore"):
        array = stored.read().astype(dtype)
    if floats and not np.isfinite(array.astype(np.float32)).all():
        raise UserError(f"{key!r}: expected finite numbers of {dtype}; found NaN or infinity")
    return array


def _leaves(wanted: Mapping[str, _Wanted], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Path in the variables -> array.

    Raises:
        UserError: two names of one array hold different ones.
    """
    leaves: dict[str, np.ndarray] = {}
    by: dict[str, str] = {}
    for name, array in arrays.items():
        one = wanted[name]
        ours = to_ours(array, _layout(one), one.leaf.shape)
        other = leaves.setdefault(one.entry.leaf, ours)
        if not np.array_equal(other, ours):
            raise UserError(
                f"{by[one.entry.leaf]!r} and {name!r} are one array in the model; found two that differ"
            )
        by.setdefault(one.entry.leaf, name)
    return leaves


def _layout(wanted: _Wanted) -> Layout:
    return Layout(wanted.shape, wanted.shape, tuple(int(axis) for axis in np.argsort(wanted.entry.axes)))


def _described(wanted: _Wanted, dtype: str) -> dict[str, Any]:
    return {"name": wanted.entry.leaf, "dtype": dtype, "layout": list(map(list, _layout(wanted)))}


def _within(file: File, root: Parts, key: str) -> str:
    """A name in a file without the part that the network lies in."""
    if key in file.roots:
        return key.removeprefix(file.roots[key])
    for _ in root:
        key = re.split(r"[/.]", key, maxsplit=1)[-1]
    return key
