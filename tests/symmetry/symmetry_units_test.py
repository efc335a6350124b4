"""What the units of a permutation are seen to compute."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import CASES, Case
from grouped_networks import NETWORKS
from planted import some_permutation

from llfc_jax import symmetry
from llfc_jax.errors import UserError
from llfc_jax.symmetry import LeafSpec, PermutationSpec

pytestmark = pytest.mark.slow

SHOWN = ("vit", "depthwise", "groupnorm", "lstm", "loops_and_branches")
LOOKED_UP = ("best two looked up", "gated looked-up experts", "scanned looked-up experts", "ragged experts")
"""Of `grouped_networks`: experts whose units only those examples see that have chosen them."""


def case_of(name):
    if name in SHOWN:
        return CASES[name]()
    small = NETWORKS[name]
    return Case(small.apply, small.weights, (small.x,), {})


def activations(case, spec, variables):
    """Jitted, as it is meant to be used."""
    return jax.jit(lambda v, *x: symmetry.unit_activations(case.apply, v, *x, spec=spec))(
        variables, *case.inputs
    )


@pytest.mark.parametrize("name", [*SHOWN, *LOOKED_UP])
def test_permuting_the_network_permutes_each_unit_and_nothing_else(name):
    case = case_of(name)
    spec = symmetry.permutation_spec(case.apply, case.variables, *case.inputs)
    permutation = some_permutation(0, spec)
    before = activations(case, spec, case.variables)
    permuted = jax.jit(partial(symmetry.apply_permutation, spec))(permutation, case.variables)
    after = activations(case, spec, permuted)
    assert before.keys() == after.keys() == spec.sizes.keys()
    for name, size in spec.sizes.items():
        assert before[name]
        for old, new in zip(before[name], after[name], strict=True):
            outer = symmetry.spec.around(name, spec.sizes)
            assert old.shape[1:] == (*(spec.sizes[other] for other in outer), size)
            assert np.ptp(old) > 0
            moved = jax.jit(partial(symmetry.spec.permuted, perms=(None, *outer, name)))
            expected = moved(old, permutation=permutation)
            np.testing.assert_allclose(new, expected, atol=1e-5 * float(np.abs(old).max()))


def test_units_are_what_the_next_layer_reads_and_positions_count_as_observations():
    rng = np.random.default_rng(0)
    weights = {
        "conv": jax.device_put(np.float32(rng.normal(size=(3, 3, 2, 6)))),
        "hidden": jax.device_put(np.float32(rng.normal(size=(4 * 4 * 6, 5)))),
        "out": jax.device_put(np.float32(rng.normal(size=(5, 3)))),
    }
    x = jax.device_put(np.float32(rng.normal(size=(7, 4, 4, 2))))

    def forward(w, x):
        convolved = jax.lax.conv_general_dilated(
            x, w["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        maps = jax.nn.relu(convolved)
        hidden = jnp.tanh(maps.reshape(len(x), -1) @ w["hidden"])
        return maps, hidden, hidden @ w["out"]

    def apply(w, x):
        return forward(w, x)[-1]

    spec = symmetry.permutation_spec(apply, weights, x)
    spec = PermutationSpec(spec.sizes, dict(reversed(spec.leaves.items())))  # order has no meaning
    maps, hidden, _ = forward(weights, x)
    found = symmetry.unit_activations(apply, weights, x, spec=spec)
    assert {name: len(arrays) for name, arrays in found.items()} == {"P0": 1, "P1": 1}
    np.testing.assert_allclose(found["P0"][0], maps.reshape(-1, 6), rtol=1e-6)
    np.testing.assert_allclose(found["P1"][0], hidden, rtol=1e-6)


def test_a_stream_is_seen_by_each_of_its_readers_once():
    weights = {name: jnp.eye(4) for name in ("in", "read", "gate", "write", "out")}

    def apply(w, x):
        stream = x @ w["in"]
        stream += (jnp.tanh(stream @ w["read"]) * (stream @ w["gate"])) @ w["write"]
        return stream @ w["out"]

    x = jnp.arange(12.0).reshape(3, 4)
    spec = symmetry.permutation_spec(apply, weights, x)
    stream, inner = symmetry.unit_activations(apply, weights, x, spec=spec).values()
    assert len(inner) == 1
    np.testing.assert_allclose(stream[0], x)
    np.testing.assert_allclose(stream[1], x + jnp.tanh(x) * x, rtol=1e-6)
    assert len(stream) == 2


def test_where_nothing_contracts_the_units_their_last_array_is_shown():
    weights, x = {"in": jnp.arange(20.0).reshape(5, 4)}, jnp.ones((3, 5))

    def apply(w, x):
        return jnp.sin(x @ w["in"]).sum(-1)

    spec = symmetry.permutation_spec(apply, weights, x)
    (shown,) = symmetry.unit_activations(apply, weights, x, spec=spec)["P0"]
    np.testing.assert_allclose(shown, jnp.sin(x @ weights["in"]), rtol=1e-6)


def test_heads_are_seen_in_their_attention_pattern_alone():
    case = CASES["fused_attention"]()
    spec = symmetry.permutation_spec(case.apply, case.variables, *case.inputs)
    (heads,) = [name for name, size in spec.sizes.items() if size == 2]
    batch, length = case.inputs[0].shape[:2]
    (pattern,) = activations(case, spec, case.variables)[heads]
    assert pattern.shape == (batch * length * length, 2)
    sums = pattern.reshape(batch, length, length, 2).sum(2)
    np.testing.assert_allclose(sums, jnp.ones_like(sums), rtol=1e-5)


def test_half_precision_units_are_shown_in_single_precision():
    weights, x = (
        {"in": jnp.ones((5, 4), jnp.bfloat16), "out": jnp.ones((4, 2), jnp.bfloat16)},
        jnp.ones((3, 5)),
    )

    def apply(w, x):
        return x.astype(jnp.bfloat16) @ w["in"] @ w["out"]

    spec = symmetry.permutation_spec(apply, weights, x)
    assert symmetry.unit_activations(apply, weights, x, spec=spec)["P0"][0].dtype == jnp.float32


def test_units_of_scanned_layers_are_seen_in_their_iteration():
    rng = np.random.default_rng(0)
    weights = {
        "up": rng.normal(size=(3, 4, 6)),
        "down": rng.normal(size=(3, 6, 4)),
        "out": rng.normal(size=(4, 2)),
    }
    weights = jax.tree.map(jnp.float32, weights)
    x = jax.device_put(np.float32(rng.normal(size=(5, 4))))

    def layer(h, p):
        return h + jnp.tanh(h @ p["up"]) @ p["down"], None

    def apply(w, x):
        return jax.lax.scan(layer, x, {"up": w["up"], "down": w["down"]})[0] @ w["out"]

    spec = symmetry.permutation_spec(apply, weights, x)
    found, h = symmetry.unit_activations(apply, weights, x, spec=spec), x
    assert list(spec.sizes.values()) == [6, 6, 6]
    for (shown,), up, down in zip(found.values(), weights["up"], weights["down"], strict=True):
        np.testing.assert_allclose(shown, jnp.tanh(h @ up), rtol=1e-4, atol=1e-5)
        h, _ = layer(h, {"up": up, "down": down})


@pytest.mark.parametrize(
    "leaves",
    [
        {"['in']": LeafSpec((5, 8), (None, "P0")), "['out']": LeafSpec((8, 3), (None, None))},
        {"['in']": LeafSpec((5, 8), ("P0", None)), "['out']": LeafSpec((8, 3), (None, None))},
        {
            "['in']": LeafSpec((5, 2, 4), (None, None, "P0"), (5, 8)),
            "['out']": LeafSpec((8, 3), (None, None)),
        },
    ],
)
def test_the_spec_of_another_function_is_refused(leaves):
    weights, x = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 3))}, jnp.ones((1, 5))
    sizes = {"P0": next(n for n, p in zip(leaves["['in']"].view, leaves["['in']"].perms, strict=True) if p)}
    with pytest.raises(UserError, match="was not derived from this apply"):
        symmetry.unit_activations(
            lambda w, x: jnp.tanh(x @ w["in"]) @ w["out"], weights, x, spec=PermutationSpec(sizes, leaves)
        )
