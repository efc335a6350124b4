"""Rotary positions, as frameworks write them: pairs of queries and keys are multiplied as complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from symmetric_networks import normal

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.symmetry import apply_maps, check_equivalence, describe_actions, random_maps, symmetries

KEY = jax.random.key(0)
LENGTH, GROUPS, INNER = 4, 2, 6
HALF = INNER // 2
ANGLES = np.float32(np.arange(LENGTH)[:, None] / 10 ** (np.arange(HALF) / HALF))
BOTH = np.concatenate([ANGLES, ANGLES], -1)
SIDES = np.where(np.arange(INNER) < HALF, -1, 1).astype(np.float32)


def gpt_neox(x):
    cosine, sine = np.cos(ANGLES)[None, :, None], np.sin(ANGLES)[None, :, None]
    first, second = x[..., :HALF], x[..., HALF:]
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def hugging_face(x):
    turned = jnp.concatenate([-x[..., HALF:], x[..., :HALF]], -1)
    return x * np.cos(BOTH)[None, :, None] + turned * np.sin(BOTH)[None, :, None]


def rolled(x):
    return x * np.cos(BOTH)[None, :, None] + jnp.roll(x, HALF, -1) * SIDES * np.sin(BOTH)[None, :, None]


def interleaved(x):
    cosine, sine = np.cos(ANGLES)[None, :, None], np.sin(ANGLES)[None, :, None]
    even, odd = x[..., ::2], x[..., 1::2]
    return jnp.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).reshape(x.shape)


def complex_numbers(x):
    pairs = x.reshape(*x.shape[:-1], HALF, 2)
    turned = jax.lax.complex(pairs[..., 0], pairs[..., 1]) * np.exp(1j * ANGLES)[None, :, None]
    return jnp.stack([turned.real, turned.imag], -1).reshape(x.shape)


def half_of_them(x):
    """Partial rotary positions: the last two units of each head stay as they are."""
    cosine, sine = np.cos(ANGLES)[None, :, None, :2], np.sin(ANGLES)[None, :, None, :2]
    part, rest = x[..., :4], x[..., 4:]
    first, second = part[..., :2], part[..., 2:]
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate([jnp.concatenate(turned, -1), rest], -1)


def attention(rotate):
    """Two queries for each of two keys, with biases."""

    def apply(w, x):
        q = jnp.einsum("ntc,cgrd->ntgrd", x, w["q"]) + w["bias"]
        k, v = (jnp.einsum("ntc,cgd->ntgd", x, w[name]) for name in "kv")
        q = rotate(q.reshape(*q.shape[:2], -1, INNER)).reshape(q.shape)
        scores = jnp.einsum("nqgrd,nsgd->ngrqs", q, rotate(k)) / INNER**0.5
        seen = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
        pattern = jax.nn.softmax(jnp.where(seen, scores, -1e9), -1)
        return jnp.einsum("ngrqs,nsgd,grdo->nqo", pattern, v, w["o"])

    return apply


WEIGHTS = {
    "q": normal(8, GROUPS, 2, INNER),
    "bias": normal(GROUPS, 2, INNER),
    "k": normal(8, GROUPS, INNER),
    "v": normal(8, GROUPS, INNER),
    "o": normal(GROUPS, 2, INNER, 3),
}
X = normal(3, LENGTH, 8)
IN_EACH_GROUP = "P0/R0 rotary (3 pairs in each of 2): bias[2]^1, k[2]^-1, q[3]^1"
ALIKE = "R0 rotary (2 pairs): bias[2]^1, k[2]^-1, q[3]^1"
FORMS = {
    **dict.fromkeys((gpt_neox, hugging_face, rolled, interleaved, complex_numbers), IN_EACH_GROUP),
    half_of_them: ALIKE,
}


@pytest.fixture(autouse=True, scope="module")
def _ranks_are_promoted():
    """As users' networks do."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("rotate", FORMS, ids=lambda rotate: rotate.__name__)
def test_pairs_of_queries_are_found_in_every_form_and_multiplied_leave_the_outputs(rotate):
    apply = attention(rotate)
    symmetry = symmetries(apply, WEIGHTS, X)
    assert FORMS[rotate] in describe_actions(symmetry).splitlines()
    (name,) = (name for name, action in symmetry.actions.items() if action.kind == "rotary")
    maps = random_maps(KEY, symmetry, name)
    moved = apply_maps(symmetry, maps, WEIGHTS)
    assert np.abs(moved["q"] - WEIGHTS["q"]).max() > 0.1
    assert check_equivalence(jax.jit(apply), WEIGHTS, moved, X) < 1e-5


