"""The GPT against an account in float64, and the identities of causal attention and rotary positions."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted import some_permutation
from scipy.special import erf

from llfc_jax import models, symmetry
from llfc_jax.errors import UserError
from llfc_jax.models.attention import rotate

BLOCK, CLASSES = 6, 11
SMALL = {"name": "gpt", "width": 1 / 16, "blocks": 2, "heads": 4}
VARIANTS = {
    "gpt2": {},
    "llama": {
        "positions": "rotary",
        "norm": "rms",
        "activation": "swiglu",
        "tied": False,
        "kv_heads": 2,
    },
    "between": {"positions": "rotary", "norm": "layer", "kv_heads": 1, "activation": "gelu_tanh"},
}


@cache
def example(variant):
    """A network, its variables, drawn so that nothing is zero or alike, and two blocks of tokens."""
    network = models.build(SMALL | VARIANTS[variant], (BLOCK,), CLASSES)
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, CLASSES, (2, BLOCK), dtype=np.uint8)
    like = network.shapes(jnp.asarray(tokens))
    variables = jax.tree.map(
        lambda leaf: jax.device_put(np.float32(generator.normal(0.1, 0.4, leaf.shape))), like
    )
    return network, variables, tokens, jax.jit(network.apply)


def normed(x, p, norm):
    x = x - (x.mean(-1, keepdims=True) if norm == "layer" else 0)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p.get("bias", 0)


def turned(x):
    """Each pair of units as a complex number, times e^(i p / 10000^(2j / d))."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / 10_000 ** (np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[None, :, None]
    return np.concatenate([z.real, z.imag], -1)


def attention(x, p, options):
    """One head and one query at a time."""
    read = {
        name: np.einsum("ntc,chd->nthd", x, p[name]["kernel"]) + p[name].get("bias", 0)
        for name in ("query", "key", "value")
    }
    if options.get("positions") == "rotary":
        read |= {name: turned(read[name]) for name in ("query", "key")}
    out = np.zeros(read["query"].shape)
    group = out.shape[2] // read["key"].shape[2]
    for n, t, h in np.ndindex(out.shape[:3]):
        scores = read["key"][n, : t + 1, h // group] @ read["query"][n, t, h] / np.sqrt(out.shape[-1])
        weights = np.exp(scores - scores.max())
        out[n, t, h] = weights / weights.sum() @ read["value"][n, : t + 1, h // group]
    return np.einsum("nthd,hdc->ntc", out, p["out"]["kernel"]) + p["out"].get("bias", 0)


def linear(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def mlp(x, p, activation):
    if activation == "swiglu":
        gate = linear(x, p["gate"])
        return linear(gate / (1 + np.exp(-gate)) * linear(x, p["up"]), p["dense2"])
    h = linear(x, p["dense1"])
    if activation == "gelu":
        h = h * (1 + erf(h / np.sqrt(2))) / 2
    else:
        h = h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))) / 2
    return linear(h, p["dense2"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpt_agrees_with_a_float64_account(variant):
    _, variables, tokens, apply = example(variant)
    options = VARIANTS[variant]
    norm, activation = options.get("norm", "layer"), options.get("activation", "gelu")
    p = jax.tree.map(np.float64, variables["params"])
    x = p["embedding"]["embedding"][tokens]
    if options.get("positions") != "rotary":
        x = x + p["position"]["embedding"]
    for block in ("block1.", "block2."):
        own = {name.removeprefix(block): leaf for name, leaf in p.items() if name.startswith(block)}
        x = x + attention(normed(x, own["norm1"], norm), own["attention"], options)
        x = x + mlp(normed(x, own["norm2"], norm), own, activation)
    x = normed(x, p["norm"], norm)
    expected = x @ (p["head"]["kernel"] if "head" in p else p["embedding"]["embedding"].T)
    found = apply(variables, tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_logits_know_the_tokens_to_come(variant):
    _, variables, tokens, apply = example(variant)
    before = np.asarray(apply(variables, tokens))
    for t in range(BLOCK):
        changed = tokens.copy()
        changed[:, t] = (changed[:, t] + 1) % CLASSES
        after = np.asarray(apply(variables, changed))
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t] - before[:, t]).max(-1) > 1e-3).all()


