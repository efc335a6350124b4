"""REPAIR: give the units of theta_alpha the mean and variance that interpolation took from them.

Jordan et al., ICLR 2023 (arXiv 2211.08403): averaging decorrelated units shrinks their variance layer by
layer. At each unit before its nonlinearity an affine correction restores the interpolated mean and standard
deviation of A's and B's unit. It folds into the parameters, so the corrected network is of the same kind.
With BatchNorm, recomputing its statistics does the same.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp

from llfc_jax.corrections.channel_moments import Statistics
from llfc_jax.corrections.correction import Correction, stream_along
from llfc_jax.corrections.sites import Site, scaled, shifted, sites
from llfc_jax.errors import UserError
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import lerp, mean
from llfc_jax.program.flat import Flat, arguments, run
from llfc_jax.program.nodes import Program
from llfc_jax.program.reading import reread
from llfc_jax.types import Array, Batch, Variables

Affine = dict[str, dict[str, Array]]
"""Node -> `scale` and `shift` per unit, to be applied to its value."""

_EPSILON = 1e-5  # added to both variances, so that a unit that hardly varies isn't blown up


def repair(program: Program) -> Correction:
    """The correction of a network without BatchNorm: two streams, one of the ends, one of the path.

    Statistics are of all positions of an example, also of those that a mask hides.

    Raises:
        UserError: no unit of the network has a scale and a shift of its own.
    """
    found = sites(program)
    if not found:
        raise UserError("REPAIR: expected a layer whose units have a scale and a bias; found none")
    return Correction("repair", _corrections, _Mend(program.flat, found), _correction_of_mean)


@dataclasses.dataclass(frozen=True)
class _Mend:
    """Fold a correction into the parameters: y -> scale y + shift at each site."""

    flat: Flat = dataclasses.field(compare=False)
    sites: tuple[Site, ...]

    def __call__(self, variables: Variables, correction: Affine) -> Variables:
        leaves = jax.tree.leaves(variables)
        for site in self.sites:
            own = correction[site.node.name]
            scale = own["scale"]
            gain = scaled(self.flat, variables, site.gain, scale)
            bias = scaled(self.flat, variables, site.shift, scale)
            leaves[site.gain.leaf] = gain
            leaves[site.shift.leaf] = bias + shifted(self.flat, variables, site.shift, own["shift"])
        return jax.tree.unflatten(jax.tree.structure(variables), leaves)


def _corrections(
    program: Program,
    curve: Curve,
    alphas: Sequence[float],
    batches: Callable[[], Iterable[Batch]],
) -> dict[float, Affine]:
    program, stream = _reread(program, curve.a, batches())
    seen = stream_along(_Seen(program), curve, (0.0, 1.0), stream)
    end_a, end_b = map(_with_deviations, seen.values())
    known = (curve, (end_a, end_b))
    seen_corrected = stream_along(_SeenCorrected(program), known, alphas, batches())
    return {alpha: _affines(found, lerp(end_a, end_b, alpha)) for alpha, found in seen_corrected.items()}


def _correction_of_mean(
    program: Program,
    networks: Sequence[Variables],
    shares: Sequence[float],
    batches: Callable[[], Iterable[Batch]],
) -> Affine:
    """Of the mean of several networks, whose units get the mean of theirs."""
    program, _ = _reread(program, networks[0], batches())
    each = [
        _with_deviations(stream_along(_Seen(program), Curve(own, own), (0.0,), batches())[0.0])
        for own in networks
    ]
    wanted = mean(each, shares)
    end = mean(networks, shares)
    known = (Curve(end, end), (wanted, wanted))
    return _affines(stream_along(_SeenCorrected(program), known, (0.0,), batches())[0.0], wanted)


def _reread(
    program: Program, variables: Variables, batches: Iterable[Batch]
) -> tuple[Program, Iterable[Batch]]:
    """The program for batches of the size that there is, and all of them."""
    stream = iter(batches)
    first = next(stream, None)
    if first is None:
        raise ValueError("batches: expected a complete one at least; found none")
    return reread(program, variables, first.images), itertools.chain([first], stream)


@jax.jit
def _affines(found: Statistics, wanted: Statistics) -> Affine:
    return {name: _affine(found[name], own) for name, own in wanted.items()}


@jax.jit
def _with_deviations(statistics: Statistics) -> Statistics:
    return {name: {"mean": own["mean"], "std": jnp.sqrt(own["var"])} for name, own in statistics.items()}


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Moments of the sites; a `StatisticsAt`."""

    program: Program

    def __call__(self, curve: Curve, alpha: Array, inputs: Array) -> Statistics:
        flat = self.program.flat
        values = run(flat, arguments(flat, curve.at(alpha), inputs))
        return {site.node.name: _moments(values[site.node.value], site.axis) for site in sites(self.program)}


@dataclasses.dataclass(frozen=True)
class _SeenCorrected:
    """The same, each site corrected in turn, so that the later ones see the earlier ones mended."""

    program: Program

    def __call__(
        self, known: tuple[Curve, tuple[Statistics, Statistics]], alpha: Array, inputs: Array
    ) -> Statistics:
        curve, ends = known
        variables, wanted, found = curve.at(alpha), lerp(*ends, alpha), {}
        flat = self.program.flat
        values = arguments(flat, variables, inputs)
        done = 0
        for site in sites(self.program):
            node, axis = site.node, site.axis
            values = run(flat, values, range(done, node.instructions[-1] + 1))
            done = node.instructions[-1] + 1
            found[node.name] = _moments(values[node.value], axis)
            correction = _affine(found[node.name], wanted[node.name])
            values[node.value] = applied(correction, values[node.value], axis)
        return found


def _moments(x: Array, axis: int) -> dict[str, Array]:
    axes = tuple(i for i in range(x.ndim) if i != axis)
    return {"mean": x.mean(axes), "var": x.var(axes)}


def _affine(found: dict[str, Array], wanted: dict[str, Array]) -> dict[str, Array]:
    """From the found mean and variance to the wanted mean and standard deviation; 1 and 0 if they agree."""
    scale = jnp.sqrt((jnp.square(wanted["std"]) + _EPSILON) / (found["var"] + _EPSILON))
    return {"scale": scale, "shift": wanted["mean"] - scale * found["mean"]}


def applied(own: dict[str, Array], x: Array, axis: int) -> Array:
    """Scale and shift the units of x, which lie along an axis."""
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    scale, shift = (jnp.broadcast_to(own[name].reshape(shape), x.shape) for name in ("scale", "shift"))
    return scale * x + shift
