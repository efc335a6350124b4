"""How sharp the loss is along the path: the largest eigenvalue of its Hessian, and the trace."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from llfc_jax.measures.evaluation import LossFn, scored
from llfc_jax.measures.fold import Fold, Point, by_value
from llfc_jax.measures.measure import ANYWHERE, TEST, TRAIN, Found, Measure, Options
from llfc_jax.measures.nodes import contracted_leaves, with_leaves
from llfc_jax.path.masks import spread
from llfc_jax.path.traversal import Planned
from llfc_jax.program.flat import Values, arguments, output, run
from llfc_jax.program.gradients import evaluate_for_gradients
from llfc_jax.program.nodes import Program
from llfc_jax.runtime import sharding
from llfc_jax.types import Array

ITERATIONS = 12
"""Of Lanczos, at most."""
TOLERANCE = 1e-3
"""By which part of itself an iteration changes the eigenvalue when it is the last."""
PROBES = 4
"""Random vectors, of the trace."""
SEED = 0

QUANTITIES = {"top": "largest Hessian eigenvalue", "trace": "Hessian trace"}


def measure(options: Options) -> Measure:
    """`{alphas, top, trace, trace_std_error, parameters}`, of the first training batch.

    Of the first test batch, where there is no training data.
    """
    alphas = options.alphas_and_ends

    def entry(found: Found) -> dict[str, Any]:
        program, batch = found.program, found.folds.get(TRAIN, found.folds[TEST])["batch"]
        each = [sharpness(program, found.curve.at(alpha), batch, options.loss_fn) for alpha in alphas]
        return {"alphas": alphas, **{name: [one[name] for one in each] for name in each[0]}}

    return Measure(
        name="sharpness",
        folds=lambda program: {"batch": Planned(first_batch(), ANYWHERE)},
        entry=entry,
        splits=(TEST, TRAIN),
        labelled=True,
        quantities=QUANTITIES,
    )


@by_value
def first_batch() -> Fold:
    """The first batch itself: `(inputs, labels, mask)`, inputs as the leaves that the program has of them.

    A descent along eigenvectors needs the same data again and again, where a fold sees each batch once.
    """

    def seen_of(point: Point) -> tuple[list[Array], Any, Array]:
        flat = point.program.flat
        inputs = [point.a.values[value] for value in range(flat.num_leaves, flat.num_arguments)]
        return inputs, point.labels, point.mask

    def init(point: Point) -> dict[str, Any]:
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), seen_of(point))
        return {"seen": jnp.zeros((), bool), "batch": nothing}

    def update(state: dict[str, Any], point: Point) -> dict[str, Any]:
        kept = jax.tree.map(partial(jnp.where, state["seen"]), state["batch"], seen_of(point))
        return {"seen": jnp.ones((), bool), "batch": kept}

    def finalize(state: dict[str, Any], alphas: tuple[float, ...]) -> Any:
        del alphas
        return jax.tree.map(lambda leaf: leaf[0], state["batch"])

    return Fold(init, update, finalize)


def sharpness(
    program: Program, variables: Any, batch: tuple[Any, Any, Any], loss_fn: LossFn | None = None
) -> dict[str, float]:
    """The Hessian of the mean loss of a batch, in the weights and biases of contractions; norms stay.

    The largest eigenvalue by Lanczos' method, whose Ritz values rise to it, and the trace by Hutchinson's:
    the mean of v^T H v over vectors v of +-1 (Ghorbani et al. 2019, arXiv 1901.10159). Where ReLU has its
    kink, H is that of the pieces beside it.

    The loss is linearised once, so that ResNet-20 takes six convolutions for every one of a forward pass for
    H v, where product and point together take eight. One of the vectors is the one that Lanczos' method
    starts from, whose first step says v^T H v.

    Args:
        program: the network, read with inputs of the batch's shape.
        variables: theta.
        batch: inputs, labels, mask.
        loss_fn: outputs, labels -> (n, ...) losses, in place of cross-entropy.

    Returns:
        `{top, trace, trace_std_error, parameters}`.
    """
    step = partial(_lanczos, _hessian(program, loss_fn, variables, batch))
    first, *probes = (_signs(program, i) for i in range(PROBES))
    size = _size(first)
    top, along = _largest_eigenvalue(step, first)
    curvatures = [along, *sharding.fetch([step(v, v, size**-0.5, 0.0)[0] for v in probes])]
    traces = size * np.asarray(curvatures, np.float64)
    return {
        "top": top,
        "trace": float(traces.mean()),
        "trace_std_error": float(traces.std(ddof=1) / np.sqrt(PROBES)),
        "parameters": size,
    }


def _largest_eigenvalue(step: Any, start: Values) -> tuple[float, float]:
    """By three vectors at a time: they lose their orthogonality, which copies eigenvalues but moves none.

    Returns:
        It, and the curvature along the start.
    """
    before, now, beta, length = start, start, 0.0, math.sqrt(_size(start))
    diagonal: list[float] = []
    beside: list[float] = []
    top = -np.inf
    for _ in range(ITERATIONS):
        alpha, rest, before, now = step(before, now, 1 / length, beta)
        beta = length = float(rest)
        diagonal.append(float(alpha))
        ritz = float(np.linalg.eigvalsh(_tridiagonal(diagonal, beside))[-1])
        settled = abs(ritz - top) <= TOLERANCE * abs(ritz)
        top = ritz
        if settled or not beta > 1e-6 * abs(top) or not np.isfinite(top):
            break
        beside.append(beta)
    return top, diagonal[0]


@jax.jit
def _lanczos(
    hessian_times: Callable[[Values], Values], before: Values, now: Values, factor: float, beta: float
) -> tuple[Array, Array, Values, Values]:
    """One step: with v = factor now, r = H v - beta before - alpha v.

    Returns:
        alpha = v^T (H v - beta before), |r|, v, r.
    """
    v = jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype), now)
    rest = _less(hessian_times(v), beta, before)
    alpha = _dot(rest, v)
    rest = _less(rest, alpha, v)
    return alpha, jnp.sqrt(_dot(rest, rest)), v, rest


@partial(jax.jit, static_argnums=(0, 1))
def _hessian(
    program: Program, loss_fn: LossFn | None, variables: Any, batch: tuple[Any, Any, Any]
) -> Callable[[Values], Values]:
    """What makes H v of v, the derivative of the gradient: a pytree of all that it needs of this point.

    Forward over reverse: the second reverse mode of a convolution is one with its input for a kernel, which
    takes a CPU six times as long. Where a network has a rule for reverse mode alone, that.
    """
    flat, (inputs, labels, mask) = program.flat, batch
    leaves = jax.tree.leaves(variables)

    def loss(weights: Values) -> Array:
        known = with_leaves(flat, arguments(flat, variables, inputs), weights)
        values = run(flat, known, evaluate=evaluate_for_gradients)
        losses, _ = scored(output(flat, values)[0], labels, loss_fn)
        counted = spread(mask, losses.shape)
        return jnp.sum(jnp.where(counted > 0, losses, 0)) / counted.sum()

    weights = {leaf: jnp.asarray(leaves[leaf]) for leaf in contracted_leaves(program)}
    with jax.default_matmul_precision("highest"):
        try:
            return jax.linearize(jax.grad(loss), weights)[1]
        except TypeError:
            return Partial(_only, jax.vjp(jax.grad(loss), weights)[1])


def _only(transposed: Callable[[Values], tuple[Values]], v: Values) -> Values:
    return transposed(v)[0]


@partial(jax.jit, static_argnums=0)
def _signs(program: Program, number: int) -> Values:
    """One of the random vectors, drawn at once: XLA takes seconds to compile a generator for each shape."""
    key = jax.random.split(jax.random.key(SEED), PROBES + 1)[number]
    leaves = contracted_leaves(program)
    shapes = [program.flat.avals[leaf] for leaf in leaves]
    starts = np.cumsum([0, *(shape.size for shape in shapes)]).tolist()
    drawn = jax.random.rademacher(key, (starts[-1],), jnp.int8)
    return {
        leaf: drawn[start : start + shape.size].reshape(shape.shape).astype(shape.dtype)
        for leaf, shape, start in zip(leaves, shapes, starts, strict=False)
    }


def _dot(x: Values, y: Values) -> Array:
    return sum((jnp.vdot(x[leaf], y[leaf]).real for leaf in x), jnp.float32(0))


def _less(x: Values, factor: Array | float, y: Values) -> Values:
    """What is left of x without factor y, in the types of x."""
    return jax.tree.map(lambda one, other: one - (factor * other).astype(one.dtype), x, y)


def _size(x: Values) -> int:
    return sum(leaf.size for leaf in x.values())


def _tridiagonal(diagonal: list[float], beside: list[float]) -> np.ndarray:
    return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