def test_products_of_rotated_vectors_depend_on_the_difference_of_their_positions():
    query, key = np.random.default_rng(0).normal(size=(2, 1, 5, 3, 8)).astype(np.float32)
    products = [
        jnp.einsum("nqhd,nkhd->nhqk", rotate(query, positions), rotate(key, positions))
        for positions in (jnp.arange(5), jnp.arange(5) + 37)
    ]
    np.testing.assert_allclose(*products, rtol=1e-4, atol=1e-5)
    unmoved = rotate(query, jnp.zeros(5))
    np.testing.assert_array_equal(unmoved, query)
    np.testing.assert_allclose(
        jnp.linalg.norm(rotate(query, jnp.arange(5)), axis=-1), jnp.linalg.norm(query, axis=-1), rtol=1e-5
    )


@pytest.mark.parametrize("variant", ["gpt2", "llama"])
def test_permuted_language_models_compute_the_same(variant):
    network, variables, tokens, apply = example(variant)
    spec = symmetry.permutation_spec(network.apply, variables, tokens)
    permutation = some_permutation(0, spec)
    permuted = symmetry.apply_permutation(spec, permutation, variables)
    assert symmetry.check_equivalence(apply, variables, permuted, tokens) < 1e-4
    sizes = sorted(spec.sizes.values())
    # the stream; in each block heads, the axes within them that aren't turned, hidden units, groups
    of_block = {"gpt2": [4, 4, 4, 64], "llama": [2, 2, 4, 42]}[variant]
    assert sizes == sorted([16, *of_block, *of_block])


def test_tied_weights_are_one_array_that_both_ends_read():
    network, variables, tokens, _ = example("gpt2")
    assert "head" not in variables["params"]
    assert models.count_parameters(network.shapes(jnp.asarray(tokens))) == (
        CLASSES * 16 + BLOCK * 16 + 2 * (4 * 16 * 16 + 4 * 16 + 2 * 16 * 64 + 64 + 16 + 4 * 16) + 2 * 16
    )


def test_the_published_size():
    network = models.build({"name": "gpt"}, (256,), 256)
    assert models.count_parameters(network.shapes(jnp.zeros((1, 256)))) == 4_870_144


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"heads": 3}, "model.heads: expected a divisor of the dimension 16; found 3"),
        ({"kv_heads": 3}, "model.kv_heads: expected a divisor of the 4 heads; found 3"),
        ({"heads": 16, "positions": "rotary"}, "model.heads: expected heads of an even size .* found 1"),
        ({"norm": "batch"}, "model.norm: expected one of layer, rms; found 'batch'"),
        ({"positions": "sine"}, "model.positions: expected one of learned, rotary; found 'sine'"),
    ],
)
def test_bad_requests_are_one_line(options, line):
    with pytest.raises(UserError, match=line):
        models.build(SMALL | options, (BLOCK,), CLASSES)


@pytest.mark.parametrize(
    ("name", "shape", "line"),
    [
        ("gpt", (8, 8, 1), "model.name='gpt': expected text for data; found images"),
        ("vgg11", (64,), "model.name='vgg11': expected images for data; found text"),
    ],
)
def test_models_of_text_take_no_images_and_the_other_way_round(name, shape, line):
    with pytest.raises(UserError, match=line):
        models.build({"name": name}, shape, 10)


def test_an_mlp_takes_vectors_but_no_text():
    assert models.takes("mlp", (64,))
    with pytest.raises(UserError, match=r"model.name='mlp': expected images for data; found text"):
        models.check_kind("mlp", text=True)


def test_swiglu_is_of_language_models_alone():
    with pytest.raises(UserError, match=r"model.activation: expected one of relu, .*; found 'swiglu'"):
        models.build({"name": "mlp", "activation": "swiglu"}, (4, 4, 1), 10)
