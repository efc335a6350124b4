"""Measures that compare two arrays at every layer."""

from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp

from llfc_jax.measures.comparison import (
    Comparison,
    Decomposition,
    compare,
    decompose,
    no_comparison,
    summarise,
    sums,
)
from llfc_jax.measures.fold import Fold, Point, repeat
from llfc_jax.measures.scaling import largest
from llfc_jax.types import Array, PyTree

Sides = Callable[[Point, str], tuple[Array, Array, Array]]
"""Point, layer -> u and v, both (n, ...), and their size, (n,): see `scaling.largest`."""


def compare_layers(layers: Mapping[str, str], sides: Sides) -> Fold:
    """Compare u with v at every layer.

    Args:
        layers: name -> kind of the layers to compare, in forward order.
        sides: what to compare.

    Returns:
        The measure; its result is a list of `{layer, kind, ...}` with the numbers of `comparison.summarise`,
        as lists parallel to the alphas.
    """

    def init(point: Point) -> Comparison:
        del point
        return repeat(no_comparison(), len(layers))

    def update(state: Comparison, point: Point) -> Comparison:
        if not layers:
            return state
        return compare_each(state, decompose_layers(layers, sides, point), point.samples)

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        return rows(layers, state, summarise)

    return Fold(init, update, finalize)


def decompose_layers(layers: Iterable[str], sides: Sides, point: Point) -> Decomposition:
    """The comparands of every layer, split: each field (layers, n)."""
    parts = [sums(*sides(point, layer)) for layer in layers]
    return decompose(jax.tree.map(lambda *of_layers: jnp.stack(of_layers), *parts))


def sized(u: Array, v: Array) -> tuple[Array, Array, Array]:
    """Two comparands, and how large they are."""
    return u, v, largest(u, v)


def compare_each(state: Comparison, batch: Decomposition, mask: Array) -> Comparison:
    """The comparison of every layer after one more batch."""
    return jax.vmap(compare, in_axes=(0, 0, None))(state, batch, mask)


def rows(
    layers: Mapping[str, str], state: PyTree, summary: Callable[[PyTree], dict[str, Any]]
) -> list[dict[str, Any]]:
    """`{layer, kind, ...}` of every layer: the summary of its part of a state (alphas, layers, ...)."""
    of_layers = (jax.tree.map(itemgetter((slice(None), index)), state) for index in range(len(layers)))
    return [
        {"layer": layer, "kind": kind} | to_lists(summary(own))
        for (layer, kind), own in zip(layers.items(), of_layers, strict=True)
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
