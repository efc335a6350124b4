"""Convolutions of a program, evaluated for their gradients: against JAX's own, whatever their axes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.program.flat import arguments, flatten, output, run
from llfc_jax.program.gradients import evaluate_for_gradients

RNG = np.random.default_rng(0)
CASES = {
    "plain": ("NHWC", (1, 1), {}),
    "strided": ("NHWC", (2, 2), {}),
    "channels first": ("NCHW", (1, 1), {}),
    "in groups": ("NHWC", (1, 1), {"feature_group_count": 3}),
    "dilated": ("NHWC", (1, 1), {"rhs_dilation": (2, 2)}),
    "in other types": ("NHWC", (1, 1), {"preferred_element_type": jnp.float64}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_curvature_of_a_convolution_is_jax_s(case):
    axes, strides, options = CASES[case]
    x = jnp.asarray(RNG.normal(size=[{"N": 8, "H": 6, "W": 7, "C": 3}[axis] for axis in axes]), jnp.float32)
    inputs = 3 // options.get("feature_group_count", 1)
    kernel, v = (jnp.asarray(RNG.normal(size=(3, 3, inputs, 6)), jnp.float32) for _ in range(2))
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=strides,
        padding="SAME",
        dimension_numbers=(axes, "HWIO", axes),
        **options,
    )
    with jax.enable_x64("in other types" in case):
        flat = flatten(lambda weights, x: convolve(x, weights), kernel, x)

        def evaluated(kernel):
            known = arguments(flat, kernel, x)
            return output(flat, run(flat, known, evaluate=evaluate_for_gradients))

        def curvature(network):
            slope = jax.grad(lambda kernel: jnp.sum(jnp.sin(network(kernel))))
            return jax.jit(lambda v: jax.linearize(slope, kernel)[1](v))(v)

        found, expected = (curvature(network) for network in (evaluated, partial(convolve, x)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
