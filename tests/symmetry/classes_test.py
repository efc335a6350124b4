"""Symmetries beyond permutations: which a network has, by derivation, and that its outputs stay."""

import grouped_networks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from symmetric_networks import (
    DEEP,
    GATED,
    HEADS,
    SHALLOW,
    WIDTH,
    X,
    attention,
    hidden,
    layer_norm,
    normal,
    rms_norm,
    stream,
)

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.symmetry import check_equivalence
from llfc_jax.symmetry.classes import describe_actions, symmetries
from llfc_jax.symmetry.maps import (
    apply_maps,
    fold_scales,
    inverse_maps,
    nearest_rotation,
    random_maps,
    shape_of_map,
)

KEY = jax.random.key(0)


def scanned(w, x):
    """Blocks that are scanned over, each with a norm's scale of its own."""

    def block(x, own):
        return x + jax.nn.gelu((rms_norm(x) * own["scale"]) @ own["read"]) @ own["write"], None

    layers = {name: w[name] for name in ("scale", "read", "write")}
    return rms_norm(jax.lax.scan(block, x @ w["in"], layers)[0]) @ w["out"]


STACKED = {
    **{"in": normal(5, WIDTH), "scale": 1 + normal(2, WIDTH) / 4, "read": normal(2, WIDTH, 9)},
    **{"write": normal(2, 9, WIDTH), "out": normal(WIDTH, 3)},
}
SCALE = ["P0 scaling (8): bias[0]^1, in[1]^1, out[0]^-1"]
SIGN = ["P0 sign (8): bias[0], in[1], out[0]"]
FOLDED = "P0 {}orthogonal (8): in[1], out[0], read[0], write[1]; where uniform: scale"
NETWORKS = {
    "relu": (hidden(jax.nn.relu), SHALLOW, SCALE),
    "leaky relu": (hidden(jax.nn.leaky_relu), SHALLOW, SCALE),
    "absolute value": (hidden(abs), SHALLOW, [*SCALE, "P0 sign (8): bias[0], in[1]"]),
    "tanh": (hidden(jnp.tanh), SHALLOW, SIGN),
    "sine": (hidden(jnp.sin), SHALLOW, SIGN),
    "gelu": (hidden(jax.nn.gelu), SHALLOW, []),
    "silu": (hidden(jax.nn.silu), SHALLOW, []),
    "softmax": (hidden(lambda x: jax.nn.softmax(x, -1)), SHALLOW, []),
    "square": (
        hidden(jnp.square),
        SHALLOW,
        ["P0 scaling (8): bias[0]^1, in[1]^1, out[0]^-2", "P0 sign (8): bias[0], in[1]"],
    ),
    "linear": (hidden(lambda x: x), SHALLOW, ["P0 invertible (8): bias[0]^1, in[1]^1, out[0]^-1"]),
    "gated": (
        lambda w, x: (jax.nn.silu(x @ w["gate"]) * (x @ w["in"])) @ w["out"],
        GATED,
        ["P0 scaling (8): in[1]^1, out[0]^-1", "P0 sign (8): in[1], out[0]"],
    ),
    "RMS norm": (
        stream(rms_norm),
        DEEP,
        [FOLDED.format(""), "P0 scaling (8): read[0]^1, scale[0]^-1", "P0 sign (8): read[0], scale[0]"],
    ),
    "layer norm": (
        stream(layer_norm),
        DEEP,
        [
            FOLDED.format("mean-fixing "),
            "P0 scaling (8): read[0]^1, scale[0]^-1",
            "P0 sign (8): read[0], scale[0]",
        ],
    ),
    "scanned norms": (
        scanned,
        STACKED,
        [
            FOLDED.format("").replace("write[1]", "write[2]").replace("read[0]", "read[1]"),
            "P0 scaling (8): read[1:2][1]^1, scale[1:2][1]^-1",
            "P0 scaling 2 (8): read[0:1][1]^1, scale[0:1][1]^-1",
            "P0 sign (8): read[1:2][1], scale[1:2][1]",
            "P0 sign 2 (8): read[0:1][1], scale[0:1][1]",
        ],
    ),
    "normalised once": (lambda w, x: rms_norm(x @ w["in"]), {"in": normal(5, WIDTH)}, []),
    "attention": (
        attention,
        HEADS,
        [
            "P0 scaling (2): o[0]^1, v[1]^-1",
            "P0 scaling 2 (2): k[1]^1, q[1]^-1",
            "P0 sign (2): o[0], v[1]",
            "P0 sign 2 (2): k[1], q[1]",
            "P0/P1 invertible (4 in each of 2): k[2]^1, q[2]^-1",
            "P0/P2 invertible (4 in each of 2): o[1]^1, v[2]^-1",
        ],
    ),
}
EACH = pytest.mark.parametrize("network", NETWORKS)


