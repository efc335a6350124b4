"""Where each layer's deviation from linearity comes from: an exact account, layer by layer.

The deviation of layer l is delta_l = f^(l)(theta_alpha) - v_l with v_l = (1 - alpha) f^(l)(theta_A) +
alpha f^(l)(theta_B). Let F_theta be the layer with the parameters theta. Then

    delta_l = [F_theta_alpha(v + delta) - F_theta_alpha(v)]  +  [F_theta_alpha(v) - v_l],

where v and delta belong to the layer's inputs. The first part is propagated from below; the second arises
here, even if the inputs were linear. For W x + b it is -alpha (1 - alpha) (W_A - W_B)(H_A - H_B), the failure
of commutativity; for ReLU, the failure of weak additivity: the two causes in LLFC's Theorem 1. Normalisation
and max pooling, which the theorem leaves out, each have a term of their own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.measures.fold import Measure, Point
from llfc_jax.models import Network, Stage
from llfc_jax.path.interpolation import lerp
from llfc_jax.types import Array, PyTree

ARISING = {
    "dense": "commutativity",
    "conv": "commutativity",
    "relu": "weak_additivity",
    "norm": "normalization",
    "pool": "pooling",
}
"""Kind of a stage -> the name of what arises in it; another kind's bears the name of the kind."""

EXACT = ("add", "flatten", "shortcut", "dropout")
"""Kinds that are linear and have no parameters: all their deviation comes from below."""

RESOLUTION = 1e-6
"""A deviation below this part of ||v|| is rounding and has no parts."""


class Account(NamedTuple):
    """Sums over features, per sample of one layer, or over samples as well, per layer."""

    deviation: Array
    """||delta||^2."""
    arising: Array
    """||own||^2 of the part that arises in this layer."""
    along: Array
    """<own, delta>."""
    reference: Array
    """||v||^2."""


def deviation(stages: Sequence[Stage]) -> Measure:
    """Split the deviation of every layer from linearity into what it inherits and what it adds.

    The share of a part p is <p, delta> / ||delta||^2 over the dataset: the shares of a layer sum to one, and
    a negative one says that the part works against the deviation.

    Args:
        stages: of the network, in forward order.

    Returns:
        The measure; its result is a list of `{layer, kind, deviation, scale, norms, shares}` whose numbers
        are lists parallel to the alphas: `deviation` is ||delta|| / ||v||, `scale` ||v|| per sample (root
        mean square), `norms` each part's ||p|| / ||v||, and `shares`, NaN where the deviation is rounding.
    """

    def init(point: Point) -> dict[str, Any]:
        del point
        nothing = Account(*(jnp.zeros(len(stages)) for _ in Account._fields))
        return {"samples": jnp.zeros(()), "layers": nothing}

    def update(state: dict[str, Any], point: Point) -> dict[str, Any]:
        def add(seen: Array, *of_layers: Array) -> Array:
            return seen + jnp.stack(of_layers) @ point.mask

        accounts = (_account(stage, point) for stage in stages)
        layers = jax.tree.map(add, state["layers"], *accounts)
        return {"samples": state["samples"] + point.mask.sum(), "layers": layers}

    def finalize(state: PyTree, alphas: tuple[float, ...]) -> list[dict[str, Any]]:
        del alphas
        samples = np.asarray(state["samples"], np.float64)
        accounts = (Account(*(sums[..., index] for sums in state["layers"])) for index in range(len(stages)))
        found = zip(stages, accounts, strict=True)
        return [_summary(stage, account, samples) for stage, account in found if stage.is_feature]

    return Measure(init, update, finalize)


def arising_in(stage: Stage) -> str | None:
    """The name of the part of a deviation that arises in a stage; None where none can."""
    return None if stage.kind in EXACT else ARISING.get(stage.kind, stage.kind)


def _account(stage: Stage, point: Point) -> Account:
    def between(name: str) -> Array:
        return lerp(point.a.features[name], point.b.features[name], point.alpha).astype(jnp.float32)

    reference = between(stage.name)
    delta = point.theta.features[stage.name] - reference
    if arising_in(stage) is None:
        own = jnp.zeros_like(delta)
    else:
        inputs = {name: between(name) for name in stage.inputs}
        own = Network.run(point.theta.variables, inputs, [stage])[stage.name] - reference

    def inner(x: Array, y: Array) -> Array:
        return (x * y).sum(range(1, x.ndim))

    return Account(inner(delta, delta), inner(own, own), inner(own, delta), inner(reference, reference))


def _summary(stage: Stage, account: Account, samples: np.ndarray) -> dict[str, Any]:
    total, arising, along, reference = (np.asarray(leaf, np.float64) for leaf in account)
    parts = {"propagated": (total - along, total - 2 * along + arising)}
    if (name := arising_in(stage)) is not None:
        parts[name] = (along, arising)
    meant = total > RESOLUTION**2 * reference

    def relative(square: np.ndarray) -> list[float]:
        ratio = np.maximum(square, 0) / np.where(reference > 0, reference, 1)
        return np.where(reference > 0, np.sqrt(ratio), np.nan).tolist()

    return {
        "layer": stage.name,
        "kind": stage.kind,
        "deviation": relative(total),
        "scale": np.sqrt(reference / samples).tolist(),
        "norms": {part: relative(square) for part, (_, square) in parts.items()},
        "shares": {
            part: np.where(meant, inner / np.where(meant, total, 1), np.nan).tolist()
            for part, (inner, _) in parts.items()
        },
    }
