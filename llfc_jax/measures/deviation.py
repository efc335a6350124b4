"""Where each layer's deviation from linearity comes from: an exact account, layer by layer.

The deviation of layer l is delta_l = f^(l)(theta_alpha) - v_l with v_l = (1 - alpha) f^(l)(theta_A) +
alpha f^(l)(theta_B). Let F_theta be the layer with the parameters theta. Then

    delta_l = [F_theta_alpha(v + delta) - F_theta_alpha(v)]  +  [F_theta_alpha(v) - v_l],

where v and delta belong to the layer's inputs. The first part is propagated from below; the second arises
here, even if the inputs were linear. For W x + b it is -alpha (1 - alpha) (W_A - W_B)(H_A - H_B), the failure
of commutativity; for ReLU, the failure of weak additivity: the two causes in LLFC's Theorem 1. Normalisation
and max pooling, which the theorem leaves out, each have a term of their own.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.measure import TEST, Measure, Options
from llfc_jax.measures.nodes import rerun
from llfc_jax.measures.scaling import as_rows, in_units, largest, unit_of
from llfc_jax.measures.stacking import each_of
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.masks import samples_first
from llfc_jax.path.traversal import Planned
from llfc_jax.program.kinds import Kind
from llfc_jax.program.nodes import Node, Program
from llfc_jax.types import Array, PyTree

ARISING = {
    Kind.CONTRACTION: "commutativity",
    Kind.NONLINEARITY: "weak_additivity",
    Kind.NORMALIZATION: "normalization",
    Kind.POOLING: "pooling",
    Kind.ATTENTION: "attention",
    Kind.PRODUCT: "product",
    Kind.AFFINE: "affine",
    Kind.OTHER: "other",
}
"""Kind of a node -> the name of what arises in it.

The others, sums, shifts and concatenations among them, are linear in all that isn't the same in A and B: all
their deviation comes from below.
"""

RESOLUTION = 1e-6
"""A deviation below this part of ||v|| is rounding and has no parts."""


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each feature."""
    return Measure(
        name="deviation",
        folds=lambda program: {"layers": Planned(deviation(program), options.alphas)},
        entry=lambda found: {"alphas": options.alphas, **found.folds[TEST]},
    )


class Account(NamedTuple):
    """Sums over features, and over samples as well, per layer."""

    deviation: Any
    """||delta||^2."""
    arising: Any
    """||own||^2 of the part that arises in this layer."""
    propagated: Any
    """||delta - own||^2 of the other, which the rest would give but for cancellation."""
    along: Any
    """<own, delta>."""
    reference: Any
    """||v||^2."""


@by_value
def deviation(program: Program) -> Tally:
    """Split the deviation of every layer from linearity into what it inherits and what it adds.

    The share of a part p is <p, delta> / ||delta||^2 over the dataset: the shares of a layer sum to one, and
    a negative one says that the part works against the deviation.

    Returns:
        The measure; its result is a list of `{layer, kind, deviation, scale, norms, shares}` whose numbers
        are lists parallel to the alphas: `deviation` is ||delta|| / ||v||, `scale` ||v|| per sample (root
        mean square), `norms` each part's ||p|| / ||v||, and `shares`, NaN where the deviation is rounding.
    """
    nodes = [node for node in program.nodes if node.sample_axis is not None]

    def look(point: Point) -> tuple[Array, Array]:
        accounts = [_layer(node, point) for node in nodes]
        return point.samples, each_of(_account, accounts)

    def add(state: tuple[Any, Account], seen: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Account]:
        samples, layers = (np.asarray(leaf, np.float64) for leaf in seen)
        scale, *squares = np.moveaxis(layers, -2, 0)
        counted = (np.where(samples[:, None] > 0, np.square(scale) * one, 0).sum(-1) for one in squares)
        return jax.tree.map(np.add, state, (samples.sum(-1), Account(*counted)))

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        samples, sums = state
        accounts = (Account(*own) for own in zip(*(total.T for total in sums), strict=True))
        found = zip(nodes, accounts, strict=True)
        return [_summary(node, account, samples) for node, account in found if node.kind is not Kind.COPY]

    return Tally(look, add, finalize, (0.0, Account(0.0, 0.0, 0.0, 0.0, 0.0)))


def _layer(node: Node, point: Point) -> tuple[Array, Array, Array]:
    """f(theta_alpha), v, and F_theta_alpha(v), or v itself where nothing arises; (n, features)."""
    flat, a, b = point.program.flat, point.a.values, point.b.values

    def between(value: int) -> Array:
        line = lerp(a[value], b[value], point.alpha)
        return line.astype(jnp.complex64 if jnp.iscomplexobj(line) else jnp.float32)

    def by_sample(value: Array) -> Array:
        return as_rows(samples_first(value, node.sample_axis, node.position_axes, point.mask))

    theta, reference = by_sample(point.theta.values[node.value]), by_sample(between(node.value))
    if node.kind not in ARISING:
        return theta, reference, reference
    entries = {entry: between(entry) for entry in node.entries}
    return theta, reference, by_sample(rerun(flat, node, point.theta.values, entries))


@jax.jit
def _account(theta: Array, reference: Array, alone: Array) -> Array:
    """The unit of each sample of one layer, and its account in it: (6, n)."""
    size = largest(theta, reference, alone)
    theta, reference, alone = in_units(size, theta, reference, alone)
    delta, own, below = theta - reference, alone - reference, theta - alone
    pairs = Account((delta, delta), (own, own), (below, below), (own, delta), (reference, reference))
    return jnp.stack([unit_of(size), *((x * y).sum(-1) for x, y in pairs)])


def _summary(node: Node, account: Account, samples: np.ndarray) -> dict[str, Any]:
    total, arising, propagated, along, reference = account
    parts = {"propagated": (total - along, propagated)}
    if (name := ARISING.get(node.kind)) is not None:
        parts[name] = (along, arising)
    meant = total > RESOLUTION**2 * reference

    def relative(square: np.ndarray) -> list[float]:
        ratio = square / np.where(reference > 0, reference, 1)
        return np.where(reference > 0, np.sqrt(ratio), np.nan).tolist()

    return {
        "layer": node.name,
        "kind": node.label,
        "deviation": relative(total),
        "scale": np.sqrt(reference / samples).tolist(),
        "norms": {part: relative(square) for part, (_, square) in parts.items()},
        "shares": {
            part: np.where(meant, inner / np.where(meant, total, 1), np.nan).tolist()
            for part, (inner, _) in parts.items()
        },
    }
