"""From a file to the variables of a network, and back to the file's names and layout."""

import base64
import math
import warnings
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from llfc_jax.errors import UserError
from llfc_jax.interchange import conventions, formats, names
from llfc_jax.interchange.correspondence import Match, find, target
from llfc_jax.interchange.formats import Arrays, File
from llfc_jax.interchange.misfit import listed
from llfc_jax.interchange.stored import Stored
from llfc_jax.interchange.torch_layouts import COUNTER, Layout, to_ours, to_theirs
from llfc_jax.models import Network
from llfc_jax.types import Variables

Source: TypeAlias = dict[str, Any]
"""Where variables came from, as JSON.

`file`, `format`, `sha256`, `matched_by`; `framework` and its `conventions` (fields of `config.model`);
`notes`, lines that say what else a user should know; `pairing`, our layers with theirs where not all names
were known; and `arrays`: the names of the file in order, each with our name, its type and its layout, or with
its bytes where it is no part of the network.
"""

_KEPT = 16 * 1024**2
"""Bytes of arrays that are no part of the network and are kept nevertheless, to be written again."""


def load_variables(
    path: Path, network: Network, input_shape: tuple[int, ...], *, entry: str | None = None
) -> tuple[Variables, Source]:
    """Read the variables of a network from a file of ours or of another program.

    The network is found wherever it lies in the file. Names are ours (`params/dense1/kernel`), those of a
    table in `name_tables`, or any others that fit by shape, if the names or the order in the file say which
    of several layers of one shape is which. Layouts are converted; layers without a bias have one of zero.

    Args:
        path: what `formats.read` reads.
        network: the architecture.
        input_shape: of one image, (height, width, channels).
        entry: where in the file the network lies, such as `state_dict_ema`, if there are several.

    Returns:
        float32 variables, and what `source_arrays` needs to write them, or others of the same architecture,
        as the file has them.

    Raises:
        UserError: the file can't be read, it holds another architecture, or it is ambiguous; or its program
            pads strided convolutions in another way than `network`.
    """
    variables, source = read_variables(path, network, input_shape, entry=entry)
    own = conventions.described(network)
    differing = conventions.differing(own, source["conventions"])
    if "padding" in differing:
        raise UserError(
            f"{path} is from {source['framework']}, which pads strided convolutions as "
            f"{differing['padding']!r} where this network has {own.get('padding')!r}: "
            f"build it with padding={differing['padding']!r}"
        )
    if differing:
        fields = ", ".join(f"{field}={value}" for field, value in differing.items())
        warnings.warn(f"{path} is from {source['framework']}: build the network with {fields}", stacklevel=2)
    return variables, source


def read_variables(
    path: Path, network: Network, input_shape: tuple[int, ...], *, entry: str | None = None
) -> tuple[Variables, Source]:
    """The same, for callers that see to the `conventions` of the source themselves."""
    file = formats.read(path)
    wanted = target(network, input_shape)
    try:
        match = find(file, wanted, entry)
    except UserError as error:
        raise UserError(f"{path} does not fit the model: {error}") from error
    arrays = {
        name: to_ours(_finite(path, file, place.key, name), place.layout, wanted.shapes[name])
        for name, place in match.places.items()
    }
    arrays |= {name: np.full(wanted.shapes[name], value) for name, value in match.missing.items()}
    variables = unflatten_dict(
        {name: jax.device_put(np.array(arrays[name], np.float32)) for name in wanted.shapes}, sep="/"
    )
    source = {"file": str(path), "format": file.format, "sha256": file.sha256, "matched_by": match.matched_by}
    theirs = _conventions(file, match, network, input_shape)
    if (before := file.metadata.get("source")) is not None:  # imported by an earlier run
        return variables, {**before, **source, **theirs}
    described, dropped = _describe(file, match)
    notes = _notes(file, match, dropped)
    pairing = [] if match.by_name else list(map(list, match.pairing))
    return variables, {**source, **theirs, "notes": notes, "pairing": pairing, "arrays": described}


def source_arrays(variables: Variables, source: Source | None) -> Arrays:
    """The variables as arrays by name: as in their source, or in our own names if they have none.

    Numbers are rounded to the source's type. Those that were read from it come back bit for bit, unless they
    were float64, which reading has rounded.

    Raises:
        UserError: an array is missing in the source that is no longer what it was taken for.
    """
    ours = formats.flatten(variables)
    if source is None:
        return ours
    named = {entry["name"] for entry in source["arrays"].values() if "name" in entry}
    for name in ours.keys() - named:
        if (ours[name] != (1 if name.endswith("/scale") else 0)).any():
            raise UserError(
                f"{name!r} has no place in the names of {source['file']}, which has no such array; "
                "choose --format=orbax for our own names"
            )
    return {key: _as_described(entry, ours) for key, entry in source["arrays"].items()}


