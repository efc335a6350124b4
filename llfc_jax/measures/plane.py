"""Loss and error over the plane through three networks (Garipov et al. 2018, arXiv 1802.10026, figure 1)."""

import itertools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError
from llfc_jax.measures.evaluation import (
    ApplyFn,
    LossFn,
    Scores,
    add_scores,
    means,
    no_scores,
    scores_of_logits,
)
from llfc_jax.path.interpolation import check_same_structure
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Batch, Variables

_LEAST_HEIGHT = 1e-5
"""Of the third network above the line through the others, in units of its own distance from the first."""


class Plane(NamedTuple):
    """Three networks, and where they lie in the plane through them: A at 0, B at (x_b, 0), C above it."""

    networks: tuple[Variables, Variables, Variables]
    places: np.ndarray
    """(3, 2), in units of the weights."""

    def shares(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) places -> (n, 3), how much of A, B and C makes theta there; exact at the networks."""
        (_, (x_b, _), (x_c, y_c)), (x, y) = self.places, points.T
        c = y / y_c
        b = (x - c * x_c) / x_b
        return np.stack([1 - b - c, b, c], axis=-1)


def plane_through(networks: Mapping[str, Variables]) -> Plane:
    """The plane through three networks.

    Args:
        networks: name, for errors -> variables; all floats count.

    Raises:
        UserError: they differ in structure, two of them are equal, or all lie on one line.
    """
    first, *others = networks
    for other in others:
        check_same_structure(networks[first], networks[other])
    a, b, c = (_flat(one) for one in networks.values())
    for one, other in itertools.combinations(networks, 2):
        if not (_flat(networks[one]) - _flat(networks[other])).any():
            raise UserError(f"plane: expected three different networks; found {one} and {other} to be equal")
    along = (b - a) / np.linalg.norm(b - a)
    x = float(along @ (c - a))
    y = float(np.linalg.norm(c - a - x * along))
    if y < _LEAST_HEIGHT * np.linalg.norm(c - a):
        raise UserError(f"plane: expected three networks off one line; found {', '.join(networks)} on one")
    places = np.array([[0, 0], [np.linalg.norm(b - a), 0], [x, y]])
    return Plane(tuple(networks.values()), places)


def scan(
    plane: Plane,
    apply: ApplyFn,
    batches: Iterable[Batch],
    size: int,
    margin: float = 0.25,
    loss_fn: LossFn | None = None,
) -> dict[str, Any]:
    """Loss and error on a grid that reaches beyond the networks, and at each of them; one pass over the data.

    Running statistics are what the same sum of the three networks' makes of them.

    Args:
        plane: see `plane_through`.
        apply: variables, inputs -> outputs, in evaluation mode.
        batches: of one shape.
        size: points a side.
        margin: how far the grid goes beyond the networks, in units of their own span.
        loss_fn: see `evaluate_plane`.

    Returns:
        See `evaluate_plane`.
    """
    least, most = plane.places.min(0), plane.places.max(0)
    room = margin * (most - least)
    x, y = np.linspace(least - room, most + room, size).T
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    shares = jnp.asarray(plane.shares(np.concatenate([plane.places, grid])), jnp.float32)
    networks, scores = sharding.onto_all(plane.networks), no_scores(loss_fn)
    with jax.default_matmul_precision("highest"):
        for batch in batches:
            seen = _look(apply, loss_fn, shares, networks, batch)
            scores = add_scores(scores, sharding.fetch(seen))
    found = means(scores)
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "places": plane.places.tolist(),
        **{f"{name}_at_networks": values[:3].tolist() for name, values in found.items()},
        **{name: values[3:].reshape(size, size).tolist() for name, values in found.items()},
    }


@partial(jax.jit, static_argnums=(0, 1))
def _look(
    apply: ApplyFn,
    loss_fn: LossFn | None,
    shares: Array,
    networks: tuple[Variables, ...],
    batch: Batch,
) -> Scores:
    """Of each example, (points, n)."""

    def at(share: Array) -> Scores:
        variables = jax.tree.map(partial(_mixed, share), *networks)
        return scores_of_logits(apply(variables, batch.images), batch.labels, batch.mask, loss_fn)

    return sharding.constrain_everywhere(jax.lax.map(at, shares))


def _mixed(share: Array, *leaves: Array) -> Array:
    """The sum of three networks' leaves; where they are no floats, the first's."""
    dtype = jnp.result_type(leaves[0])
    if not jnp.issubdtype(dtype, jnp.inexact):
        return leaves[0]
    return jnp.asarray(sum(share[index] * leaf for index, leaf in enumerate(leaves)), dtype)


def _flat(variables: Variables) -> np.ndarray:
    """All floats of a network in float64; a complex number as its two parts."""
    leaves = [x for x in jax.tree.leaves(variables) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    parts = (np.stack([x.real, x.imag]) if np.iscomplexobj(x) else x for x in sharding.fetch(leaves))
    return np.concatenate([part.ravel().astype(np.float64) for part in parts])
