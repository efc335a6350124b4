"""REPAIR: give the units of theta_alpha the mean and variance that interpolation took from them.

Jordan et al., ICLR 2023 (arXiv 2211.08403): averaging decorrelated units shrinks their variance layer by
layer. At each unit before its nonlinearity an affine correction restores the interpolated mean and standard
deviation of A's and B's unit. It folds into the parameters, so the corrected network is of the same kind.
With BatchNorm, recomputing its statistics does the same.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from llfc_jax.corrections.batchnorm import stream_along
from llfc_jax.corrections.channel_moments import Statistics
from llfc_jax.models import Network, Stage
from llfc_jax.models.network import INPUT
from llfc_jax.path.interpolation import lerp
from llfc_jax.types import Array, Batch, Variables

Correction = dict[str, dict[str, Array]]
"""Stage -> `scale` and `shift` per channel, to be applied to its output."""

_End = tuple[Variables, Statistics]
"""A network, and the `mean` and `std` of its sites."""

_EPSILON = 1e-5  # added to both variances, so that a unit that hardly varies isn't blown up


def sites(network: Network) -> tuple[Stage, ...]:
    """Stages to correct: those whose own parameters end in a scale and a bias per channel, the last excepted.

    Normalisations are; so are linear layers with a bias, unless a normalisation follows and undoes it.
    """
    normalised = {stage.inputs[0] for stage in network.stages if stage.kind == "norm"}
    return tuple(
        stage
        for stage in network.stages[:-1]
        if stage.kind == "norm"
        or (
            isinstance(stage.layer, nn.Dense | nn.Conv)
            and stage.layer.use_bias
            and stage.name not in normalised
        )
    )


def repair_corrections(
    network: Network,
    preprocess: Callable[[Array], Array],
    a: Variables,
    b: Variables,
    alphas: Sequence[float],
    batches: Callable[[], Iterable[Batch]],
) -> dict[float, Correction]:
    """The correction at each alpha, from two streams over training data: one of the ends, one of the path.

    Args:
        network: without BatchNorm.
        preprocess: images -> inputs of the network.
        a: variables of A.
        b: variables of B.
        alphas: points on the path.
        batches: starts a stream of training data.
    """
    seen = stream_along(_Seen(network, preprocess), (a, b), (0.0, 1.0), batches())
    end_a, end_b = (
        {name: {"mean": own["mean"], "std": jnp.sqrt(own["var"])} for name, own in statistics.items()}
        for statistics in seen.values()
    )
    ends = ((a, end_a), (b, end_b))
    seen_corrected = stream_along(_SeenCorrected(network, preprocess), ends, alphas, batches())
    return {
        alpha: {name: _affine(found[name], wanted) for name, wanted in lerp(end_a, end_b, alpha).items()}
        for alpha, found in seen_corrected.items()
    }


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Moments of the sites; a `StatisticsAt`."""

    network: Network
    preprocess: Callable[[Array], Array]

    def __call__(self, ends: tuple[Variables, Variables], alpha: Array, images: Array) -> Statistics:
        network = self.network
        values = network.run(lerp(*ends, alpha), {INPUT: self.preprocess(images)}, network.stages)
        return {stage.name: _moments(values[stage.name]) for stage in sites(network)}


@dataclasses.dataclass(frozen=True)
class _SeenCorrected:
    """The same, each site corrected in turn, so that the later ones see the earlier ones mended."""

    network: Network
    preprocess: Callable[[Array], Array]

    def __call__(self, ends: tuple[_End, _End], alpha: Array, images: Array) -> Statistics:
        (variables, wanted), found = lerp(*ends, alpha), {}
        values = {INPUT: self.preprocess(images)}
        for stage in self.network.stages:
            values = self.network.run(variables, values, [stage])
            if stage.name in wanted:
                found[stage.name] = _moments(values[stage.name])
                correction = _affine(found[stage.name], wanted[stage.name])
                values[stage.name] = _applied(correction, values[stage.name])
        return found


def corrected(variables: Variables, correction: Correction) -> Variables:
    """Fold a correction into the parameters: y -> scale y + shift at each site."""
    params = dict(variables["params"])
    for name, own in correction.items():
        gain = "scale" if "scale" in params[name] else "kernel"
        params[name] = {
            gain: _scaled(own, params[name][gain]),
            "bias": _applied(own, params[name]["bias"]),
        }
    return {**variables, "params": params}


def _moments(x: Array) -> dict[str, Array]:
    axes = tuple(range(x.ndim - 1))
    return {"mean": x.mean(axes), "var": x.var(axes)}


def _affine(found: dict[str, Array], wanted: dict[str, Array]) -> dict[str, Array]:
    """From the found mean and variance to the wanted mean and standard deviation; 1 and 0 if they agree."""
    scale = jnp.sqrt((jnp.square(wanted["std"]) + _EPSILON) / (found["var"] + _EPSILON))
    return {"scale": scale, "shift": wanted["mean"] - scale * found["mean"]}


def _scaled(own: dict[str, Array], x: Array) -> Array:
    return x * jnp.broadcast_to(own["scale"], x.shape)


def _applied(own: dict[str, Array], x: Array) -> Array:
    return _scaled(own, x) + jnp.broadcast_to(own["shift"], x.shape)
