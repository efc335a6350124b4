"""What a correction is: statistics along the path, then theta_alpha -> the mended network."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llfc_jax.corrections.channel_moments import ChannelMoments, Statistics, add_batch, no_batches, whole
from llfc_jax.path.curves import Curve
from llfc_jax.path.masks import of_samples
from llfc_jax.path.traversal import Correct
from llfc_jax.program.nodes import Program
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Batch, PyTree, Variables

StartStream = Callable[[], Iterable[Batch]]


class Correction(NamedTuple):
    """One way to mend the networks on a path."""

    name: str
    """As it is appended to the path's."""
    statistics: Callable[[Program, Curve, Sequence[float], StartStream], Mapping[float, PyTree]]
    """The program, curve, alphas, what starts a stream over training data -> what is known at each alpha."""
    mend: Callable[[Variables, PyTree], Variables]
    """theta_alpha and what is known there -> the network to look at; equal for equal corrections."""
    of_mean: Callable[[Program, Sequence[Variables], Sequence[float], StartStream], PyTree] | None = None
    """The program, networks, their shares in a mean, what starts a stream -> what is known of this mean."""


class CorrectedPath(NamedTuple):
    """A path, and how theta_alpha is mended on it."""

    path: Curve
    correct: Correct | None


def corrected_paths(
    program: Program,
    curve: Curve,
    alphas: Sequence[float],
    corrections: Iterable[Correction],
    data: Callable[[str], Iterable[Batch]],
) -> dict[str, CorrectedPath]:
    """Name of a correction -> the path with it, known at `alphas`; the plain path under no name, first.

    Args:
        program: the network.
        curve: from A to B.
        alphas: points on the path.
        corrections: those to make.
        data: name of a correction -> a new stream over training data for it.
    """
    found = {"": CorrectedPath(curve, None)}
    for one in corrections:
        known = one.statistics(program, curve, alphas, partial(data, one.name))
        found[one.name] = CorrectedPath(replace(curve, corrections=known), one.mend)
    return found


StatisticsAt = Callable[[PyTree, Array, PyTree], Statistics]
"""What theta_alpha is made of, alpha, inputs -> statistics of these inputs."""


def stream_along(
    statistics_at: StatisticsAt, ends: PyTree, alphas: Sequence[float], batches: Iterable[Batch]
) -> dict[float, Statistics]:
    """Statistics of whole batches at each alpha, joined over a stream; one compiled loop per batch.

    Args:
        statistics_at: pure. Give an equal one again, and nothing is compiled again.
        ends: what `statistics_at` makes theta_alpha of.
        alphas: points on the path.
        batches: an incomplete one is left out.

    Raises:
        ValueError: there is no complete batch.
    """
    path = jnp.asarray(alphas, jnp.float32)
    ends, moments = sharding.onto_all(ends), None
    for batch in batches:
        if of_samples(batch.mask).all():
            if moments is None:
                seen = jax.eval_shape(_look, statistics_at, ends, path, batch.images)
                moments = sharding.replicate(no_batches(seen))
            moments = _update(statistics_at, moments, ends, path, batch.images)
    if moments is None:
        raise ValueError("batches: expected a complete one at least; found none")
    return dict(zip(alphas, _each(moments, len(alphas)), strict=True))


@partial(jax.jit, static_argnums=1)
def _each(moments: ChannelMoments, count: int) -> list[Statistics]:
    """At each point of the path."""
    stacked = whole(moments)
    return [jax.tree.map(lambda leaf, index=index: leaf[index], stacked) for index in range(count)]


@partial(jax.jit, static_argnums=0)
def _look(statistics_at: StatisticsAt, ends: PyTree, path: Array, inputs: PyTree) -> Statistics:
    """Of one batch, stacked over the path."""
    return jax.lax.map(lambda alpha: statistics_at(ends, alpha, inputs), path)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _update(
    statistics_at: StatisticsAt, moments: ChannelMoments, ends: PyTree, path: Array, inputs: PyTree
) -> ChannelMoments:
    return add_batch(moments, _look(statistics_at, ends, path, inputs))
