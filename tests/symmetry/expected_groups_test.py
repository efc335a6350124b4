"""Small networks of many kinds: their group is the derived one, and for some the one found by force."""

import jax
import jax.numpy as jnp
import pytest
from force import order, order_by_force
from grouped_networks import NETWORKS, Small, X
from jax import lax
from planted import some_permutation

from llfc_jax import symmetry
from llfc_jax.symmetry.spec import shape_of_permutation


def spec_of(network):
    return symmetry.permutation_spec(network.apply, network.weights, network.x)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_group_is_the_derived_one(name):
    spec = spec_of(NETWORKS[name])
    found = [shape_of_permutation(spec, permutation) for permutation in spec.sizes]
    assert sorted(found) == sorted(NETWORKS[name].group)


def told_alike(spec):
    return [line for line in symmetry.held_fixed(spec) if line.startswith("alike at all positions")]


def looked_up(w, x, chosen):
    """The units of the expert that each example has chosen."""
    return jnp.tanh(jnp.einsum("nd,ndf->nf", x, w["up"][chosen]))


def read_out(w, hidden, chosen):
    return jnp.einsum("nf,nfo->no", hidden, w["down"][chosen])


def best(w, x):
    return jnp.argmax(x @ w["route"], -1)


def centred(w, x):
    hidden = looked_up(w, x, best(w, x))
    return read_out(w, hidden - hidden.mean(0), best(w, x))


def compared(w, x):
    hidden = looked_up(w, x, best(w, x))
    return (hidden @ hidden.T) @ read_out(w, hidden, best(w, x))


def of_two(w, x):
    chosen, other = best(w, x), jnp.argmin(x @ w["route"], -1)
    return read_out(w, looked_up(w, x, chosen) * looked_up(w, x, other), chosen)


def of_the_best_two(w, x):
    """Parts of one array of positions are of one expert where they are one part."""
    first, second = lax.top_k(x @ w["route"], 2)[1].T
    return read_out(w, looked_up(w, x, first) * looked_up(w, x, second), first)


def by_one_program(w, x):
    """What two calls of one program look up is not of one expert."""
    chosen, other = best(w, x), jnp.argmin(x @ w["route"], -1)
    units = jax.jit(looked_up)
    return read_out(w, units(w, x, chosen) + units(w, x, other), chosen)


def of_the_next(w, x):
    chosen = best(w, x)
    return read_out(w, looked_up(w, x, chosen)[::-1], chosen)


def in_other_groups(w, x):
    sizes, others = jnp.array([5, 7, 4]), jnp.array([6, 6, 4])
    return lax.ragged_dot(jnp.tanh(lax.ragged_dot(x, w["up"], sizes)), w["down"], others)


@pytest.mark.parametrize(
    "apply", [centred, compared, of_two, of_the_best_two, by_one_program, of_the_next, in_other_groups]
)
def test_experts_whose_units_are_mixed_have_one_order_and_it_is_told(apply):
    weights = {"route": jnp.ones((5, 3)), "up": jnp.ones((3, 5, 4)), "down": jnp.ones((3, 4, 2))}
    spec = symmetry.permutation_spec(apply, weights, X)
    assert [size for size in spec.sizes.values() if size == 4] == [4]
    assert not any("/" in name for name in spec.sizes)
    (line,) = told_alike(spec)
    assert line.endswith(": down[1] (4), up[2] (4)")


def test_experts_that_one_layer_reads_have_the_order_of_its_inputs():
    def apply(w, x):
        return looked_up(w, x, best(w, x)) @ w["out"]

    weights = {"route": jnp.ones((5, 3)), "up": jnp.ones((3, 5, 4)), "out": jnp.ones((4, 2))}
    spec = symmetry.permutation_spec(apply, weights, X)
    assert spec.sizes == {"P0": 3, "P1": 4}
    assert not told_alike(spec)


