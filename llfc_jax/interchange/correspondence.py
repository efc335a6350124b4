"""Which array of a file is which of a network: by our own names, by a name table, or by order and shape."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.errors import UserError
from llfc_jax.interchange.name_tables import TABLES, Names, nearest
from llfc_jax.interchange.torch_layouts import LAYERS, Layout, Shape, same
from llfc_jax.models import Network


class Place(NamedTuple):
    """Where an array of ours is in a file."""

    key: str
    layout: Layout


Places = dict[str, Place]
"""Our name, such as `params/dense1/kernel`, -> the place in the file."""


_Modules = dict[str, dict[str, tuple[str, Layout]]]
"""Module -> array in it -> our name of it, and its layout."""


class Target(NamedTuple):
    """What a network needs."""

    network: Network
    input_shape: Shape
    shapes: dict[str, Shape]
    """Our name -> shape, in the order of the stages, kernels first."""
    flattened: dict[str, Shape]
    """Linear layer -> (height, width, channels) of the feature map that its input was flattened from."""


def target(network: Network, input_shape: Shape) -> Target:
    """What `network` needs for images of `input_shape`."""
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(variables)
    }
    order = {stage.name: index for index, stage in enumerate(network.stages)}
    ranked = sorted(leaves.items(), key=lambda item: (order[item[0].split("/")[1]], -len(item[1])))

    features = jax.eval_shape(network.apply_with_features, variables, image)[1]
    maps: dict[str, Shape] = {}  # of the stages whose output is a flattened map
    flattened: dict[str, Shape] = {}
    for stage in network.stages:
        source = stage.inputs[0]
        if stage.kind == "flatten" and features[source].ndim == 4:
            maps[stage.name] = features[source].shape[1:]
        elif source in maps and stage.kind in ("relu", "dropout"):
            maps[stage.name] = maps[source]
        elif source in maps and stage.kind == "dense":
            flattened[stage.name] = maps[source]
    return Target(network, input_shape, dict(ranked), flattened)


def find(found: Mapping[str, Shape], wanted: Target) -> tuple[Places, str]:
    """Find every array of a network among those of a file.

    Args:
        found: name -> shape of the file's arrays, in the file's order.
        wanted: what the network needs.

    Returns:
        The places, and what they were found by.

    Raises:
        UserError: some are missing, left over, or of another shape; says which, and which known architecture
            the file resembles.
    """
    candidates = list(_by_name(wanted))
    for title, places in candidates:
        if _fits(places, found):
            return places, title
    in_order = _by_order(found, wanted)
    if in_order is not None and _fits(in_order, found):
        return in_order, "order and shape"
    raise UserError(_misfit(found, wanted, [places for _, places in candidates], in_order))


def _fits(places: Places, found: Mapping[str, Shape]) -> bool:
    return {place.key: place.layout.shape for place in places.values()} == dict(found)


def _by_name(wanted: Target) -> Iterator[tuple[str, Places]]:
    """Where the arrays are if the file uses our names, or those of a table."""
    own = {name: Place(name, same(shape)) for name, shape in wanted.shapes.items()}
    yield "names of llfc_jax", own
    if all(name.startswith("params/") for name in own):
        yield (
            "names of llfc_jax",
            {name: place._replace(key=name.removeprefix("params/")) for name, place in own.items()},
        )
    in_torch = _torch_modules(wanted)
    for title, table in TABLES.items():
        names = table(wanted.network)
        if in_torch and in_torch.keys() <= names.keys():
            yield f"names of {title}", _called(in_torch, names)


def _torch_modules(wanted: Target) -> _Modules:
    """Stage -> PyTorch's arrays of it; nothing where a layer has no counterpart."""
    layers = {stage.name: LAYERS.get(type(stage.layer)) for stage in wanted.network.stages}
    modules: _Modules = defaultdict(dict)
    for name, shape in wanted.shapes.items():
        _, stage, *array = name.split("/")
        table = layers[stage]
        if table is None:
            return {}
        theirs, layout = table["/".join(array)]
        modules[stage][theirs] = (name, layout(shape, wanted.flattened.get(stage)))
    return dict(modules)


def _called(modules: _Modules, names: Names) -> Places:
    return {
        name: Place(f"{names[stage]}.{theirs}", layout)
        for stage, own in modules.items()
        for theirs, (name, layout) in own.items()
    }


def _by_order(found: Mapping[str, Shape], wanted: Target) -> Places | None:
    """Pair the k-th module of each kind with the file's; a kind is which arrays it has, and their ranks.

    Returns:
        The places, or None where the numbers of modules differ.
    """
    if _is_tree(found):
        ours = _modules({name: (name, same(shape)) for name, shape in wanted.shapes.items()})
    else:
        ours = _torch_modules(wanted)
    theirs = _modules({key: (key, same(shape)) for key, shape in found.items()})
    our_kinds, their_kinds = _by_kind(ours), _by_kind(theirs)
    if {kind: len(alike) for kind, alike in our_kinds.items()} != {
        kind: len(alike) for kind, alike in their_kinds.items()
    }:
        return None
    return {
        name: Place(keys[array][0], layout)
        for kind, alike in our_kinds.items()
        for own, keys in zip(alike, their_kinds[kind], strict=True)
        for array, (name, layout) in own.items()
    }


def _modules(arrays: Mapping[str, tuple[str, Layout]]) -> _Modules:
    modules: _Modules = defaultdict(dict)
    for name, found in arrays.items():
        module, array = _split(name)
        modules[module][array] = found
    return modules


def _by_kind(modules: _Modules) -> dict[frozenset[tuple[str, int]], list[dict[str, tuple[str, Layout]]]]:
    kinds = defaultdict(list)
    for arrays in modules.values():
        kinds[frozenset((array, len(layout.shape)) for array, (_, layout) in arrays.items())].append(arrays)
    return kinds


def _is_tree(names: Mapping[str, Shape]) -> bool:
    """Whether the names are paths in a pytree, as JAX programs have them."""
    return any("/" in name for name in names)


def _split(name: str) -> tuple[str, str]:
    """Module and array: of `layer1.0.conv1.weight`, or of `params/Conv_0/kernel`."""
    separator = "/" if "/" in name else "."
    module, _, array = name.rpartition(separator)
    return module.removeprefix("params/").removeprefix("batch_stats/"), array


def _misfit(
    found: Mapping[str, Shape], wanted: Target, candidates: list[Places], in_order: Places | None
) -> str:
    """What is wrong with the file, by the naming that comes closest to its own, else by order."""
    expected = max(
        ({place.key: place.layout.shape for place in places.values()} for places in candidates),
        key=lambda shapes: (len(shapes.keys() & found.keys()), _is_tree(shapes) == _is_tree(found)),
    )
    if in_order is not None and not expected.keys() & found.keys():
        expected = {place.key: place.layout.shape for place in in_order.values()}
    wrong = [
        f"{key!r} is {_size(found[key])} (expected {_size(shape)})"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    missing = [f"{key!r} ({_size(shape)}) is missing" for key, shape in expected.items() if key not in found]
    left_over = [
        f"{key!r} ({_size(shape)}) is left over" for key, shape in found.items() if key not in expected
    ]
    faults = [
        one_kind[0] + (f", {len(one_kind) - 1} more like it" if len(one_kind) > 1 else "")
        for one_kind in (wrong, missing, left_over)
        if one_kind
    ]
    known = nearest({_split(key)[0] for key in found}, wanted.input_shape)
    return f"{'; '.join(faults)}; nearest known architecture: {known}"


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
