"""Weak additivity of nonlinearities (LLFC, Definition 3): one of the two causes of LLFC."""

from llfc_jax.measures.fold import Point, Tally, by_value
from llfc_jax.measures.layerwise import compare_layers, sized
from llfc_jax.measures.measure import TEST, Measure, Options
from llfc_jax.measures.nodes import rerun
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.masks import samples_first
from llfc_jax.path.traversal import Planned
from llfc_jax.program.kinds import Kind
from llfc_jax.program.nodes import Program
from llfc_jax.types import Array


def measure(options: Options) -> Measure:
    """`{alphas, layers}`, a row for each nonlinearity."""
    return Measure(
        name="weak_additivity",
        folds=lambda program: {"layers": Planned(weak_additivity(program), options.alphas)},
        entry=lambda found: {"alphas": options.alphas, **found.folds[TEST]},
    )


@by_value
def weak_additivity(program: Program) -> Tally:
    """Compare (1 - alpha) s(h_A) + alpha s(h_B) with s((1 - alpha) h_A + alpha h_B) at every nonlinearity s.

    Since ReLU is positively homogeneous, alpha = 1/2 compares relu(h_A) + relu(h_B) with relu(h_A + h_B).
    Weak additivity holds when they agree; for ReLU it does exactly where h_A and h_B have the same signs. A
    nonlinearity with weights of its own, such as PReLU, has those of theta_alpha.
    """

    def sides(point: Point, layer: str) -> tuple[Array, Array, Array]:
        node, a, b = program[layer], point.a.values, point.b.values
        entries = {entry: lerp(a[entry], b[entry], point.alpha) for entry in node.entries}
        before = rerun(point.program.flat, node, point.theta.values, entries)
        after = lerp(point.a.features[layer], point.b.features[layer], point.alpha)
        return sized(after, samples_first(before, node.sample_axis, node.position_axes, point.mask))

    nonlinear = program.of_kind(Kind.NONLINEARITY)
    layers = {node.name: node.label for node in nonlinear if node.sample_axis is not None}
    return compare_layers(layers, sides)