def some_map(rng, symmetry, name):
    """Drawn by NumPy, from what is known of each kind: JAX compiles random numbers for long."""
    normal, kind = rng.normal(size=shape_of_map(symmetry, name)), symmetry[name].kind
    size = normal.shape[-1]
    match kind:
        case "scaling":
            return np.float32(np.exp(normal / 2))
        case "sign":
            return np.float32(np.sign(normal))
        case "invertible":
            return np.float32(np.eye(size) + 0.3 * normal / np.sqrt(size))
        case "orthogonal":
            return np.float32(np.linalg.qr(normal)[0])
        case "mean-fixing orthogonal":
            fixed = np.linalg.qr(np.c_[np.ones(size), normal[:, 1:]])[0]
            turned = scipy.linalg.block_diag(1, np.linalg.qr(normal[1:, 1:])[0])
            return np.float32(fixed @ turned @ fixed.T)
    return random_maps(KEY, symmetry, name)[name]  # pairs


def moved_by_each(symmetry, weights):
    """Action -> the network, its scales folded, moved by some map of that action; one program for all."""
    rng = np.random.default_rng(0)
    maps = {name: some_map(rng, symmetry, name) for name in symmetry.actions}

    @jax.jit
    def moved(maps, weights):
        folded = fold_scales(symmetry, weights)
        return {name: apply_maps(symmetry, {name: one}, folded) for name, one in maps.items()}

    return moved(maps, weights)


@EACH
def test_the_maps_of_each_group_are_those_that_its_operations_allow(network):
    apply, weights, expected = NETWORKS[network]
    described = describe_actions(symmetries(apply, weights, X))
    assert sorted(described.splitlines()) == sorted(expected or ["no symmetry beyond permutations"])


