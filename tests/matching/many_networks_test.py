"""Many networks in one order of units, one permutation for many times: planted ones come back, exactly."""

import jax
import numpy as np
import pytest
from planted import some_permutation

import llfc_jax
from llfc_jax.corrections.repair import repair
from llfc_jax.errors import UserError
from llfc_jax.path.curves import Curve
from llfc_jax.path.examples import masked_batches
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import apply_permutation, compose, identity, inverse

SHAPES = {"in": (6, 12), "bias": (12,), "mid": (12, 10), "mid_bias": (10,), "out": (10, 3)}
X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)


def apply(w, x):
    x = jax.nn.relu(x @ w["in"] + w["bias"][None])
    return jax.nn.relu(x @ w["mid"] + w["mid_bias"][None]) @ w["out"]


def network(seed, noise=None):
    rng = np.random.default_rng(seed)
    drawn = {name: np.float32(rng.normal(size=shape)) for name, shape in SHAPES.items()}
    return drawn if noise is None else jax.tree.map(lambda x, y: x + np.float32(0.3) * y, noise, drawn)


SPEC = llfc_jax.permutation_spec(apply, network(0), X)
KEY = jax.random.key(0)


def assert_equal(x, y):
    jax.tree.map(np.testing.assert_array_equal, x, y)


@pytest.fixture(scope="module", params=[False, True], ids=["exact", "noisy"])
def universe(request):
    """Five copies of one network, noisy or not, in orders of their own; these; and what is found."""
    copies = [network(9) if not request.param else network(seed, network(9)) for seed in range(5)]
    orders = [some_permutation(seed, SPEC) for seed in range(5)]
    networks = [apply_permutation(SPEC, *pair) for pair in zip(orders, copies, strict=True)]
    return copies, orders, networks, llfc_jax.universe_matching(KEY, SPEC, networks)


def test_a_planted_universe_of_five_networks_comes_back(universe):
    copies, orders, networks, found = universe
    assert_equal(found.permutations[0], identity(SPEC))
    for i, own in enumerate(found.permutations):
        assert_equal(compose(own, orders[i]), orders[0])
        assert_equal(apply_permutation(SPEC, own, networks[i]), apply_permutation(SPEC, orders[0], copies[i]))
    assert found.info.converged


def test_around_any_cycle_of_networks_permutations_are_the_identity():
    networks = [network(seed) for seed in range(4)]  # have nothing to do with each other
    found = llfc_jax.universe_matching(KEY, SPEC, networks)
    for i, j, k in ((0, 1, 2), (3, 1, 0), (2, 3, 1)):
        around = compose(found.between(i, k), compose(found.between(k, j), found.between(j, i)))
        assert_equal(around, identity(SPEC))
    assert_equal(found.between(1, 2), inverse(found.between(2, 1)))


def test_the_objective_is_the_sum_over_pairs_and_no_worse_than_matching_all_to_one():
    networks = [network(seed) for seed in range(4)]
    found = llfc_jax.universe_matching(KEY, SPEC, networks)
    to_first = [llfc_jax.weight_matching(KEY, SPEC, networks[0], other)[0] for other in networks[1:]]

    def over_pairs(permutations):
        moved = [apply_permutation(SPEC, *pair) for pair in zip(permutations, networks, strict=True)]
        flat = [np.concatenate([np.float64(leaf).ravel() for leaf in jax.tree.leaves(x)]) for x in moved]
        return sum(flat[i] @ flat[j] for i in range(4) for j in range(i))

    assert (np.diff(found.info.objective) >= 0).all()
    np.testing.assert_allclose(found.info.objective[-1], over_pairs(found.permutations), rtol=1e-5)
    assert over_pairs(found.permutations) > over_pairs([identity(SPEC), *to_first])


def test_one_permutation_is_found_for_a_whole_trajectory():
    """Early on, noise hides it from each pair alone; together they show it."""
    order = some_permutation(3, SPEC)
    base = [network(seed) for seed in range(20)]
    blurred = [jax.tree.map(lambda x, y: x + 3 * y, *(base[i], network(100 + i))) for i in range(20)]
    hidden = [apply_permutation(SPEC, order, x) for x in blurred]
    found, info = llfc_jax.simultaneous_matching(KEY, SPEC, base, hidden)
    assert_equal(found, inverse(order))
    assert info.converged
    alone, _ = llfc_jax.weight_matching(KEY, SPEC, base[0], hidden[0])
    assert any((alone[name] != found[name]).any() for name in SPEC.sizes)


def test_one_pair_at_one_time_is_weight_matching():
    pair = network(1), network(2)
    found, info = llfc_jax.simultaneous_matching(KEY, SPEC, *([x] for x in pair))
    expected, told = llfc_jax.weight_matching(KEY, SPEC, *pair)
    assert_equal(found, expected)
    np.testing.assert_allclose(info.objective, told.objective, rtol=1e-6)


def test_many_networks_are_averaged_by_their_weights():
    networks = [network(seed) for seed in range(3)]
    found = llfc_jax.merge_many(networks, (2, 1, 1))
    jax.tree.map(
        lambda x, a, b, c: np.testing.assert_allclose(x, a / 2 + b / 4 + c / 4, atol=1e-6), found, *networks
    )


def test_repair_of_two_is_that_of_the_path_and_of_one_changes_nothing():
    a, b = network(1), network(2)
    program = llfc_jax.read(apply, a, X[:2])
    correction = repair(program)
    batches = [(X[:32],), (X[32:],)]
    given = {"correction": correction, "program": program, "batches": batches}
    known = correction.statistics(program, Curve(a, b), (0.25,), lambda: masked(batches))
    along = jax.jit(correction.mend)(lerp(a, b, 0.25), known[0.25])
    merged = llfc_jax.merge_many([a, b], (3, 1), **given)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), merged, along)
    alone = llfc_jax.merge_many([a], **given | {"batches": [(X,)]})
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), alone, a)


def masked(batches):
    return masked_batches(batches, labelled=False)


def test_repaired_units_have_the_mean_deviation_of_the_networks():
    networks = [network(seed) for seed in range(3)]
    program = llfc_jax.read(apply, networks[0], X[:2])
    merged = llfc_jax.merge_many(networks, correction=repair(program), program=program, batches=[(X,)])

    def deviation(w):
        return np.std(X @ np.asarray(w["in"]), axis=0)

    wanted = np.mean([deviation(w) for w in networks], axis=0)
    np.testing.assert_allclose(deviation(merged), wanted, rtol=1e-4)
    assert (deviation(llfc_jax.merge_many(networks)) < wanted).all()


def test_what_cannot_be_matched_or_merged_is_refused():
    a = network(0)
    with pytest.raises(UserError, match=r"^networks: expected two at least; found 1$"):
        llfc_jax.universe_matching(KEY, SPEC, [a])
    with pytest.raises(UserError, match=r"^weights: expected 2, one for each network; found 3$"):
        llfc_jax.merge_many([a, a], (1, 1, 1))
    with pytest.raises(UserError, match=r"^networks_a, networks_b: .* found 1 and 2$"):
        llfc_jax.simultaneous_matching(KEY, SPEC, [a], [a, a])
    with pytest.raises(UserError, match=r"^in: expected finite numbers, found NaN or infinity in B$"):
        llfc_jax.universe_matching(KEY, SPEC, [a, a | {"in": np.full_like(a["in"], np.nan)}])
