"""Small networks of many kinds: their group is the derived one, and for some the one found by force."""

import jax
import jax.numpy as jnp
import pytest
from force import order, order_by_force
from grouped_networks import NETWORKS, Small, X
from jax import lax

from llfc_jax import symmetry
from llfc_jax.symmetry.spec import shape_of_permutation

NOT_FOUND = {"looked-up experts", "ragged experts"}
"""Within each expert the units have an order of their own, which follows a position that is looked up."""


def spec_of(network):
    return symmetry.permutation_spec(network.apply, network.weights, network.x)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True) if name in NOT_FOUND else ())
        for name in NETWORKS
    ],
)
def test_the_group_is_the_derived_one(name):
    spec = spec_of(NETWORKS[name])
    found = [shape_of_permutation(spec, permutation) for permutation in spec.sizes]
    assert sorted(found) == sorted(NETWORKS[name].group)


@pytest.mark.parametrize("name", ["parallel block", "mixture of the best two", "padded stages"])
def test_no_permutation_of_weights_that_keeps_the_function_is_missed(name):
    network = NETWORKS[name]
    told_apart = {f"['{leaf}']": axis for leaf, axis in network.told_apart.items()}
    bound = order_by_force(network.apply, network.weights, (network.x,), told_apart)
    assert order(spec_of(network)) == bound


def test_force_sees_what_a_reader_misses():
    """The sorted channels of an expression that no rule knows: what the reader misses shows as a factor."""

    def apply(w, x):
        h = lax.reduce(x @ w["in"], 1.0, lambda a, b: a * b, (0,))
        return jnp.tanh(h) @ w["out"]

    network = Small(apply, {"in": (5, 4), "out": (4, 2)}, X, [])
    missed = symmetry.PermutationSpec({}, spec_of(network).leaves)
    assert order_by_force(apply, network.weights, (X,), seeds=6) == 24 * order(missed)


OPERATIONS = {
    "approximately the best": (lambda h: lax.approx_max_k(h, 3, reduction_dimension=1)[0], True),
    "approximately the best channels": (lambda h: lax.approx_max_k(h, 8, reduction_dimension=2)[0], False),
    "eigenvalues": (lambda h: jnp.linalg.eigvalsh(jnp.einsum("btc,bsc->bts", h, h))[..., None] * h, True),
    "determinants": (lambda h: jnp.linalg.det(jnp.einsum("btc,bsc->bcts", h, h))[:, None] * h, True),
    "singular vectors": (lambda h: jnp.linalg.svd(h, full_matrices=False)[0] @ h[:, :6], False),
    "random numbers": (lambda h: h + jax.random.normal(jax.random.key(0), (3, 6, 1)), True),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_without_a_rule_carry_what_they_would_be_batched_over(name):
    operation, carries = OPERATIONS[name]
    x = jax.ShapeDtypeStruct((3, 6, 5), jnp.float32)
    weights = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 2))}
    spec = symmetry.permutation_spec(lambda w, x: operation(x @ w["in"]) @ w["out"], weights, x)
    assert list(spec.sizes.values()) == ([8] if carries else [])
