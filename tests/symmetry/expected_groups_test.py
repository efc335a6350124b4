"""Small networks of many kinds: their group is the derived one, and for some the one found by force."""

import jax
import jax.numpy as jnp
import pytest
from force import order, order_by_force
from grouped_networks import NETWORKS, Small, X
from jax import lax

from llfc_jax import symmetry
from llfc_jax.symmetry.spec import shape_of_permutation

NOT_FOUND = ("looked-up experts", "ragged experts")
"""Within each expert the units have an order of their own, which follows a position that is looked up.

What moves within what is told by the axes of one array. The result of a lookup has the examples' axis in the
place of the experts'; that example n reads expert c[n] is in the entries of the indices c. To find the group,
a value would have to carry, beside its axes, which indices it was looked up by and along which of its axes
they lie; every rule would have to say whether it keeps these examples apart (elementwise operations and
batches of a product do, sums over examples and products between them don't); two values would be of one
expert only where their indices are the same; and activations of such units, which have no axis of experts,
would have to be shared out by expert for those who match by them. Until then all experts are given one order,
and `describe` says so.
"""


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


def told_alike(spec):
    return [line for line in symmetry.held_fixed(spec) if line.startswith("alike at all positions")]


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_not_found_is_told(name):
    spec = spec_of(NETWORKS[name])
    (line,) = told_alike(spec)
    assert line.endswith(": down[1] (4), up[2] (4)")
    assert "alike at all positions looked up by " in symmetry.describe(spec)


def test_layers_looked_up_in_a_loop_are_told_to_have_one_order():
    def apply(w, x):
        return lax.fori_loop(0, 3, lambda i, h: h + jnp.tanh(h @ w["up"][i]) @ w["down"][i], x)

    weights = {"up": jnp.ones((3, 5, 4)), "down": jnp.ones((3, 4, 5))}
    assert told_alike(symmetry.permutation_spec(apply, weights, X))


@pytest.mark.parametrize("name", ["gpt", "codebook", "sparse autoencoder", "soft mixture"])
def test_nothing_is_told_of_lookups_that_cost_no_symmetry(name):
    assert not told_alike(spec_of(NETWORKS[name]))


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


def weighed(w, x, i):
    """What an expert out of a stack gives, by the router's weight."""
    return jax.nn.softmax(x @ w["router"])[:, i, None] * (jnp.tanh(x @ w["up"][i]) @ w["down"][i])


def in_python(w, x):
    return sum(weighed(w, x, i) for i in range(3))


def scanned(w, x):
    def add(total, expert):
        weight, up, down = expert
        return total + weight[:, None] * (jnp.tanh(x @ up) @ down), None

    weights = jax.nn.softmax(x @ w["router"]).T
    return lax.scan(add, jnp.zeros_like(x), (weights, w["up"], w["down"]))[0]


@pytest.mark.parametrize(("experts", "cause"), [(in_python, "slice"), (scanned, "scan")])
def test_what_holds_experts_that_a_loop_takes_one_by_one_is_told(experts, cause):
    w = {"router": jnp.ones((4, 3)), "up": jnp.ones((3, 4, 5)), "down": jnp.ones((3, 5, 4))}
    spec = symmetry.permutation_spec(experts, w, jnp.ones((2, 4)))
    assert [*spec.sizes.values()] == [5] * 3
    (line,) = (line for line in symmetry.held_fixed(spec) if line.startswith(f"fixed by {cause}"))
    assert line.endswith(": down[0] (3), router[1] (3), up[0] (3)")


def test_what_cuts_one_unit_off_the_others_is_told():
    def apply(w, x):
        return jnp.roll(jnp.tanh(x @ w["in"]), 1, axis=-1) @ w["out"]

    w = {"in": jnp.ones((4, 8)), "out": jnp.ones((8, 3))}
    fixed = symmetry.permutation_spec(apply, w, jnp.ones((2, 4))).fixed
    assert "slice" in fixed["['in']"][1]
    assert "concatenate" in fixed["['out']"][0]
