"""A measure from outside the package, as a user writes one: linear CKA between theta_alpha and A."""

import math

import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.measures.fold import Fold
from llfc_jax.measures.measure import Measure, Options, build, measure_along
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.traversal import Planned
from llfc_jax.program.flat import arguments, run
from llfc_jax.program.reading import read
from llfc_jax.types import Batch

ALPHAS = (0.5, 1.0)


@pytest.fixture(autouse=True)
def _any_broadcasting():
    with jax.numpy_rank_promotion("allow"):
        yield


# What the user writes begins here.


def cka(alphas):
    """Linear CKA (Kornblith et al. 2019, arXiv 1905.00414) of every layer of theta_alpha with that of A."""
    return Measure(
        name="cka",
        folds=lambda program: {"layers": Planned(cka_fold(layers_of(program)), alphas)},
        entry=lambda found: {"alphas": alphas, "layers": found.folds["test"]["layers"]},
        quantities={"cka": "linear CKA with A"},
    )


def layers_of(program):
    return [node for node in program.features if node.sample_axis is not None]


def cka_fold(layers):
    """||X^T Y||^2 / (||X^T X|| ||Y^T Y||) of centred features (samples, numbers), from sums over batches."""

    def rows(view, node, mask):
        return view.features[node.name].reshape(len(mask), -1) * mask[:, None]

    def sums(point, node):
        x, y = (rows(view, node, point.mask) for view in (point.theta, point.a))
        return {
            "n": point.mask.sum(),
            "x": x.sum(0),
            "y": y.sum(0),
            "xy": x.T @ y,
            "xx": x.T @ x,
            "yy": y.T @ y,
        }

    def init(point):
        widths = {node.name: math.prod(point.a.features[node.name].shape[1:]) for node in layers}
        return {
            name: {"n": jnp.zeros(())}
            | {key: jnp.zeros(width) for key in ("x", "y")}
            | {key: jnp.zeros((width, width)) for key in ("xy", "xx", "yy")}
            for name, width in widths.items()
        }

    def update(state, point):
        return {node.name: jax.tree.map(jnp.add, state[node.name], sums(point, node)) for node in layers}

    def similarity(seen):
        def centred(product, left, right):
            outer = left[..., :, None] * right[..., None, :] / seen["n"][..., None, None]
            return np.linalg.norm(product - outer, axis=(-2, -1))

        x, y = seen["x"], seen["y"]
        cross, own = centred(seen["xy"], x, y) ** 2, centred(seen["xx"], x, x) * centred(seen["yy"], y, y)
        return (cross / own).tolist()

    def finalize(state, alphas):
        return [
            {"layer": node.name, "kind": node.label, "cka": similarity(state[node.name])} for node in layers
        ]

    return Fold(init, update, finalize)


# What the user writes ends here.


def cka_in_float64(x, y):
    x, y = (np.float64(each).reshape(len(each), -1) for each in (x, y))
    x, y = x - x.mean(0), y - y.mean(0)
    return np.sum((x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_a_measure_of_ones_own_is_taken_together_with_those_of_the_registry():
    (apply, a, inputs), (_, b, _) = (foreign.llama(jax.random.key(seed), blocks=1) for seed in (0, 1))
    images = np.concatenate([inputs, np.flip(inputs, 1)])
    masks = np.float32([[1, 1, 1], [1, 1, 0]])  # padding must not count
    batches = [Batch(images[3 * i : 3 * i + 3], np.arange(3), mask) for i, mask in enumerate(masks)]
    program = read(apply, a, inputs)
    measures = (*build(["llfc"], Options(alphas=(0.5,))), cka(ALPHAS))
    found = measure_along(program, Curve(a, b), lambda split: batches, measures)
    assert [*found] == ["llfc", "cka"]
    assert found["cka"]["quantities"] == {"cka": "linear CKA with A"}

    whole = read(apply, a, images)
    values_of = jax.jit(lambda variables: run(whole.flat, arguments(whole.flat, variables, images)))
    of_a = values_of(a)
    assert [row["layer"] for row in found["cka"]["layers"]] == [node.name for node in whole.features]
    for index, alpha in enumerate(ALPHAS):
        of_theta = values_of(lerp(a, b, alpha))
        for row, node in zip(found["cka"]["layers"], whole.features, strict=True):
            expected = cka_in_float64(*(values[node.value][:5] for values in (of_theta, of_a)))
            np.testing.assert_allclose(row["cka"][index], expected, rtol=1e-4, err_msg=node.name)