@pytest.mark.parametrize("rotate", [hugging_face, gpt_neox], ids=lambda rotate: rotate.__name__)
def test_pairs_are_found_where_angles_of_single_precision_turn_bfloat16(rotate):
    def apply(w, x):
        short = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), w)
        return attention(rotate)(short, x.astype(jnp.bfloat16))

    symmetry = symmetries(apply, WEIGHTS, X)
    assert IN_EACH_GROUP in describe_actions(symmetry).splitlines()
    moved = apply_maps(symmetry, random_maps(KEY, symmetry, "P0/R0 rotary"), WEIGHTS)
    assert check_equivalence(apply, WEIGHTS, moved, X) < 1e-5


def heads_of_one_matrix(w, x):
    """Queries, keys and values side by side, as in GPT-2."""
    q, k, v = (h.reshape(*x.shape[:2], GROUPS, INNER) for h in jnp.split(x @ w["qkv"], 3, -1))
    pattern = jax.nn.softmax(jnp.einsum("nqhd,nshd->nhqs", hugging_face(q), hugging_face(k)), -1)
    return jnp.einsum("nhqs,nshd->nqhd", pattern, v).reshape(*x.shape[:2], -1) @ w["o"]


def test_queries_and_keys_of_one_matrix_are_turned_against_each_other():
    weights = {"qkv": normal(8, 3 * GROUPS * INNER), "o": normal(GROUPS * INNER, 3)}
    symmetry = symmetries(heads_of_one_matrix, weights, X)
    expected = "P0/R0 rotary (3 pairs in each of 2): qkv[:, 12:24][1]^1, qkv[:, 0:12][1]^-1"
    assert expected in describe_actions(symmetry).splitlines()
    moved = apply_maps(symmetry, random_maps(KEY, symmetry, "P0/R0 rotary"), weights)
    assert check_equivalence(jax.jit(heads_of_one_matrix), weights, moved, X) < 1e-5


def unequal(x):
    """The two of a pair are turned by different angles: nothing but signs of whole pairs commutes."""
    cosine, sine = np.cos(BOTH * SIDES)[None, :, None], np.sin(BOTH * (1.5 + SIDES / 2))[None, :, None]
    return x * cosine + jnp.concatenate([-x[..., HALF:], x[..., :HALF]], -1) * sine


@pytest.mark.parametrize("rotate", [unequal, lambda x: hugging_face(x) ** 3], ids=["unequal", "cubed"])
def test_what_does_not_commute_with_complex_numbers_is_not_claimed(rotate):
    symmetry = symmetries(attention(rotate), WEIGHTS, X)
    assert not [name for name in symmetry.actions if "rotary" in name]


def test_what_reads_the_inside_of_it_forbids_it():
    def apply(w, x):
        q = jnp.einsum("ntc,cgrd->ntgrd", x, w["q"])[..., 0, :]
        halves = q[..., :HALF] * np.cos(ANGLES)[None, :, None], q[..., HALF:]
        turned = jnp.concatenate([halves[0] - halves[1], halves[1] + halves[0]], -1)
        return jnp.einsum("nqgd,nsgd->ngqs", turned, jnp.einsum("ntc,cgd->ntgd", x, w["k"])) + halves[0].sum()

    symmetry = symmetries(apply, {name: WEIGHTS[name] for name in "qk"}, X)
    assert not [name for name in symmetry.actions if "rotary" in name]


def test_planted_complex_numbers_are_recovered_with_the_heads_that_moved():
    apply = attention(hugging_face)
    symmetry = symmetries(apply, WEIGHTS, X)
    maps = random_maps(KEY, symmetry, "P0/R0 rotary")
    planted = apply_maps(symmetry, maps | {"P0": jnp.array([1, 0])}, WEIGHTS)
    found = llfc_jax.align(apply, WEIGHTS, planted, [(X, X)], method="procrustes_matching")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), found.variables, WEIGHTS)
    assert found.summary["equivalence_error"] < 1e-5
    assert "rotary" in found.summary["classes"]


def test_a_map_that_mixes_pairs_is_refused():
    symmetry = symmetries(attention(hugging_face), WEIGHTS, X)
    mixing = np.broadcast_to(np.roll(np.eye(INNER), 1, 0), (GROUPS, INNER, INNER))
    with pytest.raises(
        UserError, match=r"^P0/R0 rotary: expected a complex number for each pair; found anoth"
    ):
        apply_maps(symmetry, {"P0/R0 rotary": mixing}, WEIGHTS)
