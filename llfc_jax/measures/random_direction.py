"""The control of every path: as far from A, in a direction that nobody trained."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.evaluation import LossFn, Scores, add_scores, means, no_scores, scores_of_logits
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import ANYWHERE, TEST, Found, Measure, Options
from llfc_jax.measures.nodes import contracted_leaves, filter_axes, with_leaves
from llfc_jax.path.traversal import Planned
from llfc_jax.program.flat import Values, output, run
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array

KINDS = ("random", "filters")
SEED = 0
"""Of the directions: the same for all paths of one network."""


def measure(options: Options) -> Measure:
    """`{alphas, random_loss, random_error, filters_loss, filters_error}`, parallel to the alphas."""
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        return {"alphas": alphas, **found.folds[TEST]["directions"]}

    return Measure(
        name="random_direction",
        folds=lambda program: {
            "directions": Planned(random_direction(program, alphas, options.loss_fn), ANYWHERE)
        },
        entry=entry,
        labelled=True,
    )


@by_value
def random_direction(program: Program, alphas: tuple[float, ...], loss_fn: LossFn | None = None) -> Tally:
    """Loss (nats) and error (fraction) at A + alpha d, where d is random and as long as B - A.

    Once Gaussian, and once with each filter, all weights of one output, of the size of A's own, and biases
    left as they are (Li et al. 2018, arXiv 1712.09913, section 4). Both move the weights and biases of
    contractions alone; norms and embeddings stay, and the length is that of B - A in what moves. A path whose
    loss stays low where both of these rise is connected by more than a broad minimum.

    A kernel that is stored in another form than its layer reads, such as transposed, counts as one filter.

    All networks run one after the other in one loop, for which directions are drawn once and the network is
    compiled once. The measure's own alpha doesn't matter.

    Args:
        program: the network.
        alphas: of which the first is 0, where both directions are at A.
        loss_fn: outputs, labels -> (n, ...) losses, in place of cross-entropy.

    Returns:
        The measure; its result is `{random_loss, filters_loss, ...}`, lists parallel to the alphas.
    """
    leaves = contracted_leaves(program)
    filters = filter_axes(program)
    kinds, along = (axis.ravel() for axis in np.meshgrid(range(len(KINDS)), alphas[1:], indexing="ij"))

    def look(point: Point) -> Scores:
        flat, a = point.program.flat, point.a.values
        length = _norm([point.b.values[leaf] - a[leaf] for leaf in leaves])
        directions = _directions([a[leaf] for leaf in leaves], leaves, filters)
        whole = jnp.stack([_norm([of_leaf[kind] for of_leaf in directions]) for kind in range(len(KINDS))])

        def scores(at: tuple[Array, Array]) -> Scores:
            kind, alpha = at
            share = alpha * length / jnp.where(whole[kind] > 0, whole[kind], 1)
            moved: Values = {
                leaf: a[leaf] + (share * step[kind]).astype(a[leaf].dtype)
                for leaf, step in zip(leaves, directions, strict=True)
            }
            logits = output(flat, run(flat, with_leaves(flat, a, moved)))[0]
            return scores_of_logits(logits, point.labels, point.mask, loss_fn)

        start = scores_of_logits(point.a.logits, point.labels, point.mask, loss_fn)
        found = jax.lax.map(scores, (jnp.asarray(kinds), jnp.asarray(along, jnp.float32)))

        def with_start(start: Array, found: Array) -> Array:
            by_kind = found.reshape(len(KINDS), -1, *start.shape)
            return jnp.concatenate([jnp.broadcast_to(start, (len(KINDS), 1, *start.shape)), by_kind], 1)

        return jax.tree.map(with_start, start, found)

    def finalize(state: Scores, alphas: tuple[float, ...]) -> dict[str, list[float]]:
        del alphas
        return {
            f"{kind}_{name}": values[0, at].tolist()
            for at, kind in enumerate(KINDS)
            for name, values in means(state).items()
        }

    return Tally(look, add_scores, finalize, no_scores(loss_fn))


def _directions(
    weights: Sequence[Array], leaves: Sequence[int], filters: Mapping[int, tuple[int, ...]]
) -> list[Array]:
    """Both of every leaf, along a first axis of `KINDS`."""
    drawn = _gaussian({leaf: weight.size for leaf, weight in zip(leaves, weights, strict=True)})

    def both(leaf: int, weight: Array) -> Array:
        gaussian = drawn[leaf].reshape(weight.shape)
        stays = jnp.zeros_like(gaussian)
        return jnp.stack([gaussian, _like(gaussian, weight, filters[leaf]) if leaf in filters else stays])

    return [both(leaf, weight) for leaf, weight in zip(leaves, weights, strict=True)]


def _gaussian(sizes: Mapping[int, int]) -> dict[int, Array]:
    """Of each leaf its own, by number; those within a factor of four in size come from one loop.

    They begin alike, however many are drawn, and XLA takes a second to compile a generator for each size.
    """

    def draw(leaf: Array, size: int) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.key(SEED), leaf), (size,), jnp.float32)

    alike: dict[int, list[int]] = {}
    for leaf, size in sizes.items():
        alike.setdefault(size.bit_length() // 2, []).append(leaf)
    found: dict[int, Array] = {}
    for leaves in alike.values():
        drawn = jax.lax.map(partial(draw, size=max(sizes[leaf] for leaf in leaves)), jnp.asarray(leaves))
        found |= {leaf: own[: sizes[leaf]] for leaf, own in zip(leaves, drawn, strict=True)}
    return found


def _like(direction: Array, weight: Array, outputs: tuple[int, ...]) -> Array:
    """The direction with every filter of the norm of the weight's."""
    axes = tuple(axis for axis in range(weight.ndim) if axis not in outputs)
    size = math.prod(weight.shape[axis] for axis in axes)
    if not size:
        return direction
    own, wanted = (
        jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x)), axes, keepdims=True)) for x in (direction, weight)
    )
    return direction * (wanted / jnp.where(own > 0, own, 1))


def _norm(leaves: Any) -> Array:
    return jnp.sqrt(sum((jnp.sum(jnp.square(jnp.abs(leaf))) for leaf in leaves), jnp.float32(0)))
