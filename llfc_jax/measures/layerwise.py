"""Measures that compare two arrays at every layer."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.comparison import (
    Comparison,
    Decomposition,
    Sums,
    compare,
    decompose,
    summarise,
    sums,
)
from llfc_jax.measures.fold import Point, Tally
from llfc_jax.measures.scaling import as_rows, largest
from llfc_jax.measures.stacking import each_of
from llfc_jax.types import Array, PyTree

Sides = Callable[[Point, str], tuple[Array, Array, Array]]
"""Point, layer -> u and v, both (n, ...), and their size, (n,): see `scaling.largest`."""


class Split(NamedTuple):
    """What is looked at in a batch; on the host with the alphas along a first axis."""

    layers: Any
    """The comparands of every layer, split: (layers, fields of `Sums`, n)."""
    samples: Any
    """(n,): 0 for padding."""


def compare_layers(layers: Mapping[str, str], sides: Sides) -> Tally:
    """Compare u with v at every layer.

    Args:
        layers: name -> kind of the layers to compare, in forward order.
        sides: what to compare.

    Returns:
        The measure; its result is a list of `{layer, kind, ...}` with the numbers of `comparison.summarise`,
        as lists parallel to the alphas.
    """

    def add(state: Comparison, seen: Split | None) -> Comparison:
        if seen is None:
            return state
        return compare(state, decompositions(seen), seen.samples[:, None])

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        return rows(layers, state, summarise)

    return Tally(partial(split_layers, layers, sides), add, finalize, Comparison())


def split_layers(layers: Iterable[str], sides: Sides, point: Point) -> Split | None:
    """The comparands of every layer; None of none."""

    def split(u: Array, v: Array, size: Array) -> Array:
        return jnp.stack(sums(u, v, size))

    def comparands(layer: str) -> tuple[Array, Array, Array]:
        u, v, size = sides(point, layer)
        return as_rows(u), as_rows(v), size

    found = [comparands(layer) for layer in layers]
    return Split(each_of(split, found), point.samples) if found else None


def sized(u: Array, v: Array) -> tuple[Array, Array, Array]:
    """Two comparands, and how large they are."""
    return u, v, largest(u, v)


def decompositions(seen: Split) -> Decomposition:
    """Of every layer, (alphas, layers, n)."""
    return decompose(Sums(*np.moveaxis(seen.layers, -2, 0)))


def rows(
    layers: Mapping[str, str], state: PyTree, summary: Callable[[PyTree], dict[str, Any]]
) -> list[dict[str, Any]]:
    """`{layer, kind, ...}` of every layer.

    Args:
        layers: name -> kind, in order.
        state: arrays (alphas, layers, ...).
        summary: arrays (layers, alphas, ...) -> numbers of every layer, (layers, ...), at once.
    """
    if not layers:
        return []
    found = summary(jax.tree.map(lambda leaf: np.moveaxis(leaf, 1, 0), state))
    return [
        {"layer": layer, "kind": kind} | to_lists(jax.tree.map(itemgetter(index), found))
        for index, (layer, kind) in enumerate(layers.items())
    ]


def to_lists(tree: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy arrays of a nested dict as lists."""
    return {
        name: to_lists(value) if isinstance(value, Mapping) else value.tolist()
        for name, value in tree.items()
    }


def single(summary: Mapping[str, Any], quantity: str) -> dict[str, Any]:
    """`{mean, std, ..., dataset}` of one quantity of a layer that was compared at a single alpha."""
    per_sample = {name: values[0] for name, values in summary[quantity].items()}
    return per_sample | {"dataset": summary["dataset"][quantity][0]}
