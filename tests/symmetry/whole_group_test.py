"""Networks whose group is more than products of axes: its sizes by derivation, its elements planted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from planted import some_permutation

from llfc_jax import symmetry
from llfc_jax.matching import activation_matching, weight_matching


class Network(NamedTuple):
    """What it computes, the shapes of its weights, its input, and its group's sizes by permutation."""

    apply: object
    shapes: dict
    x: np.ndarray
    sizes: list


def uniform(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def concatenated(w, x):
    return jnp.concatenate([jnp.tanh(x @ w["a"]), jnp.tanh(x @ w["b"])], -1) @ w["out"]


def densely_connected(w, x):
    h = jnp.tanh(x @ w["in"])
    for name in ("grow0", "grow1"):
        h = jnp.concatenate([h, jax.nn.relu(h @ w[name])], -1)
    return h @ w["out"]


def padded(w, x):
    h = jnp.tanh(x @ w["in"])
    return jax.nn.relu(jnp.pad(h, ((0, 0), (2, 3))) + jnp.sin(h @ w["up"]) @ w["down"]) @ w["out"]


def fused_attention(w, x):
    heads, inner = 3, 4
    x = x @ w["embed"]
    q, k, v = (part.reshape(*x.shape[:2], heads, inner) for part in jnp.split(x @ w["qkv"], 3, -1))
    pattern = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
    return (x + jnp.einsum("bhqk,bkhd->bqhd", pattern, v).reshape(*x.shape[:2], -1) @ w["proj"]) @ w["out"]


def grouped_queries(w, x):
    x = x @ w["embed"]
    q = jnp.einsum("bld,dgrk->blgrk", x, w["q"])
    k, v = (jnp.einsum("bld,dgk->blgk", x, w[name]) for name in "kv")
    pattern = jax.nn.softmax(jnp.einsum("bqgrk,blgk->bgrql", q, k))
    return (x + jnp.einsum("bgrql,blgk,grkd->bqd", pattern, v, w["o"])) @ w["out"]


def rotary_grouped_queries(w, x):
    """A block as Hugging Face's Llama computes it: keys and values are copied to each query of a group."""
    heads, groups, inner, (n, length, _) = 4, 2, 4, x.shape
    angles = jnp.arange(length)[:, None] / 100 ** (jnp.arange(0, inner, 2) / inner)
    angles = jnp.concatenate([angles, angles], -1)[None, None]

    def rotated(z):
        turned = jnp.concatenate([-z[..., inner // 2 :], z[..., : inner // 2]], -1)
        return z * jnp.cos(angles) + turned * jnp.sin(angles)

    def copied(z):
        shape = (n, groups, heads // groups, length, inner)
        return jnp.broadcast_to(z[:, :, None], shape).reshape(n, heads, length, inner)

    x = x @ w["embed"]
    q, k, v = ((x @ w[name]).reshape(n, length, -1, inner).transpose(0, 2, 1, 3) for name in "qkv")
    scores = rotated(q) @ copied(rotated(k)).transpose(0, 1, 3, 2)
    pattern = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9))
    x = x + (pattern @ copied(v)).transpose(0, 2, 1, 3).reshape(n, length, -1) @ w["o"]
    return (x + (jax.nn.silu(x @ w["gate"]) * (x @ w["up"])) @ w["down"]) @ w["out"]


def stacked_keys_and_values(w, x):
    q = (x @ w["q"]) * jnp.cos(jnp.arange(6.0))
    k, v = jnp.einsum("bld,ndh->nblh", x, w["kv"])
    pattern = jax.nn.softmax(jnp.einsum("bqh,bkh->bqk", q, k * jnp.cos(jnp.arange(6.0))))
    return (pattern @ v) @ w["out"]


def scanned(w, x):
    def layer(h, p):
        return h + jax.nn.relu(h @ p[0]) @ p[1], None

    return lax.scan(layer, x @ w["in"], (w["up"], w["down"]))[0] @ w["out"]


def mixture(w, x):
    h = x @ w["in"]
    values, chosen = lax.top_k(jax.nn.softmax(h @ w["route"]), 2)
    gates = (jax.nn.one_hot(chosen, 4) * values[..., None]).sum(-2)
    hidden = jax.nn.gelu(jnp.einsum("nd,edf->nef", h, w["up"]))
    return (h + jnp.einsum("ne,nef,efd->nd", gates, hidden, w["down"])) @ w["out"]


def grouped_norm(w, x):
    h = (x @ w["in"]).reshape(-1, 3, 4)
    h = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 0.1)
    return jax.nn.softplus(h.reshape(-1, 12) * w["scale"]) @ w["out"]


def deep_experts(w, x):
    h = jnp.tanh(jnp.einsum("nd,edf->nef", x, w["first"]))
    h = jnp.tanh(jnp.einsum("nef,efg->neg", h, w["second"]))
    return jnp.einsum("neg,egk->nk", h, w["third"])


def interleaved(w, x):
    h = jnp.tanh(x @ w["in"])
    return jnp.sin(h[:, ::2]) @ w["even"] + jnp.cos(h[:, 1::2]) @ w["odd"]


def complex_recurrence(w, x):
    return (lax.complex(x, x**2) @ w["in"] * jnp.exp(w["decay"])).real @ w["out"]


X, SEQUENCE = uniform(32, 6), uniform(4, 5, 6)
NETWORKS = {
    "concatenated": Network(concatenated, {"a": (6, 4), "b": (6, 7), "out": (11, 3)}, X, [4, 7]),
    "densely connected": Network(
        densely_connected, {"in": (6, 8), "grow0": (8, 5), "grow1": (13, 3), "out": (16, 2)}, X, [3, 5, 8]
    ),
    "padded": Network(padded, {"in": (6, 7), "up": (7, 9), "down": (9, 12), "out": (12, 3)}, X, [5, 7, 9]),
    "fused attention": Network(
        fused_attention,
        {"embed": (6, 10), "qkv": (10, 36), "proj": (12, 10), "out": (10, 3)},
        SEQUENCE,
        [3, 4, 4, 10],
    ),
    "grouped queries": Network(
        grouped_queries,
        {
            "embed": (6, 10),
            "q": (10, 3, 2, 4),
            "k": (10, 3, 4),
            "v": (10, 3, 4),
            "o": (3, 2, 4, 10),
            "out": (10, 3),
        },
        SEQUENCE,
        [2, 3, 4, 4, 10],
    ),
    "rotary grouped queries": Network(
        rotary_grouped_queries,
        {
            "embed": (6, 10),
            "q": (10, 16),
            "k": (10, 8),
            "v": (10, 8),
            "o": (16, 10),
            "gate": (10, 7),
            "up": (10, 7),
            "down": (7, 10),
            "out": (10, 3),
        },
        SEQUENCE,
        [2, 2, 4, 7, 10],
    ),
    "stacked keys and values": Network(
        stacked_keys_and_values, {"q": (6, 6), "kv": (2, 6, 6), "out": (6, 3)}, SEQUENCE, [6]
    ),
    "scanned": Network(
        scanned, {"in": (6, 8), "up": (3, 8, 5), "down": (3, 5, 8), "out": (8, 2)}, X, [5, 5, 5, 8]
    ),
    "mixture": Network(
        mixture,
        {"in": (6, 8), "route": (8, 4), "up": (4, 8, 5), "down": (4, 5, 8), "out": (8, 2)},
        X,
        [4, 5, 8],
    ),
    "grouped norm": Network(grouped_norm, {"in": (6, 12), "scale": (12,), "out": (12, 3)}, X, [3, 4]),
    "deep experts": Network(
        deep_experts, {"first": (3, 6, 5), "second": (3, 5, 4), "third": (3, 4, 2)}, X, [3, 4, 5]
    ),
    "interleaved": Network(interleaved, {"in": (6, 10), "even": (5, 3), "odd": (5, 3)}, X, [5, 5]),
    "complex": Network(complex_recurrence, {"in": (6, 9), "decay": (9,), "out": (9, 2)}, X, [9]),
}


def weights(network, name):
    rng = np.random.default_rng(0)
    drawn = {key: rng.normal(size=shape) / np.sqrt(shape[0]) for key, shape in network.shapes.items()}
    if name == "complex":
        drawn |= {key: drawn[key] + 1j * rng.normal(size=drawn[key].shape) for key in ("in", "decay")}
    kinds = {key: np.complex64 if np.iscomplexobj(x) else np.float32 for key, x in drawn.items()}
    return {key: jax.device_put(x.astype(kinds[key])) for key, x in drawn.items()}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    network = NETWORKS[request.param]
    w = weights(network, request.param)
    return network, w, symmetry.permutation_spec(network.apply, w, network.x)


def test_the_group_is_the_derived_one(case):
    network, _, spec = case
    assert sorted(spec.sizes.values()) == network.sizes


def test_a_planted_element_is_a_symmetry_and_is_recovered(case):
    network, w, spec = case
    planted = some_permutation(3, spec)
    permuted = symmetry.apply_permutation(spec, planted, w)
    assert symmetry.check_equivalence(jax.jit(network.apply), w, permuted, network.x) < 1e-4
    found, info = weight_matching(jax.random.key(0), spec, w, permuted, restarts=5)
    aligned = symmetry.apply_permutation(spec, found, permuted)
    jax.tree.map(np.testing.assert_array_equal, aligned, w)
    assert info.converged


def test_rotary_dimensions_stay_in_each_head():
    network = NETWORKS["rotary grouped queries"]
    w = weights(network, "rotary grouped queries")
    spec = symmetry.permutation_spec(network.apply, w, network.x)
    width, group, query = spec.leaves["['q']"].perms[:3]
    assert spec.leaves["['q']"] == symmetry.LeafSpec((10, 2, 2, 4), (width, group, query, None), (10, 16))
    assert spec.leaves["['k']"] == symmetry.LeafSpec((10, 2, 4), (width, group, None), (10, 8))
    assert query.startswith(f"{group}/")


def test_what_meets_itself_shifted_is_fixed_and_not_cut_without_end():
    def apply(w, x):
        h = jnp.tanh(jnp.einsum("nd,dab->nab", x, w["in"]))
        return jnp.einsum("nab,abk->nk", jnp.tanh(h + jnp.roll(h, 1, -1)), w["out"])

    w = {"in": jnp.ones((6, 5, 32)), "out": jnp.ones((5, 32, 2))}
    spec = symmetry.permutation_spec(apply, w, X)
    assert spec.sizes == {"P0": 5}
    assert "fixed by too many parts in add (whole_group_test.py:" in symmetry.describe(spec)


def test_inverse_and_composition_hold_for_what_moves_within_another():
    network = NETWORKS["grouped queries"]
    w = weights(network, "grouped queries")
    spec = symmetry.permutation_spec(network.apply, w, network.x)
    p, q = (some_permutation(seed, spec) for seed in (0, 1))
    assert max(indices.ndim for indices in p.values()) == 2
    once = symmetry.apply_permutation(spec, p, w)
    twice = symmetry.apply_permutation(spec, p, symmetry.apply_permutation(spec, q, w))
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, symmetry.apply_permutation(spec, symmetry.inverse(p), once), w)
    jax.tree.map(equal, symmetry.apply_permutation(spec, symmetry.compose(p, q), w), twice)


@pytest.mark.parametrize("name", ["scanned", "grouped norm", "deep experts", "concatenated"])
def test_activations_recover_a_planted_element(name):
    network = NETWORKS[name]
    w = weights(network, name)
    spec = symmetry.permutation_spec(network.apply, w, network.x)
    permuted = symmetry.apply_permutation(spec, some_permutation(3, spec), w)
    found, _ = activation_matching(
        jax.random.key(0), spec, w, permuted, apply=network.apply, batches=[network.x]
    )
    jax.tree.map(np.testing.assert_array_equal, symmetry.apply_permutation(spec, found, permuted), w)


def test_what_holds_an_axis_fixed_is_named_with_its_line():
    def apply(w, x):
        return (jnp.cumsum(x @ w["in"], -1)) @ w["out"]

    w = {"in": jnp.ones((6, 9)), "out": jnp.ones((9, 2))}
    described = symmetry.describe(symmetry.permutation_spec(apply, w, X))
    assert "fixed by cumsum (whole_group_test.py:" in described
    assert "in[1] (9), out[0] (9)" in described
    _, info = weight_matching(jax.random.key(0), symmetry.permutation_spec(apply, w, X), w, w)
    assert not info.converged
    assert any("cumsum" in line for line in info.fixed)