def _finite(path: Path, file: File, key: str, name: str) -> np.ndarray:
    """An array that can be the weights, or the statistics, of a network."""
    stored = file.stored[key]
    if not stored.is_floating and stored.dtype != "object" and "float8" not in stored.dtype:
        raise UserError(f"{path}: {key!r}: expected floating point; found {stored.dtype}")
    array = stored.read()
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise UserError(f"{path}: {key!r}: expected finite numbers of float32; found NaN or infinity")
    if name.endswith("/var") and (single < 0).any():
        raise UserError(f"{path}: {key!r}: expected variances; found {single.min():g}, which is negative")
    return array


def _conventions(file: File, match: Match, network: Network, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """`framework` and `conventions` of a source."""
    before = file.metadata.get("source") or {}
    kernels = {place.key: place.role for name, place in match.places.items() if name.endswith("/kernel")}
    is_tree = file.format in ("orbax", "msgpack")
    framework = before.get("framework") or conventions.framework(match.matched_by, kernels, is_tree)
    model = file.metadata.get("config", {}).get("model", {})  # of the run that saved the checkpoint
    own = conventions.expected("PyTorch", network, input_shape)
    theirs = conventions.expected(framework, network, input_shape) | before.get("conventions", {})
    said = {field: model[field] for field in own if model.get(field) is not None}
    return {"framework": framework, "conventions": theirs | said}


def _as_described(entry: Mapping[str, Any], ours: Arrays) -> np.ndarray:
    dtype = jnp.dtype(entry["dtype"])
    if "data" in entry:
        return np.frombuffer(base64.b64decode(entry["data"]), dtype).reshape(entry["shape"])
    layout = Layout(*map(tuple, entry["layout"]))
    return to_theirs(ours[entry["name"]], layout).astype(dtype, order="C")


def _describe(file: File, match: Match) -> tuple[dict[str, Any], list[str]]:
    """The arrays to write again, and the names of those that are too large to be kept for that."""
    of_network = {place.key: (name, place.layout) for name, place in match.places.items()}
    roots = [file.roots.get(key, "") for key in of_network]
    split = [root.split("/")[:-1] for root in roots]
    shared = takewhile(lambda parts: len({*parts}) == 1, zip(*split, strict=False))
    root = "".join(f"{parts[0]}/" for parts in shared)
    described: dict[str, Any] = {}
    dropped, room = [], _KEPT
    for key, stored in file.stored.items():
        if key in of_network:
            name, layout = of_network[key]
            described[key.removeprefix(root)] = {
                "name": name,
                "dtype": stored.dtype,
                "layout": list(map(list, layout)),
            }
        elif key.startswith(root) and _is_beside(file, match, key):
            size = math.prod(stored.shape) * 16
            if size > room or not _is_plain(stored):
                dropped.append(key)
                continue
            room -= size
            array = stored.read()
            described[key.removeprefix(root)] = {
                "dtype": stored.dtype,
                "shape": list(array.shape),
                "data": base64.b64encode(array.tobytes()).decode(),
            }
    return described, dropped


def _is_beside(file: File, match: Match, key: str) -> bool:
    """Whether what isn't of the network is of its state dict: in a pytree, what is below its entry."""
    module, _ = names.locate(key)
    return "/" not in key or file.format == "pt" or module[: len(match.entry)] == match.entry


def _is_plain(stored: Stored) -> bool:
    try:
        return not jnp.dtype(stored.dtype).hasobject and stored.dtype != "object"
    except TypeError:
        return False


def _notes(file: File, match: Match, dropped: Iterable[str]) -> list[str]:
    """What a user should know of an import, a line each."""
    notes = []
    if match.entry and match.entry != ("params",):
        notes.append(f"it lies in {'.'.join(match.entry)}")
    if match.others:
        others = listed(".".join(entry) for entry in match.others)
        notes.append(f"its average lies in {others} (config.pair.entry)")
    used = {place.key for place in match.places.values()}
    beside = [key for key in file.stored if key not in used and not key.endswith(COUNTER)]
    parts = dict.fromkeys(_part(key, match) for key in (*beside, *file.no_arrays))
    for entry in match.others:
        parts.pop(".".join(entry), None)
    if parts:
        notes.append(f"no part of it: {listed(parts)}")
    if dropped := [*dropped]:
        notes.append(f"not kept for export: {listed(dropped)}")
    if match.missing:
        ones = listed(name.removeprefix("params/") for name in match.missing)
        notes.append(f"not in the file, taken for 0 (scales: 1): {ones}")
    return notes


def _part(key: str, match: Match) -> str:
    """A name beside the network, cut where it leaves the path to the network."""
    path = names.parts(key)
    shared = 0
    while shared < min(len(path), len(match.entry)) and path[shared] == match.entry[shared]:
        shared += 1
    return key if shared == len(match.entry) else ".".join(path[: shared + 1])
