"""What is linear in alpha is computed at the ends, and nothing comes out differently for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import randomise

from llfc_jax import models
from llfc_jax.path.hoisting import along_line
from llfc_jax.path.interpolation import lerp
from llfc_jax.program.flat import arguments, flatten, output, run

ALPHAS = jnp.float32([0, 0.3, 0.5, 1])
NETWORKS = {
    "mlp": ({"name": "mlp", "hidden": (7, 6)}, (3, 3, 1)),
    "lenet": ({"name": "lenet"}, (28, 28, 1)),
    "resnet with BatchNorm": ({"name": "resnet20", "width": 1 / 8}, (8, 8, 3)),
    "vit": ({"name": "vit", "width": 1 / 16, "blocks": 1, "heads": 2, "patch": 4}, (8, 8, 3)),
}


def pair(network, image):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *image)))
    return [randomise(shapes, seed) for seed in (0, 1)]


def at_each(fn, a, b, inputs, alphas):
    flat = flatten(fn, a, inputs)
    ends = [run(flat, arguments(flat, end, inputs)) for end in (a, b)]
    return jax.lax.map(lambda alpha: output(flat, along_line(flat, *ends, alpha)), alphas)


def at_all(fn, a, b, inputs):
    return at_each(fn, a, b, inputs, ALPHAS)


def plainly(fn, a, b, inputs):
    return jax.lax.map(lambda alpha: fn(lerp(a, b, alpha), inputs), ALPHAS)


def within_the_loop(jaxpr):
    """Names of all operations that are done at every alpha."""
    (loop,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    return [eqn.primitive.name for eqn in loop.params["jaxpr"].jaxpr.eqns]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("resnet")) for name in NETWORKS]
)
def test_all_outputs_are_those_of_the_interpolated_network(name):
    description, image = NETWORKS[name]
    network = models.build(description, image, 5)
    a, b = pair(network, image)
    images = jax.random.normal(jax.random.key(1), (3, *image))
    fn = jax.jit(network.apply_with_features)
    found, expected = (jax.jit(at, static_argnums=0)(fn, a, b, images) for at in (at_all, plainly))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found, expected)


def test_the_first_layer_and_what_the_input_alone_decides_leave_the_loop():
    network = models.build({"name": "mlp", "hidden": (7, 6)}, (3, 3, 1), 5)
    a, b = pair(network, (3, 3, 1))

    def fn(variables, images):
        return network.apply(variables, jnp.exp(images))

    within = within_the_loop(jax.make_jaxpr(at_all, static_argnums=0)(fn, a, b, jnp.ones((2, 3, 3, 1))).jaxpr)
    assert (within.count("dot_general"), within.count("exp")) == (2, 0)


def test_a_network_without_nonlinearity_is_not_linear_in_alpha_beyond_its_first_layer():
    def fn(weights, x):
        return x @ weights[0] @ weights[1]

    keys = jax.random.split(jax.random.key(0), 5)
    a, b = ([jax.random.normal(key, (4, 4)) for key in half] for half in (keys[:2], keys[2:4]))
    x = jax.random.normal(keys[4], (2, 4))
    within = within_the_loop(jax.make_jaxpr(at_all, static_argnums=0)(fn, a, b, x).jaxpr)
    assert within.count("dot_general") == 1
    np.testing.assert_allclose(at_all(fn, a, b, x), plainly(fn, a, b, x), rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("name", nonlinear())
def test_whatever_is_done_with_the_weights_the_value_is_that_at_alpha(name):
    fn = nonlinear()[name]
    a, b, x = jnp.float32([1, 2, 3, 4]), jnp.float32([2, -1, 0.5, 4]), jnp.float32([0.5, -1, 2, 0.1])
    found, expected = at_all(fn, a, b, x), plainly(fn, a, b, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_counters_are_those_of_a():
    a, b = {"w": jnp.ones(2), "count": jnp.int32(3)}, {"w": jnp.zeros(2), "count": jnp.int32(5)}

    def fn(variables, x):
        return x * variables["w"] * variables["count"]

    np.testing.assert_allclose(at_all(fn, a, b, jnp.ones(2)), 3 * jnp.outer(1 - ALPHAS, jnp.ones(2)))


def test_both_ends_are_exact():
    network = models.build({"name": "mlp", "hidden": (7,)}, (3, 3, 1), 5)
    a, b = pair(network, (3, 3, 1))
    x = jax.random.normal(jax.random.key(1), (3, 3, 3, 1))
    found = at_each(network.apply, a, b, x, jnp.float32([0, 1]))
    for logits, end in zip(found, (a, b), strict=True):
        np.testing.assert_array_equal(logits, network.apply(end, x))


def test_b_is_read_in_the_precision_of_a_as_lerp_does():
    network = models.build({"name": "mlp", "hidden": (7,)}, (3, 3, 1), 5)
    a, b = pair(network, (3, 3, 1))
    b = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), b)
    x = jax.random.normal(jax.random.key(1), (3, 3, 3, 1))
    np.testing.assert_allclose(at_all(network.apply, a, b, x), plainly(network.apply, a, b, x), rtol=1e-5)


def test_inputs_may_be_a_tree():
    def fn(weights, inputs):
        return weights * inputs["x"] + inputs["y"]

    inputs = {"x": jnp.ones(2), "y": jnp.arange(2)}
    found = at_all(fn, jnp.ones(2), jnp.zeros(2), inputs)
    np.testing.assert_allclose(found, plainly(fn, jnp.ones(2), jnp.zeros(2), inputs))
