"""What is linear in alpha is computed at the ends, and nothing comes out differently for it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import randomise

from llfc_jax import models
from llfc_jax.path.hoisting import along_line
from llfc_jax.path.interpolation import lerp
from llfc_jax.program.flat import arguments, flatten, output, run

ALPHAS = np.float32([0, 0.3, 0.5, 1])
NETWORKS = {
    "mlp": (models.mlp, {"hidden": (7, 6)}, (3, 3, 1)),
    "lenet": (models.MODELS["lenet"], {"width": 0.5}, (28, 28, 1)),
    "resnet with BatchNorm": (models.resnet, {"depth": 8, "width": 1 / 4, "norm": "batch"}, (8, 8, 3)),
    "vit": (models.MODELS["vit"], {"width": 1 / 16, "blocks": 1, "heads": 2, "patch": 4}, (8, 8, 3)),
}


def some_images(n, *image):
    return np.random.default_rng(0).normal(size=(n, *image)).astype(np.float32)


def pair(network, image):
    return [randomise(network.shapes(some_images(1, *image)), seed) for seed in (0, 1)]


def at_each(fn, a, b, inputs, alphas):
    flat = flatten(fn, a, inputs)
    ends = [run(flat, arguments(flat, end, inputs)) for end in (a, b)]
    return jax.lax.map(lambda alpha: output(flat, along_line(flat, *ends, alpha)), alphas)


def at_all(fn, a, b, inputs):
    return at_each(fn, a, b, inputs, ALPHAS)


def plainly(fn, a, b, inputs):
    return jax.lax.map(lambda alpha: fn(lerp(a, b, alpha), inputs), ALPHAS)


@partial(jax.jit, static_argnums=0)
def both(fn, a, b, inputs):
    """What comes out with hoisting and without; one program for the two."""
    return at_all(fn, a, b, inputs), plainly(fn, a, b, inputs)


def within_the_loop(jaxpr):
    """Names of all operations that are done at every alpha."""
    (loop,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    return [eqn.primitive.name for eqn in loop.params["jaxpr"].jaxpr.eqns]


@pytest.mark.parametrize("name", NETWORKS)
def test_all_outputs_are_those_of_the_interpolated_network(name):
    make, options, image = NETWORKS[name]
    network = make(image, 5, **options)
    found, expected = both(network.apply_with_features, *pair(network, image), some_images(3, *image))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found, expected)


def test_the_first_layer_and_what_the_input_alone_decides_leave_the_loop():
    network = models.build({"name": "mlp", "hidden": (7, 6)}, (3, 3, 1), 5)
    a, b = pair(network, (3, 3, 1))

    def fn(variables, images):
        return network.apply(variables, jnp.exp(images))

    within = within_the_loop(
        jax.make_jaxpr(at_all, static_argnums=0)(fn, a, b, some_images(2, 3, 3, 1)).jaxpr
    )
    assert (within.count("dot_general"), within.count("exp")) == (2, 0)


def test_a_network_without_nonlinearity_is_not_linear_in_alpha_beyond_its_first_layer():
    def fn(weights, x):
        return x @ weights[0] @ weights[1]

    *weights, x = (np.random.default_rng(i).normal(size=(4, 4)).astype(np.float32) for i in range(5))
    a, b = weights[:2], weights[2:]
    within = within_the_loop(jax.make_jaxpr(at_all, static_argnums=0)(fn, a, b, x).jaxpr)
    assert within.count("dot_general") == 1
    np.testing.assert_allclose(*both(fn, a, b, x), rtol=1e-4, atol=1e-5)


def nonlinear():
    """Functions of weights (a vector) and an input in which something linear meets something that is not."""
    return {
        "division by a weight": lambda w, x: x / w,
        "product of two weights": lambda w, x: (x * w) * w,
        "weights only": lambda w, x: jnp.sum(w * w) + 0 * x,
        "weights as a condition": lambda w, x: jnp.where(w > 0.5, x, -x),
        "input as a condition": lambda w, x: jnp.where(x > 0, w, 2 * w),
        "rounded to bfloat16": lambda w, x: (x * w).astype(jnp.bfloat16).astype(jnp.float32) * w,
        "a loop over weights": lambda w, x: jax.lax.scan(lambda c, v: (c * v + x, c), x, w)[0],
        "a derivative of its own": lambda w, x: jax.nn.relu(x * w - 0.1),
        "not of the weights": lambda w, x: jnp.exp(x),
        "constants alone": lambda w, x: jnp.arange(4.0) * w,
        "the weights themselves": lambda w, x: w,
        "concatenated and padded": lambda w, x: jnp.pad(jnp.concatenate([x, w * x, w]), 1, constant_values=2),
        "reversed sums": lambda w, x: (x * w)[::-1].reshape(2, 2).sum(0) - x[:2],
    }


@pytest.fixture(scope="module")
def values():
    """Of each function with hoisting and without, by one program."""
    given = np.float32([1, 2, 3, 4]), np.float32([2, -1, 0.5, 4]), np.float32([0.5, -1, 2, 0.1])
    return jax.jit(lambda *given: {name: both(fn, *given) for name, fn in nonlinear().items()})(*given)


@pytest.mark.parametrize("name", nonlinear())
def test_whatever_is_done_with_the_weights_the_value_is_that_at_alpha(name, values):
    np.testing.assert_allclose(*values[name], rtol=1e-5, atol=1e-6)


def test_counters_are_those_of_a():
    ones = np.ones(2, np.float32)
    a, b = {"w": ones, "count": np.int32(3)}, {"w": 0 * ones, "count": np.int32(5)}

    def fn(variables, x):
        return x * variables["w"] * variables["count"]

    np.testing.assert_allclose(both(fn, a, b, ones)[0], 3 * np.outer(1 - ALPHAS, ones))


def test_both_ends_are_exact():
    network = models.build({"name": "mlp", "hidden": (7,)}, (3, 3, 1), 5)
    a, b = pair(network, (3, 3, 1))
    x = some_images(3, 3, 3, 1)
    found = at_each(network.apply, a, b, x, np.float32([0, 1]))
    for logits, end in zip(found, (a, b), strict=True):
        np.testing.assert_array_equal(logits, network.apply(end, x))


def test_b_is_read_in_the_precision_of_a_as_lerp_does():
    network = models.build({"name": "mlp", "hidden": (7,)}, (3, 3, 1), 5)
    a, b = pair(network, (3, 3, 1))
    b = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), b)
    np.testing.assert_allclose(*both(network.apply, a, b, some_images(3, 3, 3, 1)), rtol=1e-5)


def test_inputs_may_be_a_tree():
    def fn(weights, inputs):
        return weights * inputs["x"] + inputs["y"]

    ones = np.ones(2, np.float32)
    np.testing.assert_allclose(*both(fn, ones, 0 * ones, {"x": ones, "y": np.arange(2)}))
