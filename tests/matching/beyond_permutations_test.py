"""Matchers beyond permutations by `align`: planted maps come back, and ladders say what each step gained."""

import json
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import some_permutation
from symmetric_networks import (
    DEEP,
    HEADS,
    SHALLOW,
    X,
    attention,
    hidden,
    layer_norm,
    normal,
    rms_norm,
    stream,
)

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import identity
from llfc_jax.symmetry.balance import balance
from llfc_jax.symmetry.classes import describe_actions
from llfc_jax.symmetry.maps import apply_maps, fold_scales, random_maps, scales_of

KEY = jax.random.key(0)
LABELS = np.arange(len(X)) % 3
BATCHES = [(X, LABELS)]
PLANTED = {
    "scaling": (hidden(jax.nn.relu), SHALLOW, "P0 scaling"),
    "sign": (hidden(jnp.tanh), SHALLOW, "P0 sign"),
    "orthogonal": (stream(rms_norm), DEEP, "P0 orthogonal"),
    "mean-fixing orthogonal": (stream(layer_norm), DEEP, "P0 mean-fixing orthogonal"),
    "invertible": (attention, HEADS, "P0/P1 invertible"),
}


@pytest.fixture(autouse=True, scope="module")
def _ranks_are_promoted():
    """As users' networks do."""
    with jax.numpy_rank_promotion("allow"):
        yield


@cache
def planted(kind):
    """A network, and the same moved by a map of one kind and by permutations."""
    apply, a, name = PLANTED[kind]
    symmetry = llfc_jax.symmetries(apply, a, X)
    still = jax.device_get(identity(symmetry.spec))
    shift = {name: np.roll(indices, 1, -1) for name, indices in still.items()}

    @jax.jit
    def moved(a):
        b = apply_maps(symmetry, random_maps(KEY, symmetry, name), fold_scales(symmetry, a))
        return llfc_jax.apply_permutation(symmetry.spec, shift, b)

    return jax.jit(apply), a, moved(a)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_map_of_each_kind_is_undone(kind):
    apply, a, b = planted(kind)
    found = llfc_jax.align(apply, a, b, BATCHES, method="procrustes_matching")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), found.variables, a)
    assert found.summary["equivalence_error"] < 1e-5
    assert found.permutation is None
    assert found.summary["classes"][0] == "permutation"
    assert kind in found.summary["classes"]
    first, *_, last = [rung["relative"] for rung in found.summary["ladder"]]
    assert last < 1e-3 < first


@pytest.mark.parametrize("method", ["procrustes_matching", "learned_matching"])
def test_networks_stored_in_bfloat16_are_moved_in_single_precision(method):
    """What is handed back is rounded once, and is told by how much that moves outputs."""
    apply, a, b = planted("orthogonal")
    a, b = (jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network) for network in (a, b))
    found = llfc_jax.align(apply, a, b, BATCHES, method=method, options={"epochs": 1})
    for path, leaf in found.variables.items():
        assert leaf.dtype == jnp.bfloat16
        if method == "procrustes_matching":
            np.testing.assert_allclose(np.float32(leaf), np.float32(a[path]), atol=0.02)
    assert 1e-4 < found.summary["equivalence_error"] < 0.02


def test_a_class_that_is_not_asked_for_is_left_alone():
    apply, a, b = planted("orthogonal")
    options = {"classes": ("sign",)}
    found = llfc_jax.align(apply, a, b, BATCHES, method="procrustes_matching", options=options)
    assert found.summary["classes"] == ["permutation", "sign"]
    assert [rung["step"] for rung in found.summary["ladder"]][1:] == ["permutations", "permutations, sign"]
    assert found.summary["ladder"][-1]["relative"] > 0.5


def test_rotations_that_a_scale_forbids_are_left_out_and_told():
    """Of a norm before an embedding that is read at both ends."""

    def apply(w, x):
        x = x @ w["embedding"]
        x = x + jax.nn.gelu(rms_norm(x) @ w["read"]) @ w["write"]
        return (rms_norm(x) * w["scale"]) @ w["embedding"].T

    a = {name: DEEP[name] for name in ("scale", "read", "write")} | {"embedding": DEEP["in"]}
    b = {name: normal(*leaf.shape)[::-1] + 1 * (name == "scale") for name, leaf in a.items()}
    symmetry = llfc_jax.symmetries(apply, a, X)
    assert "P0 orthogonal" in symmetry.actions
    assert "where uniform: scale; no layer takes in scale" in describe_actions(symmetry)
    found = llfc_jax.align(apply, a, b, BATCHES, method="procrustes_matching")
    assert "orthogonal" not in found.summary["classes"]
    with pytest.raises(UserError, match=r"^classes: expected .*; found 'orthogonal'$"):
        llfc_jax.procrustes_matching(KEY, symmetry, a, b, classes=("orthogonal",))

    def loss_fn(w, batch):
        return -jax.nn.log_softmax(apply(w, batch[0]))[jnp.arange(len(X)), batch[1]].mean()

    options = {"loss_fn": loss_fn, "batches": BATCHES, "optimizer": optax.adam(0.6), "start_b": b}
    learned = llfc_jax.learned_matching(KEY, symmetry, a, b, epochs=3, **options).variables
    np.testing.assert_array_equal(learned["embedding"], b["embedding"])