CHANGING = {
    "a mask": lambda h: jnp.where(jnp.tril(jnp.ones((6, 6), bool))[:, :WIDTH].any(1)[:, None], h, -1.0),
    "choosing between constants": lambda h: jnp.where(h > 0, jnp.ones_like(h), jnp.zeros_like(h)),
    "choosing zero": lambda h: jnp.where(h > 0, h, jnp.zeros_like(h)),
    "the larger of it and zeros": lambda h: jnp.maximum(h, jnp.zeros_like(h)),
    "ones beside it": lambda h: jnp.concatenate([jnp.ones_like(h), h]),
    "constants beside it": lambda h: jnp.concatenate([np.ones((2, WIDTH), np.float32), h]),
    "zeros beside it": lambda h: jnp.concatenate([jnp.zeros_like(h), h]),
    "its squares beside it": lambda h: jnp.concatenate([jnp.square(h), h]).sum(1, keepdims=True) * h[:1],
    "filled up": lambda h: jnp.pad(h, ((1, 2), (0, 0)), constant_values=1.0),
    "rolled": lambda h: jnp.roll(h, 1, axis=0) + h,
}
"""Functions of hidden units that set constants beside them."""


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("through", ["linear", "relu", "norm"])
def test_no_map_is_claimed_that_constants_beside_the_units_forbid(name, through):
    before = {"linear": lambda h: h, "relu": jax.nn.relu, "norm": rms_norm}[through]

    def apply(w, x):
        h = before(x @ w["in"] + w["bias"])
        h = before(CHANGING[name](h))
        return jnp.tanh(h @ w["out"]).sum(0)

    symmetry = symmetries(apply, SHALLOW, X)
    for action, moved in moved_by_each(symmetry, SHALLOW).items():
        assert check_equivalence(jax.jit(apply), SHALLOW, moved, X) < 1e-5, action


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", ["relu", "RMS norm", "layer norm", "attention", "scanned norms"])
def test_networks_that_compute_in_short_formats_have_all_maps(name, dtype):
    exact, weights, expected = NETWORKS[name]

    def short(w, x):
        w = jax.tree.map(lambda leaf: leaf.astype(dtype), w)
        return exact(w, x.astype(dtype)).astype(jnp.float32)

    symmetry = symmetries(short, weights, X)
    assert sorted(describe_actions(symmetry).splitlines()) == sorted(expected)
    for action, moved in moved_by_each(symmetry, weights).items():
        assert check_equivalence(short, weights, moved, X) < 1e-5, action


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_arrays_that_are_stored_in_short_formats_stay_so(dtype):
    weights = jax.tree.map(lambda leaf: leaf.astype(dtype), DEEP)
    symmetry = symmetries(stream(rms_norm), weights, X.astype(dtype))
    for moved in moved_by_each(symmetry, weights).values():
        assert {leaf.dtype for leaf in moved.values()} == {jnp.dtype(dtype)}
        error = check_equivalence(stream(rms_norm), weights, moved, X.astype(dtype))
        assert error < 4 * jnp.finfo(dtype).eps


