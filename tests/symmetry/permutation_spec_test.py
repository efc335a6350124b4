"""The symmetries derived for whole networks: they are symmetries, and they are all that is expected."""

import dataclasses
from collections import Counter

import architectures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import CASES
from planted import some_permutation

from llfc_jax import symmetry
from llfc_jax.matching.leaves import by_path


@pytest.fixture(scope="module", params=CASES)
def case(request):
    case = CASES[request.param]()
    return case._replace(apply=jax.jit(case.apply))


@pytest.fixture(scope="module")
def spec(case):
    return symmetry.permutation_spec(case.apply, case.variables, *case.inputs)


def test_every_model_has_the_expected_permutations(case, spec):
    assert Counter(spec.sizes.values()) == Counter(case.sizes)


@pytest.fixture(scope="module")
def moved(case, spec):
    """The network permuted thrice at random, and by a shift; path -> its array shifted but for one axis."""
    fixed = {
        path: symmetry.LeafSpec(leaf.shape, (None,) * len(leaf.shape)) for path, leaf in spec.leaves.items()
    }
    wrong = {}
    for path, leaf in spec.leaves.items():
        if not any(leaf.perms) or "['key']['bias']" in path:  # softmax is blind to a bias of the keys
            continue
        axis = max(
            range(len(leaf.perms)), key=lambda i: (leaf.perms[i] or "").count("/") + bool(leaf.perms[i])
        )
        perms = (*leaf.perms[:axis], None, *leaf.perms[axis + 1 :])
        leaves = fixed | {path: dataclasses.replace(leaf, perms=perms)}
        wrong[path] = dataclasses.replace(spec, leaves=leaves)

    @jax.jit  # one program for all
    def permute(permutations, shift, variables):
        apply = symmetry.apply_permutation
        return (
            [apply(spec, permutation, variables) for permutation in permutations],
            apply(spec, shift, variables),
            {path: by_path(apply(own, shift, variables))[path] for path, own in wrong.items()},
        )

    shift = {name: np.roll(indices, 1) for name, indices in jax.device_get(symmetry.identity(spec)).items()}
    return permute([some_permutation(seed, spec) for seed in range(3)], shift, case.variables)


def test_random_permutations_leave_the_outputs_unchanged(case, moved):
    for permuted in moved[0]:
        assert symmetry.check_equivalence(case.apply, case.variables, permuted, *case.inputs) < 1e-4


def test_every_moved_axis_has_to_move(case, moved):
    """Leaving out any one axis of any permutation changes the outputs, so the check above has teeth."""
    _, shifted, wrong = moved
    assert symmetry.check_equivalence(case.apply, case.variables, shifted, *case.inputs) < 1e-4
    for path, leaf in wrong.items():
        leaves = by_path(shifted) | {path: leaf}
        permuted = jax.tree.unflatten(jax.tree.structure(shifted), leaves.values())
        error = symmetry.check_equivalence(case.apply, case.variables, permuted, *case.inputs)
        assert error > 1e-4, (path, error)


def test_resnet50_at_full_size_is_read_from_shapes_alone():
    model, x = architectures.ResNet50(), jax.ShapeDtypeStruct((128, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    spec = symmetry.permutation_spec(model.apply, variables, x)
    assert Counter(spec.sizes.values()) == Counter(architectures.bottleneck_sizes(64, model.depths))


def test_flattened_feature_maps_keep_their_block_structure():
    case = CASES["lenet"]()
    spec = symmetry.permutation_spec(case.apply, case.variables, *case.inputs)
    assert spec.leaves["['params']['Dense_0']['kernel']"] == symmetry.LeafSpec(
        view=(4, 4, 16, 24), perms=(None, None, "P1", "P2"), shape=(256, 24)
    )


def test_attention_moves_heads_and_their_inner_axes():
    case = CASES["vit"]()
    spec = symmetry.permutation_spec(case.apply, case.variables, *case.inputs)
    query, key, value, out = (
        spec.leaves[f"['params']['MultiHeadDotProductAttention_0']['{name}']['kernel']"].perms
        for name in ("query", "key", "value", "out")
    )
    stream, heads, inner = query
    assert key == query
    assert value[:2] == (stream, heads)
    assert value[2] not in (inner, None)
    assert out == (heads, value[2], stream)


def test_permutations_are_named_in_the_order_of_the_forward_pass():
    case = CASES["mlp"]()
    spec = symmetry.permutation_spec(case.apply, case.variables, *case.inputs)
    assert list(spec.sizes.items()) == [("P0", 16), ("P1", 12)]


def test_an_array_that_is_never_used_is_fixed():
    weights = {"used": jnp.ones((4, 3)), "unused": jnp.ones((7, 5))}
    spec = symmetry.permutation_spec(lambda w, x: x @ w["used"], weights, jnp.ones((2, 4)))
    assert spec.sizes == {}
    assert spec.leaves["['unused']"] == symmetry.LeafSpec((7, 5), (None, None))


def test_layers_that_share_a_constant_are_not_tied_by_it():
    zeros = jnp.zeros(8)
    weights = [jnp.ones((3, 8)), jnp.ones((8, 8)), jnp.ones((8, 2))]

    def apply(w, x):
        return jnp.maximum(jnp.maximum(x @ w[0], zeros) @ w[1], zeros) @ w[2]

    assert symmetry.permutation_spec(apply, weights, jnp.ones((2, 3))).sizes == {"P0": 8, "P1": 8}


def test_a_model_without_hidden_units_has_no_symmetry():
    spec = symmetry.permutation_spec(lambda w, x: x @ w, jnp.ones((4, 3)), jnp.ones((2, 4)))
    assert spec.sizes == {}
    assert symmetry.random_permutation(jax.random.key(0), spec) == {}
    assert symmetry.describe(spec).startswith("no permutation symmetry")
