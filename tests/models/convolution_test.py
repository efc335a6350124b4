"""The package's convolution against JAX's own, value and gradients, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.models.convolution import conv_for_training, conv_general_dilated

OURS, IN_TRAINING, JAXS = (
    partial(convolve, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    for convolve in (conv_general_dilated, conv_for_training, jax.lax.conv_general_dilated)
)
BOTH = pytest.mark.parametrize("ours", [OURS, IN_TRAINING], ids=["ours", "ours in training"])
CASES = {
    "3x3": ((4, 6, 5, 3), (3, 3), (1, 1), "SAME"),
    "several blocks of images": ((24, 6, 5, 3), (3, 3), (1, 1), "SAME"),
    "valid": ((3, 7, 6, 3), (5, 3), (1, 1), "VALID"),
    "padded on one side": ((3, 7, 6, 3), (3, 3), (1, 1), ((2, 0), (0, 1))),
    "even kernel": ((3, 7, 6, 3), (2, 4), (1, 1), "SAME"),
    "strided": ((16, 8, 8, 3), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "a stride that leaves positions over": ((3, 8, 9, 3), (3, 3), (2, 3), "VALID"),
    "a stride beyond the kernel": ((3, 9, 9, 3), (2, 2), (3, 3), "SAME"),
    "stem": ((8, 13, 13, 3), (7, 7), (2, 2), ((3, 3), (3, 3))),
    "1x1, strided": ((3, 7, 7, 3), (1, 1), (2, 2), ((0, 0), (0, 0))),
    "a 2x2 map": ((3, 2, 2, 3), (3, 3), (1, 1), "SAME"),
    "a 2x2 map, valid": ((3, 2, 2, 3), (2, 2), (1, 1), "VALID"),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(shape, size):
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(*size, shape[-1], 4))
    return jnp.asarray(generator.normal(size=shape)), jnp.asarray(kernel)


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_jax_s(case, ours):
    shape, size, strides, padding = CASES[case]
    x, kernel = draw(shape, size)

    @partial(jax.jit, static_argnums=0)
    def pulled(convolve):
        value, pull = jax.vjp(partial(convolve, window_strides=strides, padding=padding), x, kernel)
        return value, pull(jnp.asarray(np.random.default_rng(1).normal(size=value.shape)))

    (found, gradients), (expected, references) = pulled(ours), pulled(JAXS)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients, references, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)


def test_networks_trained_at_once_are_networks_one_by_one():
    x, _ = draw((8, 5, 5, 3), (3, 3))
    kernels = jnp.asarray(np.random.default_rng(2).normal(size=(3, 3, 3, 3, 4)))

    @jax.jit
    def gradient(kernel):
        return jax.grad(lambda k: jnp.sum(IN_TRAINING(x, k, (1, 1), "SAME") ** 2))(kernel)

    at_once = jax.jit(jax.vmap(gradient))(kernels)
    np.testing.assert_allclose(at_once, [gradient(kernel) for kernel in kernels], rtol=1e-10)


@BOTH
@pytest.mark.parametrize("mode", ["forward over reverse", "reverse over reverse"])
def test_second_derivatives_are_jax_s(mode, ours):
    x, kernel = draw((8, 4, 4, 3), (3, 3))
    direction = draw((8, 4, 4, 3), (3, 3))[1]

    def product(convolve):
        slope = jax.grad(lambda k: jnp.sum(convolve(x, k, (1, 1), "SAME") ** 3))
        if mode == "forward over reverse":
            return jax.jvp(slope, (kernel,), (direction,))[1]
        return jax.grad(lambda k: jnp.vdot(slope(k), direction))(kernel)

    np.testing.assert_allclose(product(ours), product(JAXS), rtol=1e-10)


@pytest.mark.parametrize("case", ["3x3", "a 2x2 map"])
def test_outside_training_there_are_forward_derivatives(case):
    shape, size, strides, padding = CASES[case]
    x, kernel = draw(shape, size)
    found, expected = (
        jax.jvp(partial(f, window_strides=strides, padding=padding), (x, kernel), (x, -kernel))[1]
        for f in (OURS, JAXS)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("options", [{"feature_group_count": 3}, {"rhs_dilation": (2, 2)}])
def test_groups_and_dilation_are_left_to_jax(options):
    x, _ = draw((2, 7, 7, 3), (3, 3))
    kernel = jnp.ones((3, 3, 3 // options.get("feature_group_count", 1), 3))
    found, expected = (convolve(x, kernel, (1, 1), "SAME", **options) for convolve in (OURS, JAXS))
    np.testing.assert_array_equal(found, expected)
