import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import traces
from planted import some_permutation

from llfc_jax.errors import UserError
from llfc_jax.matching import coordinate_descent, weight_matching
from llfc_jax.matching.reference import git_rebasin, inner_product
from llfc_jax.matching.visit import COMPILED, visit_of
from llfc_jax.symmetry import (
    LeafSpec,
    PermutationSpec,
    apply_permutation,
    identity,
    inverse,
    permutation_spec,
)

BLOCKS = 3


def residual_mlp(params, x):
    """A stream that no permutation but one moves, read and written by every block."""
    x = x @ params["in"]
    for block in range(BLOCKS):
        x = x + jax.nn.relu(x @ params[f"read{block}"]) @ params[f"write{block}"]
    return x @ params["out"]


def residual_params(seed, width=16):
    rng = np.random.default_rng(seed)
    shapes = {"in": (8, width), "out": (width, 10)}
    shapes |= {f"{side}{block}": (width, width) for block in range(BLOCKS) for side in ("read", "write")}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def plain_net(params, x):
    """Convolution, flatten, two hidden layers: an axis with factors, biases, a chain of permutations."""
    x = jax.lax.conv_general_dilated(
        x, params["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + params["conv_bias"][None, None, None]).reshape(x.shape[0], -1)
    x = jax.nn.relu(x @ params["dense1"] + params["bias1"][None])
    return jax.nn.relu(x @ params["dense2"]) @ params["dense3"]


def plain_params(seed):
    rng = np.random.default_rng(seed)
    shapes = {
        "conv": (3, 3, 2, 12),
        "conv_bias": (12,),
        "dense1": (4 * 4 * 12, 20),
        "bias1": (20,),
        "dense2": (20, 24),
        "dense3": (24, 5),
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


NETWORKS = {
    "residual": (residual_params, permutation_spec(residual_mlp, residual_params(0), jnp.ones((2, 8)))),
    "plain": (plain_params, permutation_spec(plain_net, plain_params(0), jnp.ones((2, 4, 4, 2)))),
}
EACH_NETWORK = pytest.mark.parametrize("network", NETWORKS)


def published(seed, spec, a, b, start=None):
    return git_rebasin(np.random.default_rng(seed), spec, a, b, start=start, dtype=np.float64)


def noisy_copy(seed, spec, params, noise):
    """B = pi(A) plus noise relative to A's scale, and the permutation that undoes pi."""
    planted = some_permutation(seed, spec)
    rng = np.random.default_rng([seed, 1])
    permuted = apply_permutation(spec, planted, params)
    b = {k: x + noise * params[k].std() * rng.standard_normal(x.shape) for k, x in permuted.items()}
    return {k: jax.device_put(np.float32(x)) for k, x in b.items()}, inverse(planted)


def equal(p, q):
    return all(np.array_equal(p[name], q[name]) for name in q)


@EACH_NETWORK
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_planted_permutation_is_recovered(network, noise):
    make, spec = NETWORKS[network]
    a = make(0)
    b, expected = noisy_copy(1, spec, a, noise)
    permutation, info = weight_matching(jax.random.key(0), spec, a, b)
    assert equal(permutation, expected)
    assert info.converged
    assert all(indices.dtype == jnp.int32 for indices in permutation.values())


def test_no_planted_permutation_is_missed_where_a_single_start_at_the_identity_gets_stuck():
    make, spec = NETWORKS["residual"]
    missed_by_rebasin = missed = 0
    for seed in range(100):
        a = make(seed)
        b, expected = noisy_copy(seed, spec, a, noise=1.0)
        missed_by_rebasin += not equal(published(seed, spec, a, b)[0], expected)
        missed += not equal(weight_matching(jax.random.key(seed), spec, a, b)[0], expected)
    assert missed_by_rebasin >= 5
    assert missed == 0


@EACH_NETWORK
def test_the_objective_is_at_least_that_of_the_published_procedure(network):
    make, spec = NETWORKS[network]
    for seed in range(5):
        a, b = make(seed), make(seed + 100)
        expected = inner_product(spec, a, b, published(seed, spec, a, b)[0])
        _, info = weight_matching(jax.random.key(seed), spec, a, b, restarts=8)
        assert info.objective[-1] >= expected * (1 - 1e-6)


@EACH_NETWORK
def test_the_result_is_a_local_optimum_that_the_published_sweep_cannot_improve(network):
    make, spec = NETWORKS[network]
    a, b = make(0), make(1)
    permutation, info = weight_matching(jax.random.key(0), spec, a, b, restarts=8)
    assert info.converged
    assert published(0, spec, a, b, start=permutation)[1] == 1


@EACH_NETWORK
def test_the_trace_rises_ends_after_the_sweeps_and_is_the_inner_product(network):
    make, spec = NETWORKS[network]
    a, b = make(0), make(1)
    permutation, info = weight_matching(jax.random.key(3), spec, a, b, restarts=8)
    assert info.objective.shape == (101,)
    assert np.all(np.diff(info.objective) >= 0)
    assert np.all(info.objective[info.sweeps :] == info.objective[-1])
    np.testing.assert_allclose(info.objective[-1], inner_product(spec, a, b, permutation), rtol=1e-5)
    assert info.restart_objectives.shape == (8,)
    assert info.objective[-1] == info.restart_objectives.max()


@EACH_NETWORK
def test_a_network_already_matches_itself(network):
    make, spec = NETWORKS[network]
    permutation, info = weight_matching(jax.random.key(0), spec, make(0), make(0))
    assert equal(permutation, identity(spec))
    np.testing.assert_allclose(info.objective[-1], sum(np.sum(x**2) for x in make(0).values()), rtol=1e-5)


@EACH_NETWORK
def test_a_restart_that_ends_at_the_same_permutation_is_not_taken_for_its_rounding(network):
    make, spec = NETWORKS[network]
    for seed in range(5):
        a = make(seed)
        b, expected = noisy_copy(seed, spec, a, noise=0.3)
        _, once = weight_matching(jax.random.key(seed), spec, a, b)
        permutation, info = weight_matching(jax.random.key(seed), spec, a, b, restarts=8)
        assert equal(permutation, expected)
        assert info.sweeps == once.sweeps
        np.testing.assert_array_equal(info.objective, once.objective)
        assert info.objective[-1] == info.restart_objectives.max()


@pytest.mark.parametrize("assignment", ["optax", "scipy"])
def test_every_solver_leads_to_the_same_match(assignment):
    make, spec = NETWORKS["plain"]
    permutation, info = weight_matching(jax.random.key(0), spec, make(0), make(1), assignment=assignment)
    expected, expected_info = weight_matching(jax.random.key(0), spec, make(0), make(1))
    assert equal(permutation, expected)
    np.testing.assert_array_equal(info.objective, expected_info.objective)


def test_a_search_cut_short_says_so():
    make, spec = NETWORKS["plain"]
    _, info = weight_matching(jax.random.key(0), spec, make(0), make(1), max_sweeps=1)
    assert info.sweeps == 1
    assert not info.converged


def test_a_permutation_of_both_axes_of_a_leaf_never_lowers_the_objective():
    spec = PermutationSpec(
        {"p": 12}, {"['in']": LeafSpec((3, 12), (None, "p")), "['square']": LeafSpec((12, 12), ("p", "p"))}
    )
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a, b = ({"in": rng.standard_normal((3, 12)), "square": rng.standard_normal((12, 12))} for _ in "ab")
        permutation, info = weight_matching(jax.random.key(seed), spec, a, b, restarts=4)
        assert info.converged
        assert np.all(np.diff(info.objective) >= 0)
        np.testing.assert_allclose(info.objective[-1], inner_product(spec, a, b, permutation), rtol=1e-5)
        planted, expected = noisy_copy(seed, spec, a, noise=0.3)
        assert equal(weight_matching(jax.random.key(seed), spec, a, planted, restarts=4)[0], expected)


def test_running_statistics_have_no_say_and_may_be_missing():
    make, plain = NETWORKS["plain"]
    leaves = {f"['params']{path}": leaf for path, leaf in plain.leaves.items()}
    name = plain.leaves["['bias1']"].perms[0]
    spec = PermutationSpec(plain.sizes, leaves | {"['batch_stats']['mean']": LeafSpec((20,), (name,))})
    expected, _ = weight_matching(jax.random.key(0), plain, make(0), make(1))
    statistics = [{"batch_stats": {"mean": 1e3 * np.arange(20.0)}}, {"batch_stats": {"mean": np.zeros(20)}}]
    for extra_a, extra_b in [({}, {}), statistics]:
        a, b = {"params": make(0)} | extra_a, {"params": make(1)} | extra_b
        assert equal(weight_matching(jax.random.key(0), spec, a, b)[0], expected)


def test_integer_leaves_have_no_say():
    spec = PermutationSpec({"p": 4}, {"['w']": LeafSpec((4,), ("p",)), "['ids']": LeafSpec((4,), ("p",))})
    a = {"w": jnp.arange(4.0), "ids": jnp.array([9, 0, 0, 0])}
    b = {"w": jnp.arange(4.0), "ids": jnp.array([0, 0, 0, 9])}
    assert equal(weight_matching(jax.random.key(0), spec, a, b)[0], identity(spec))


def test_half_precision_parameters_are_matched_in_single_precision():
    make, spec = NETWORKS["plain"]
    a = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), make(0))
    b = apply_permutation(spec, planted := some_permutation(0, spec), a)
    permutation, info = weight_matching(jax.random.key(0), spec, a, b)
    assert info.objective.dtype == jnp.float32
    assert equal(permutation, inverse(planted))


def test_without_symmetry_nothing_changes():
    spec = PermutationSpec({}, {"['w']": LeafSpec((2, 3), (None, None))})
    permutation, info = weight_matching(
        jax.random.key(0), spec, {"w": np.ones((2, 3))}, {"w": np.ones((2, 3))}
    )
    assert permutation == {}
    assert not info.converged
    assert info.sweeps == 0


@pytest.fixture
def compiled(monkeypatch):
    """Visits as on an accelerator."""
    monkeypatch.setattr(coordinate_descent, "computing", lambda *_: COMPILED)


@EACH_NETWORK
def test_what_is_compiled_finds_what_the_host_finds(network, monkeypatch):
    make, spec = NETWORKS[network]
    for b in (make(1), noisy_copy(1, spec, make(0), 0.5)[0]):
        on_host, found = weight_matching(jax.random.key(0), spec, make(0), b, restarts=3)
        with monkeypatch.context() as patch:
            patch.setattr(coordinate_descent, "computing", lambda *_: COMPILED)
            permutation, info = weight_matching(jax.random.key(0), spec, make(0), b, restarts=3)
        assert equal(permutation, on_host)
        np.testing.assert_allclose(info.restart_objectives, found.restart_objectives, rtol=1e-5)


def test_the_host_compiles_nothing():
    make, spec = NETWORKS["residual"]
    key, a, b = jax.random.key(0), make(0), make(1)
    with traces() as events:
        permutation, _ = weight_matching(key, spec, a, b, restarts=2)
        apply_permutation(spec, permutation, b)
    assert events == []


def test_one_compilation_serves_all_permutations_that_meet_like_arrays_and_all_pairs(compiled):
    make, spec = NETWORKS["residual"]
    assert len(spec.sizes) == BLOCKS + 1
    COMPILED.best.clear_cache()
    weight_matching(jax.random.key(0), spec, make(0), make(1))
    assert COMPILED.best._cache_size() == 2  # of the stream, of the units within a block
    with traces() as events:
        weight_matching(jax.random.key(5), spec, make(6), make(7))
    assert events == []


THIN = PermutationSpec(
    {"p": 512, "q": 512},
    {
        "['w1']": LeafSpec((64, 512), (None, "p")),
        "['w2']": LeafSpec((3, 3, 512, 512), (None, None, "p", "q")),
        "['w3']": LeafSpec((512, 10), ("q", None)),
    },
)
BOTH = 2 * 4 * sum(np.prod(leaf.view) for leaf in THIN.leaves.values())
COST = 4 * 512**2


def test_memory_of_the_host_stays_below_three_times_both_parameter_sets_and_some_cost_matrices():
    a, b = ({path[2:-2]: np.ones(leaf.view, np.float32) for path, leaf in THIN.leaves.items()} for _ in "ab")
    key = jax.random.key(0)
    tracemalloc.start()
    weight_matching(key, THIN, a, b, max_sweeps=2)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most <= 2 * BOTH + 8 * COST


def test_memory_of_a_compiled_visit_stays_below_twice_both_parameter_sets_and_some_cost_matrices():
    leaves = {path: jnp.zeros(leaf.view) for path, leaf in THIN.leaves.items()}
    pieces, arrays = COMPILED.cut_up(THIN, leaves)
    met = visit_of("p", [*THIN.sizes], pieces, arrays, arrays, COMPILED)
    permutation = met.known(identity(THIN))
    memory = COMPILED.bettered.lower(met.visit, permutation, {}, "scipy").compile().memory_analysis()
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes <= 2 * BOTH + 4 * COST


@pytest.mark.parametrize(
    ("change_a", "change_b", "message"),
    [
        ({}, {"bias1": np.zeros(7)}, r"bias1: A and B differ, A has shape \(20,\), B has shape \(7,\)"),
        ({}, {"extra": np.zeros(7)}, r"extra: A and B differ, A has nothing, B has shape \(7,\)"),
        (
            {"bias1": np.zeros(7)},
            {"bias1": np.zeros(7)},
            r"bias1: expected shape \(20,\) by the permutation spec, found shape \(7,\)",
        ),
        (
            {"extra": np.zeros(7)},
            {"extra": np.zeros(7)},
            r"extra: expected nothing by the permutation spec, found shape \(7,\)",
        ),
        ({"dense2": np.full((20, 24), np.nan)}, {}, "dense2: .* NaN or infinity in A"),
        ({}, {"conv_bias": np.full(12, np.inf)}, "conv_bias: .* NaN or infinity in B"),
    ],
)
def test_bad_parameters_are_named(change_a, change_b, message):
    make, spec = NETWORKS["plain"]
    with pytest.raises(UserError, match=message):
        weight_matching(jax.random.key(0), spec, make(0) | change_a, make(1) | change_b)


@pytest.mark.parametrize("options", [{"restarts": 0}, {"max_sweeps": 0}, {"assignment": "greedy"}])
def test_bad_options_are_named(options):
    make, spec = NETWORKS["plain"]
    with pytest.raises(UserError, match=next(iter(options))):
        weight_matching(jax.random.key(0), spec, make(0), make(1), **options)
