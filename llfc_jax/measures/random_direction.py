"""The control of every path: as far from A, in a direction that nobody trained."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.evaluation import LossFn, Scores, add_scores, means, no_scores, scores_of_logits
from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import TEST, Found, Measure, Options
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
        folds=lambda program: {"directions": Planned(random_direction(program, options.loss_fn), alphas)},
        entry=entry,
        labelled=True,
    )


@by_value
def random_direction(program: Program, loss_fn: LossFn | None = None) -> Tally:
    """Loss (nats) and error (fraction) at A + alpha d, where d is random and as long as B - A.

    Once Gaussian, and once with each filter, all weights of one output, of the size of A's own, and biases
    left as they are (Li et al. 2018, arXiv 1712.09913, section 4). Both move the weights and biases of
    contractions alone; norms and embeddings stay, and the length is that of B - A in what moves. A path whose
    loss stays low where both of these rise is connected by more than a broad minimum.

    A kernel that is stored in another form than its layer reads, such as transposed, counts as one filter.

    Returns:
        The measure; its result is `{random_loss, filters_loss, ...}`, lists parallel to the alphas.
    """
    leaves = contracted_leaves(program)
    filters = filter_axes(program)

    def look(point: Point) -> dict[str, Scores]:
        flat, a = point.program.flat, point.a.values
        length = _norm([point.b.values[leaf] - a[leaf] for leaf in leaves])
        gaussian = {leaf: _normal(leaf, a[leaf]) for leaf in leaves}
        directions = {
            "random": gaussian,
            "filters": {leaf: _like(gaussian[leaf], a[leaf], axes) for leaf, axes in filters.items()},
        }

        def scores(kind: str) -> Scores:
            direction = directions[kind]
            whole = _norm(direction.values())
            share = point.alpha * length / jnp.where(whole > 0, whole, 1)
            moved: Values = {
                leaf: a[leaf] + (share * step).astype(a[leaf].dtype) for leaf, step in direction.items()
            }
            logits = output(flat, run(flat, with_leaves(flat, a, moved)))[0]
            return scores_of_logits(logits, point.labels, point.mask, loss_fn)

        return {kind: scores(kind) for kind in KINDS}

    def finalize(state: dict[str, Scores], alphas: tuple[float, ...]) -> dict[str, list[float]]:
        del alphas
        return {
            f"{kind}_{name}": np.asarray(values).tolist()
            for kind in KINDS
            for name, values in means(state[kind]).items()
        }

    return Tally(look, add_scores, finalize, dict.fromkeys(KINDS, no_scores(loss_fn)))


def _normal(leaf: int, like: Array) -> Array:
    key = jax.random.fold_in(jax.random.key(SEED), leaf)
    return jax.random.normal(key, like.shape, jnp.float32)


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
