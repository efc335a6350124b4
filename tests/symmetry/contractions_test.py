"""Layers as matrices: their product is the layer's own result, and permutations move them as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.program.flat import arguments, flatten, run
from llfc_jax.symmetry import permutation_spec
from llfc_jax.symmetry.contractions import contractions, entry_matrices

NHWC = ("NHWC", "HWIO", "NHWC")


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def convolved(w, x, groups=1):
    return jax.lax.conv_general_dilated(
        x, w, (2, 1), "SAME", dimension_numbers=NHWC, feature_group_count=groups
    )


LAYERS = {
    "dense": (lambda w, x: x @ w, normal(4, 3), normal(5, 4)),
    "weight first": (lambda w, x: w @ x.T, normal(3, 4), normal(5, 4)),
    "heads": (lambda w, x: jnp.einsum("nhd,hde->nhe", x, w), normal(2, 4, 3), normal(5, 2, 4)),
    "into heads": (lambda w, x: jnp.einsum("nd,dhe->nhe", x, w), normal(4, 2, 3), normal(5, 4)),
    "convolution": (convolved, normal(3, 2, 4, 6), normal(2, 5, 5, 4)),
    "groups": (lambda w, x: convolved(w, x, 2), normal(3, 3, 2, 6), normal(2, 5, 5, 4)),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_product_of_the_matrices_is_the_layer(layer):
    apply, weight, x = LAYERS[layer]
    variables = {"w": weight}
    both = lambda w, x: apply(w["w"], x)  # noqa: E731
    flat = flatten(both, variables, x)
    (found,) = contractions(flat, variables, permutation_spec(both, variables, x))
    entries = entry_matrices(flat, found, run(flat, arguments(flat, variables, x)))
    matrices = found.matrices(jnp.asarray(weight))
    np.testing.assert_array_equal(found.weight_of(matrices), weight)
    product = np.einsum("bri,boi->bor", matrices, entries)
    expected = np.asarray(both(variables, x))
    np.testing.assert_allclose(np.sort(product.ravel()), np.sort(expected.ravel()), atol=1e-5)


def test_what_moves_a_layer_is_told_by_its_outputs_and_its_inputs():
    weights = {"first": normal(4, 8), "second": normal(8, 6), "last": normal(6, 3)}

    def apply(w, x):
        return jnp.tanh(jnp.tanh(x @ w["first"]) @ w["second"]) @ w["last"]

    x = normal(2, 4)
    _, second, _ = contractions(flatten(apply, weights, x), weights, permutation_spec(apply, weights, x))
    assert second.leaf.perms == ("P0", "P1")
    assert second.moved_along("rows").perms == (None, "P1")
    assert second.moved_along("columns").perms == ("P0", None)


def test_a_spec_of_another_model_is_refused():
    weights = {"first": normal(4, 4), "last": normal(4, 4)}
    spec = permutation_spec(lambda w, x: jnp.tanh(x @ w["first"]) @ w["last"], weights, normal(2, 4))
    other = flatten(lambda w, x: x @ w["first"] + x @ w["last"], weights, normal(2, 4))
    with pytest.raises(UserError, match="the permutation spec was not derived from this apply"):
        contractions(other, weights, spec)