def test_signs_of_scales_that_rotations_need_uniform_are_left_alone():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return {
            name: np.float32(rng.normal(size=leaf.shape) + (name == "scale")) for name, leaf in DEEP.items()
        }

    apply, a, b = stream(rms_norm), drawn(2), drawn(102)
    found = llfc_jax.procrustes_matching(KEY, llfc_jax.symmetries(apply, a, X), a, b)
    assert llfc_jax.check_equivalence(jax.jit(apply), b, found.variables, X) < 1e-5


@pytest.mark.parametrize("method", ["procrustes_matching", "learned_matching"])
def test_a_class_that_the_network_lacks_is_refused(method):
    apply, a, b = planted("scaling")
    expected = r"^classes: expected some of those that the network has \(scaling\); found 'orthogonal'$"
    with pytest.raises(UserError, match=expected):
        llfc_jax.align(apply, a, b, BATCHES, method=method, options={"classes": ("orthogonal",)})


@pytest.fixture(scope="module")
def learned():
    apply, a, _ = PLANTED["scaling"]
    b = {name: normal(*leaf.shape)[::-1] for name, leaf in a.items()}
    options = {"epochs": 20, "learning_rate": 0.03}
    return apply, a, b, llfc_jax.align(apply, a, b, BATCHES, method="learned_matching", options=options)


def test_each_rung_of_a_learned_ladder_is_the_loss_of_a_midpoint(learned):
    apply, a, b, found = learned

    def loss(variables):
        logits = np.float64(jax.jit(apply)(lerp(a, variables, 0.5), X))
        return np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(X)), LABELS])

    ladder = found.summary["ladder"]
    assert [rung["step"] for rung in ladder] == [
        *("as it was", "permutations", "permutations, scaling", "learned")
    ]
    assert ladder[0]["loss"] == pytest.approx(loss(b), rel=1e-4)
    assert ladder[-1]["loss"] == pytest.approx(loss(found.variables), rel=1e-4)
    assert ladder[-1]["loss"] < min(rung["loss"] for rung in ladder[:-1]) - 0.001
    assert found.summary["equivalence_error"] < 1e-5
    assert json.loads(json.dumps(found.summary, allow_nan=False)) == found.summary


def test_a_loss_that_turns_nan_is_null_and_the_best_is_kept(learned):
    apply, a, b, before = learned
    limit = (before.summary["objective"][0] + before.summary["objective"][-1]) / 2

    def breaks(variables, batch):
        logits = apply(variables, batch.images)
        loss = -jax.nn.log_softmax(logits)[jnp.arange(len(X)), batch.labels].mean()
        return jnp.where(loss < limit, jnp.nan, loss)

    options = {"epochs": 40, "learning_rate": 0.03}
    found = llfc_jax.align(apply, a, b, BATCHES, method="learned_matching", loss=breaks, options=options)
    assert found.summary["objective"][-1] is None
    assert not found.summary["converged"]
    assert limit < found.summary["ladder"][-1]["loss"] <= found.summary["objective"][0]
    assert found.summary["equivalence_error"] < 1e-5


def test_labels_are_needed_to_learn():
    apply, a, b = planted("scaling")
    with pytest.raises(UserError, match=r"^batches: expected \(inputs, labels\) or a dict"):
        llfc_jax.align(apply, a, b, [X], method="learned_matching")


def test_canonical_scales_are_those_of_the_smallest_weights_and_of_all_that_scalings_make():
    apply, a, name = PLANTED["scaling"]
    symmetry = llfc_jax.symmetries(apply, a, X)
    moved = apply_maps(symmetry, random_maps(KEY, symmetry, name), a)
    paths = [f"['{path}']" for path in a]
    canonical = [apply_maps(symmetry, balance(symmetry, x, [name], paths), x) for x in (a, moved)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), *canonical)
    coming, going = (np.square(canonical[0][leaf]) for leaf in ("in", "out"))
    bias = np.square(canonical[0]["bias"])
    np.testing.assert_allclose(coming.sum(0) + bias, going.sum(1), rtol=1e-4)