CUT_AND_LOOKED_UP = [
    *(
        "scanned transformer",
        "gpt",
        "heads-first fused attention",
        "parallel block",
        "looked-up experts",
        "sparse autoencoder",
    ),
    *("selective state space", "looped experts", "looped heads", "a loop in a loop", "scanned sum"),
]
"""Of `grouped_networks`: groups are pieces of one axis, of scanned layers, or chosen by position."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in CUT_AND_LOOKED_UP else pytest.mark.slow)
        for name in grouped_networks.NETWORKS
    ],
)
def test_every_map_claimed_of_any_network_leaves_its_outputs(name):
    network = grouped_networks.NETWORKS[name]
    symmetry = symmetries(network.apply, network.weights, network.x).foldable
    for action, moved in moved_by_each(symmetry, network.weights).items():
        apply = jax.jit(network.apply)
        assert check_equivalence(apply, network.weights, moved, network.x) < 2e-4, action


def halves(h):
    return h[:, :WIDTH], h[:, WIDTH:]


def scores(a, b, values):
    return jax.nn.softmax(a @ b.T) @ values


def one_kernel(w, x):
    """Queries, keys and values by one kernel with an axis that tells them apart."""
    q, k, v = jnp.moveaxis(jnp.einsum("nc,cshd->nshd", x, w["kernel"]), 1, 0)
    pattern = jax.nn.softmax(jnp.einsum("nhd,mhd->hnm", q, k))
    return jnp.einsum("hnm,mhd,hdo->no", pattern, v, w["write"])


BOTH = {
    **{"two": normal(5, 2 * WIDTH), "bias": normal(2 * WIDTH), "half": normal(WIDTH, 3)},
    **{"kernel": normal(5, 3, 2, 4), "write": normal(2, 4, 3)},
}
"""Weights that make the same units twice."""
OPPOSITE = "P0 invertible (8): two[:, 8:16][1]^1, two[:, 0:8][1]^-1"
PARTS = {
    "queries beside keys": (lambda w, x: scores(*halves(x @ w["two"]), x), [OPPOSITE]),
    "exchanged": (
        lambda w, x: scores(*halves(jnp.concatenate(halves(x @ w["two"])[::-1], -1)), x),
        [OPPOSITE],
    ),
    "interleaved": (
        lambda w, x: scores((x @ w["two"])[:, ::2], (x @ w["two"])[:, 1::2], x),
        ["P0 invertible (8): two[:, 1:16:2][1]^1, two[:, 0:15:2][1]^-1"],
    ),
    "with a bias": (
        lambda w, x: scores(*halves(x @ w["two"] + w["bias"]), x),
        ["P0 invertible (8): bias[8:16][0]^1, bias[0:8][0]^-1, two[:, 8:16][1]^1, two[:, 0:8][1]^-1"],
    ),
    "keys are values": (
        lambda w, x: scores(*halves(x @ w["two"]), halves(x @ w["two"])[1] @ w["half"]),
        ["P0 invertible (8): half[0]^1, two[:, 8:16][1]^-1, two[:, 0:8][1]^1"],
    ),
    "added": (
        lambda w, x: sum(halves(x @ w["two"])) @ w["half"],
        ["P0 invertible (8): half[0]^1, two[1]^-1"],
    ),
    "one beside its negative": (
        lambda w, x: (
            jax.nn.relu(jnp.concatenate([x[:, :3] @ w["half"].T, -x[:, :3] @ w["half"].T], -1)) @ w["two"].T
        ),
        ["P0 scaling (8): half[0]^1, two[1]^-1"],
    ),
    "a kernel of three": (
        one_kernel,
        [
            "P0 sign (2): kernel[2], write[0]",
            "P0/P1 invertible (4 in each of 2): kernel[3]^1, write[1]^-1",
            "P0/P2 invertible (4 in each of 2): kernel[:, 1:2][3]^1, kernel[:, 0:1][3]^-1",
        ],
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_maps_act_on_parts_of_an_axis_each_in_its_own_way(name):
    apply, expected = PARTS[name]
    symmetry = symmetries(apply, BOTH, X)
    assert describe_actions(symmetry).splitlines() == expected
    for action, moved in moved_by_each(symmetry, BOTH).items():
        assert check_equivalence(jax.jit(apply), BOTH, moved, X) < 1e-5, action


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "gpt",
            [
                "P1/P3 invertible (3 in each of 2): proj[0]^1, qkv[1]^-1",
                "P1/P4 invertible (3 in each of 2): qkv[:, 6:12][1]^1, qkv[:, 0:6][1]^-1",
            ],
        ),
        (
            "heads-first fused attention",
            [
                "P1/P2 invertible (4 in each of 2): proj[0]^1, qkv[1]^-1",
                "P1/P3 invertible (4 in each of 2): qkv[:, (4, ..., 19)][1]^1, qkv[:, (0, ..., 15)][1]^-1",
            ],
        ),
    ],
)
def test_heads_whose_queries_keys_and_values_are_of_one_matrix_have_invertible_maps(name, expected):
    network = grouped_networks.NETWORKS[name]
    described = describe_actions(symmetries(network.apply, network.weights, network.x)).splitlines()
    assert [line for line in described if line.startswith("P1/")] == expected


def drawn(network, inputs):
    """Its weights, none of them zero."""
    shapes = jax.eval_shape(network.init, KEY, inputs)
    return jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)


def test_a_causal_mask_lets_heads_be_scaled_but_not_mixed():
    network = models.build({"name": "gpt", "blocks": 1, "heads": 2, "width": 1 / 16}, (6,), 9)
    tokens = np.arange(12).reshape(2, 6) % 9
    variables = drawn(network, tokens)
    symmetry = symmetries(network.apply, variables, tokens)
    assert "P1 scaling" in symmetry.actions
    assert "P1 invertible" not in symmetry.actions
    names = [name for name, action in symmetry.actions.items() if not action.uniform]
    moved = jax.jit(lambda w: apply_maps(symmetry, random_maps(KEY, symmetry, *names), w))(variables)
    assert check_equivalence(jax.jit(network.apply), variables, moved, tokens) < 1e-5


@EACH
def test_every_map_leaves_the_outputs_and_its_inverse_undoes_it(network):
    apply, weights, _ = NETWORKS[network]
    symmetry = symmetries(apply, weights, X)

    @jax.jit
    def there_and_back(weights):
        folded = fold_scales(symmetry, weights)
        moved, back = {}, {}
        for name in symmetry.actions:
            maps = random_maps(KEY, symmetry, name)
            moved[name] = apply_maps(symmetry, maps, folded)
            back[name] = apply_maps(symmetry, inverse_maps(symmetry, maps), moved[name])
        return folded, moved, back

    folded, moved, back = jax.device_get(there_and_back(weights))
    compiled = jax.jit(apply)
    assert check_equivalence(compiled, weights, folded, X) < 1e-5
    for name in symmetry.actions:
        changed = zip(*map(jax.tree.leaves, (folded, moved[name])), strict=True)
        assert any(bool((x != y).any()) for x, y in changed)
        assert check_equivalence(compiled, weights, moved[name], X) < 1e-5
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), back[name], folded)


def test_a_vision_transformer_has_rotations_of_its_stream_and_invertible_maps_of_its_heads():
    network = models.build({"name": "vit", "blocks": 1, "heads": 2, "width": 1 / 16}, (8, 8, 1), 4)
    images = normal(3, 8, 8, 1)
    variables = drawn(network, images)
    symmetry = symmetries(network.apply, variables, images)
    kinds = [name for name in symmetry.actions if "scaling" not in name and "sign" not in name]
    assert kinds == ["P0 mean-fixing orthogonal", "P1/P3 invertible", "P1/P4 invertible"]

    @jax.jit
    def moved(weights):
        return apply_maps(symmetry, random_maps(KEY, symmetry, *kinds), fold_scales(symmetry, weights))

    assert check_equivalence(jax.jit(network.apply), variables, moved(variables), images) < 1e-5


def test_of_all_rotations_the_nearest_is_the_one_that_was_planted():
    symmetry = symmetries(*NETWORKS["RMS norm"][:2], X)
    rotation = random_maps(KEY, symmetry, "P0 orthogonal")["P0 orthogonal"]
    rows = normal(20, WIDTH)
    np.testing.assert_allclose(
        nearest_rotation((rows @ rotation.T).T @ rows, "orthogonal"), rotation, atol=1e-5
    )


@pytest.mark.parametrize(
    ("network", "maps", "message"),
    [
        ("gelu", {"P0 orthogonal": np.eye(8)}, r"expected one that the network has \(none\); found 'P0 ort"),
        ("relu", {"P0 sign": np.ones(8)}, r"expected one that the network has \(P0 scaling\); found 'P0 si"),
        ("relu", {"P0 scaling": np.ones(7)}, r"^P0 scaling: expected shape \(8,\), found \(7,\)$"),
        ("relu", {"P0 scaling": -np.ones(8)}, "^P0 scaling: expected positive numbers; found another map$"),
        ("tanh", {"P0 sign": np.full(8, 2.0)}, "^P0 sign: expected 1 and -1; found another map$"),
        ("linear", {"P0 invertible": np.zeros((8, 8))}, "^P0 invertible: expected an invertible matrix"),
        ("RMS norm", {"P0 orthogonal": 2 * np.eye(8)}, "^P0 orthogonal: expected an orthogonal matrix"),
        (
            "layer norm",
            {"P0 mean-fixing orthogonal": -np.eye(8)},
            "expected a rotation that fixes the mean's",
        ),
        ("RMS norm", {"P0 orthogonal": np.eye(8)}, "^P0 orthogonal: expected scale uniform, as by fold_scal"),
    ],
)
def test_a_map_that_the_network_has_not_is_refused(network, maps, message):
    apply, weights, _ = NETWORKS[network]
    with pytest.raises(UserError, match=message):
        apply_maps(symmetries(apply, weights, X), maps, weights)
