"""Permutations as a group that acts on parameters; descriptions; what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import symmetry
from llfc_jax.errors import UserError
from llfc_jax.symmetry import LeafSpec, PermutationSpec

SPEC = PermutationSpec(
    sizes={"P0": 5, "P1": 4},
    leaves={
        "['params']['dense']": LeafSpec((3, 4, 5), (None, "P1", "P0"), shape=(12, 5)),
        "['params']['norm']": LeafSpec((5,), ("P0",)),
        "['params']['square']": LeafSpec((5, 5), ("P0", "P0")),
        "['step']": LeafSpec((), ()),
    },
)


@pytest.fixture
def variables():
    rng = np.random.default_rng(0)
    shapes = {"dense": (12, 5), "norm": (5,), "square": (5, 5)}
    return {"params": {name: jnp.asarray(rng.normal(size=s)) for name, s in shapes.items()}, "step": 3}


@pytest.fixture
def permutation():
    return symmetry.random_permutation(jax.random.key(0), SPEC)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_each_axis_is_indexed_by_its_permutation(variables, permutation):
    permuted = symmetry.apply_permutation(SPEC, permutation, variables)
    p0, p1 = (np.asarray(permutation[name]) for name in ("P0", "P1"))
    dense, square = (np.asarray(variables["params"][name]) for name in ("dense", "square"))
    expected = dense.reshape(3, 4, 5)[:, p1][:, :, p0].reshape(12, 5)
    np.testing.assert_array_equal(permuted["params"]["dense"], expected)
    np.testing.assert_array_equal(permuted["params"]["square"], square[np.ix_(p0, p0)])
    assert permuted["step"] == 3


def test_random_permutations_are_bijections_and_follow_the_key(permutation):
    for name, size in SPEC.sizes.items():
        assert permutation[name].dtype == jnp.int32
        assert sorted(permutation[name].tolist()) == list(range(size))
    assert_equal(permutation, symmetry.random_permutation(jax.random.key(0), SPEC))
    others = [symmetry.random_permutation(jax.random.key(seed), SPEC) for seed in range(1, 4)]
    assert any(other["P0"].tolist() != permutation["P0"].tolist() for other in others)


def test_identity_moves_nothing(variables):
    assert_equal(symmetry.apply_permutation(SPEC, symmetry.identity(SPEC), variables), variables)


def test_inverse_undoes(variables, permutation):
    permuted = symmetry.apply_permutation(SPEC, permutation, variables)
    assert_equal(symmetry.apply_permutation(SPEC, symmetry.inverse(permutation), permuted), variables)
    assert_equal(symmetry.compose(permutation, symmetry.inverse(permutation)), symmetry.identity(SPEC))


def test_composition_is_application_in_turn(variables, permutation):
    other = symmetry.random_permutation(jax.random.key(1), SPEC)
    in_turn = symmetry.apply_permutation(
        SPEC, permutation, symmetry.apply_permutation(SPEC, other, variables)
    )
    assert_equal(symmetry.apply_permutation(SPEC, symmetry.compose(permutation, other), variables), in_turn)


def test_jit_with_a_static_spec_and_vmap_over_permutations(variables):
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(symmetry.random_permutation, (0, None))(keys, SPEC)
    apply = jax.jit(symmetry.apply_permutation, static_argnums=0)
    batch = jax.vmap(lambda p: apply(SPEC, p, variables))(many)
    for i in range(3):
        single = symmetry.apply_permutation(SPEC, {name: p[i] for name, p in many.items()}, variables)
        assert_equal(jax.tree.map(lambda leaf: leaf[i], batch), single)  # noqa: B023


def test_equal_specs_hash_alike_whatever_their_order():
    reordered = PermutationSpec(dict(reversed(SPEC.sizes.items())), dict(reversed(SPEC.leaves.items())))
    assert reordered == SPEC
    assert hash(reordered) == hash(SPEC)


def test_description_names_sizes_axes_and_factors():
    assert symmetry.describe(SPEC).splitlines() == [
        "2 permutations",
        "P0 (5): params/dense[1], params/norm[0], params/square[0], params/square[1]",
        "P1 (4): params/dense[0:3·(4)]",
    ]


def test_description_of_no_symmetry():
    assert symmetry.describe(PermutationSpec({}, {})) == "no permutation symmetry: every axis is fixed"


def test_other_shapes_are_refused(variables, permutation):
    variables["params"]["norm"] = jnp.zeros(6)
    with pytest.raises(
        UserError, match=r"^params/norm: expected shape \(5,\) by the permutation spec, found shape \(6,\)$"
    ):
        symmetry.apply_permutation(SPEC, permutation, variables)


def test_a_missing_array_is_refused(variables, permutation):
    del variables["params"]["square"]
    with pytest.raises(UserError, match=r"^params/square: expected shape \(5, 5\) .*, found nothing$"):
        symmetry.apply_permutation(SPEC, permutation, variables)


def test_an_array_too_many_is_refused(variables, permutation):
    variables["batch_stats"] = {"mean": jnp.zeros(5)}
    with pytest.raises(UserError, match=r"^batch_stats/mean: expected nothing .*, found shape \(5,\)$"):
        symmetry.apply_permutation(SPEC, permutation, variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P1": jnp.arange(5)}, r"^permutation P1: expected shape \(4,\) .*, found shape \(5,\)$"),
        ({"P2": jnp.arange(5)}, r"^permutation P2: expected nothing .*, found shape \(5,\)$"),
    ],
)
def test_a_permutation_that_does_not_fit_is_refused(variables, permutation, change, message):
    with pytest.raises(UserError, match=message):
        symmetry.apply_permutation(SPEC, permutation | change, variables)
