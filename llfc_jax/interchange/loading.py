"""From a file to the variables of a network, and back to the file's names and layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from llfc_jax.errors import UserError
from llfc_jax.interchange import formats
from llfc_jax.interchange.correspondence import Places, find, target
from llfc_jax.interchange.formats import Arrays, File
from llfc_jax.interchange.torch_layouts import COUNTER, Layout, to_ours, to_theirs
from llfc_jax.models import Network
from llfc_jax.types import Variables

Source: TypeAlias = dict[str, Any]
"""Where variables came from, as JSON: `file`, `format`, `sha256`, `matched_by` and `arrays`.

`arrays` has the names of the file in order, each with our name, its type and its layout, or with its count.
"""

WRAPPERS = ("module.", "_orig_mod.")
"""What PyTorch's `DataParallel` and `compile` put in front of every name."""


def load_variables(path: Path, network: Network, input_shape: tuple[int, ...]) -> tuple[Variables, Source]:
    """Read the variables of a network from a file of ours or of another program.

    Formats are those of `formats.read`. Names are ours (`params/dense1/kernel`), those of a table in
    `name_tables`, or any others that fit by order and shape; layouts are converted, and everything but the
    parameters and running statistics of a pytree is left out.

    Args:
        path: a file or an Orbax directory.
        network: the architecture.
        input_shape: of one image, (height, width, channels).

    Returns:
        float32 variables, and what `source_arrays` needs to write them, or others of the same architecture,
        as the file has them.

    Raises:
        UserError: the file can't be read, or it holds another architecture.
    """
    file = formats.read(path)
    wanted = target(network, input_shape)
    keys = _bare_names(file.arrays)
    weights = {bare: key for bare, key in keys.items() if not bare.endswith(f".{COUNTER}")}
    for key in weights.values():
        if not jnp.issubdtype(file.arrays[key].dtype, jnp.floating):
            raise UserError(f"{path}: {key!r}: expected floating point; found {file.arrays[key].dtype}")
        if not np.isfinite(file.arrays[key].astype(np.float32)).all():
            raise UserError(f"{path}: {key!r}: expected finite numbers; found NaN or infinity")
    try:
        places, title = find({bare: file.arrays[key].shape for bare, key in weights.items()}, wanted)
    except UserError as error:
        raise UserError(f"{path} does not fit the model: {error}") from error
    arrays = {
        name: to_ours(file.arrays[weights[place.key]], place.layout, wanted.shapes[name])
        for name, place in places.items()
    }
    variables = unflatten_dict(
        {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}, sep="/"
    )
    source = {"file": str(path), "format": file.format, "sha256": file.sha256, "matched_by": title}
    if (before := file.metadata.get("source")) is not None:  # imported by an earlier run
        return variables, {**before, **source}
    return variables, {**source, "arrays": _describe(file, keys, places)}


def source_arrays(variables: Variables, source: Source | None) -> Arrays:
    """The variables as arrays by name: as in their source, or in our own names if they have none.

    Numbers are rounded to the source's type. Those that were read from it come back bit for bit, unless they
    were float64, which reading has rounded.
    """
    ours = formats.flatten(variables)
    if source is None:
        return ours
    return {key: _as_described(entry, ours) for key, entry in source["arrays"].items()}


def _as_described(entry: Mapping[str, Any], ours: Arrays) -> np.ndarray:
    dtype = jnp.dtype(entry["dtype"])
    if "count" in entry:
        return np.asarray(entry["count"], dtype)
    layout = Layout(*map(tuple, entry["layout"]))
    return to_theirs(ours[entry["name"]], layout).astype(dtype, order="C")


def _describe(file: File, keys: Mapping[str, str], places: Places) -> dict[str, Any]:
    names = {place.key: (name, place.layout) for name, place in places.items()}
    described: dict[str, Any] = {}
    for bare, key in keys.items():
        dtype = str(file.arrays[key].dtype)
        if bare in names:
            name, layout = names[bare]
            described[key] = {"name": name, "dtype": dtype, "layout": list(map(list, layout))}
        else:
            described[key] = {"count": int(file.arrays[key]), "dtype": dtype}
    return described


def _bare_names(arrays: Arrays) -> dict[str, str]:
    """Names without what wraps all of them -> names in the file; only what a network evaluates with."""
    names = {key: key for key in arrays}
    while wrapper := next((one for one in WRAPPERS if all(name.startswith(one) for name in names)), None):
        names = {name.removeprefix(wrapper): key for name, key in names.items()}
    if any(name.startswith("params/") for name in names):
        names = {name: key for name, key in names.items() if name.startswith(("params/", "batch_stats/"))}
    return names