def test_layers_looked_up_in_a_loop_are_told_to_have_one_order():
    def apply(w, x):
        return lax.fori_loop(0, 3, lambda i, h: h + jnp.tanh(h @ w["up"][i]) @ w["down"][i], x)

    weights = {"up": jnp.ones((3, 5, 4)), "down": jnp.ones((3, 4, 5))}
    assert told_alike(symmetry.permutation_spec(apply, weights, X))


@pytest.mark.parametrize("name", ["gpt", "codebook", "sparse autoencoder", "soft mixture"])
def test_nothing_is_told_of_lookups_that_cost_no_symmetry(name):
    assert not told_alike(spec_of(NETWORKS[name]))


@pytest.mark.parametrize(
    "name", ["parallel block", "mixture of the best two", "padded stages", "a loop in a loop", "looped heads"]
)
def test_no_permutation_of_weights_that_keeps_the_function_is_missed(name):
    network = NETWORKS[name]
    told_apart = {f"['{leaf}']": axis for leaf, axis in network.told_apart.items()}
    bound = order_by_force(network.apply, network.weights, (network.x,), told_apart)
    assert order(spec_of(network)) == bound


def test_parts_of_a_loop_that_are_joined_in_another_order_are_told_apart():
    def apply(w, x):
        return jnp.concatenate([jnp.tanh(x @ w["up"][i]) for i in reversed(range(3))], -1) @ w["out"]

    network = Small(apply, {"up": (3, 5, 4), "out": (12, 2)}, X, [])
    spec = spec_of(network)
    assert [*spec.sizes.values()] == [4, 4, 4]
    moved = symmetry.apply_permutation(spec, some_permutation(0, spec), network.weights)
    assert symmetry.check_equivalence(apply, network.weights, moved, X) < 1e-5


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
    """What an expert out of a stack gives, by the router's weight, and more the later it comes."""
    return 0.5**i * jax.nn.softmax(x @ w["router"])[:, i, None] * (jnp.tanh(x @ w["up"][i]) @ w["down"][i])


def in_python(w, x):
    return sum(weighed(w, x, i) for i in range(3))


def scanned(w, x):
    def add(total, expert):
        weight, up, down = expert
        return total / 2 + weight[:, None] * (jnp.tanh(x @ up) @ down), None

    weights = jax.nn.softmax(x @ w["router"]).T
    return lax.scan(add, jnp.zeros_like(x), (weights, w["up"], w["down"]))[0]


@pytest.mark.parametrize(("experts", "cause"), [(in_python, "slice"), (scanned, "scan")])
def test_what_holds_experts_whose_order_counts_in_a_loop_is_told(experts, cause):
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


def test_experts_in_a_list_that_could_be_exchanged_as_wholes_are_told():
    def apply(w, x):
        gates = jax.nn.softmax(x @ w["router"])
        experts = (jnp.tanh(x @ one["up"]) @ one["down"] for one in w["experts"])
        return sum(gates[:, e, None] * expert for e, expert in enumerate(experts))

    expert = {"up": jnp.ones((5, 4)), "down": jnp.ones((4, 2))}
    weights = {"router": jnp.ones((5, 2)), "experts": [expert, expert]}
    spec = symmetry.permutation_spec(apply, weights, X)
    assert [*spec.sizes.values()] == [4, 4]
    assert symmetry.describe(spec).endswith(
        "alike, but not exchanged: experts[0]/down with experts[1]/down; experts[0]/up with experts[1]/up"
    )


@pytest.mark.parametrize("read_beside", ["of one", "in order"])
def test_arrays_whose_exchange_would_show_are_not_told(read_beside):
    def apply(w, x):
        hidden = [jnp.tanh(x @ up) @ w["down"] for up in w["ups"]]
        if read_beside == "of one":
            return sum(hidden), x @ w["ups"][0]
        return jnp.concatenate(hidden, -1)

    weights = {"ups": [jnp.ones((5, 4))] * 2, "down": jnp.ones((4, 2))}
    assert not symmetry.permutation_spec(apply, weights, X).exchangeable