def test_canonical_heads_are_those_of_the_singular_values_of_queries_with_keys():
    apply, a, name = PLANTED["invertible"]
    symmetry = llfc_jax.symmetries(apply, a, X)
    moved = apply_maps(symmetry, random_maps(KEY, symmetry, name), a)
    paths = [f"['{path}']" for path in a]
    for variables in (a, moved):
        own = apply_maps(symmetry, balance(symmetry, variables, [name], paths), variables)
        for head in range(2):
            queries, keys = (np.float64(own[leaf][:, head]) for leaf in "qk")
            np.testing.assert_allclose(queries.T @ queries, keys.T @ keys, atol=1e-4)
            product = np.float64(a["q"][:, head]) @ np.float64(a["k"][:, head]).T
            expected = np.linalg.svd(product, compute_uv=False)[:4]
            np.testing.assert_allclose(np.linalg.eigvalsh(keys.T @ keys)[::-1], expected, rtol=1e-3)


def test_heads_that_nothing_is_read_from_stay_finite_and_keep_the_function():
    apply, a, name = PLANTED["invertible"]
    symmetry = llfc_jax.symmetries(apply, a, X)
    name = name.replace("P1", "P2")
    dead = a | {"o": a["o"].at[0].set(0).at[1, :2].set(0)}
    maps = balance(symmetry, dead, [name], [f"['{path}']" for path in a])
    assert llfc_jax.check_equivalence(apply, dead, apply_maps(symmetry, maps, dead), X) < 1e-4


def test_a_dead_unit_keeps_its_scale():
    apply, a, name = PLANTED["scaling"]
    symmetry = llfc_jax.symmetries(apply, a, X)
    dead = a | {"in": a["in"].at[:, 3].set(0), "bias": a["bias"].at[3].set(0)}
    found = balance(symmetry, dead, [name], [f"['{path}']" for path in a])[name]
    assert found[3] == 1
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_the_line_between_scaled_networks_is_that_of_the_canonical_ones():
    apply, a, b = planted("orthogonal")
    symmetry = llfc_jax.symmetries(apply, a, X)
    found = llfc_jax.procrustes_matching(KEY, symmetry, a, b)
    np.testing.assert_allclose(found.variables["scale"], a["scale"], rtol=1e-5)
    middle = scales_of(symmetry, lerp(*(fold_scales(symmetry, x) for x in (a, found.variables)), 0.5), a)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), middle, lerp(a, found.variables, 0.5)
    )


GROUPED = {"q": (8, 4, 2, 6), "k": (8, 4, 6), "v": (8, 4, 3), "o": (4, 2, 3, 4)}


def grouped_queries(w, x):
    """Two queries for each of four keys, all of length 1: what turns both is no permutation."""

    def unit(x):
        return x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-6)

    q, k = unit(jnp.einsum("nc,cgrd->ngrd", x, w["q"])), unit(jnp.einsum("nc,cgd->ngd", x, w["k"]))
    pattern = jax.nn.softmax(jnp.einsum("ngrd,mgd->grnm", q, k), -1)
    return jnp.einsum("grnm,mgd,grdo->no", pattern, jnp.tanh(jnp.einsum("nc,cgd->ngd", x, w["v"])), w["o"])


def test_heads_are_assigned_by_what_rotations_within_them_make_of_them():
    rng = np.random.default_rng(2)
    a = {name: np.float32(rng.normal(size=shape)) for name, shape in GROUPED.items()}
    x = jax.device_put(np.float32(rng.normal(size=(5, 8))))
    symmetry = llfc_jax.symmetries(grouped_queries, a, x)
    turned, signs = np.linalg.qr(rng.normal(size=(4, 6, 6)))[0], np.sign(rng.normal(size=(4, 3)))
    within = {"P0/P2 orthogonal": np.float32(turned), "P0/P3 sign": np.float32(signs)}
    b = apply_maps(symmetry, some_permutation(2, symmetry.spec) | within, a)
    found = llfc_jax.procrustes_matching(KEY, symmetry, a, b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), found.variables, a)


def fused_attention(w, x):
    """Queries, keys and values of three heads by one matrix, as in GPT-2."""
    q, k, v = (h.reshape(len(x), 3, 4) for h in jnp.split(x @ w["qkv"], 3, -1))
    pattern = jax.nn.softmax(jnp.einsum("nhd,mhd->hnm", q, k), -1)
    return jnp.einsum("hnm,mhd->nhd", pattern, v).reshape(len(x), 12) @ w["o"]


def test_planted_maps_of_heads_whose_queries_keys_and_values_are_of_one_matrix_are_undone():
    rng = np.random.default_rng(0)
    shapes = {"qkv": (5, 36), "o": (12, 4)}
    a = {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}
    symmetry = llfc_jax.symmetries(fused_attention, a, X)
    within = ("P0/P1 invertible", "P0/P2 invertible")
    maps = {name: np.float32(np.eye(4) + 0.2 * rng.normal(size=(3, 4, 4))) for name in within}
    b = apply_maps(symmetry, some_permutation(0, symmetry.spec) | maps, a)
    found = llfc_jax.procrustes_matching(KEY, symmetry, a, b, classes=("invertible",))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), found.variables, a)
    assert llfc_jax.check_equivalence(jax.jit(fused_attention), b, found.variables, X) < 1e-5
