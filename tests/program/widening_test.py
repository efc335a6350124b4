"""Programs that compute in short formats, in single precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from llfc_jax.program.widening import in_single_precision, stored_as, widened

X, W = np.float32(np.random.default_rng(0).normal(size=(2, 4, 4)))


def product(w, x):
    return lax.dot(x, w, preferred_element_type=x.dtype)


def scanned(w, x):
    return lax.scan(lambda h, row: (jnp.tanh(h @ w) + row[None], h.sum()), x, x)


def while_loop(w, x):
    return lax.while_loop(lambda h: jnp.abs(h).sum() > 1, lambda h: (h @ w) / 8, x)


def branches(w, x):
    return lax.cond(x.sum() > 0, lambda x: x @ w, lambda x: x * 3, x)


def convolution(w, x):
    return lax.conv(x[None, None], w[None, None], (1, 1), "SAME")


def called_back(w, x):
    return jax.pure_callback(lambda h: h, jax.ShapeDtypeStruct(x.shape, x.dtype), x) @ w


def by_bits(w, x):
    bits = {2: jnp.uint16, 4: jnp.uint32}[x.dtype.itemsize]
    return lax.bitcast_convert_type(lax.bitcast_convert_type(x, bits), x.dtype) @ w


def normalised(w, x):
    return jax.nn.softmax(jax.checkpoint(jax.nn.silu)(x @ w)) + jnp.ones_like(x) / 3


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    "function",
    [product, scanned, while_loop, branches, convolution, called_back, by_bits, normalised],
)
def test_a_program_computes_what_it_would_in_single_precision(function, dtype):
    def short(w, x):
        return function(w.astype(dtype), x.astype(dtype))

    exact = [x.astype(dtype).astype(np.float32) for x in (W, X)]
    wide = in_single_precision(short, *exact)(*exact)
    for own, expected in zip(jax.tree.leaves(wide), jax.tree.leaves(function(*exact)), strict=True):
        assert own.dtype == jnp.float32
        # what is made for one format stays in it
        tolerance = 1e-6 if function not in (called_back, by_bits) else float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(own, expected, rtol=tolerance, atol=tolerance)


def test_rounding_by_another_name_is_left_out():
    wide = in_single_precision(lambda w, x: lax.reduce_precision(x @ w, 8, 7), W, X)
    np.testing.assert_allclose(wide(W, X), X @ W, rtol=1e-6)


def test_a_program_of_long_formats_is_left_alone():
    assert in_single_precision(scanned, W, X) is None


def test_short_arrays_are_widened_and_stored_as_they_were():
    tree = {"short": jnp.ones(2, jnp.bfloat16), "long": jnp.ones(2), "whole": jnp.arange(2)}
    wide = widened(tree)
    assert {name: x.dtype.name for name, x in wide.items()} == {
        "short": "float32",
        "long": "float32",
        "whole": "int32",
    }
    assert wide["long"] is tree["long"]
    assert stored_as(wide, tree)["short"].dtype == jnp.bfloat16
