"""Labels, masks and losses of any shape, against float64 and against what they come down to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.types import Batch

N, T, VOCABULARY, WIDTH = 6, 5, 7, 4
ALPHAS = (0.0, 0.5, 1.0)
GENERATOR = np.random.default_rng(0)
IDS, NEXT = GENERATOR.integers(0, VOCABULARY, (2, N, T))
KEPT = np.arange(T)[None] < np.array([5, 2, 3, 1, 4, 0])[:, None]


def weights(seed):
    rng = np.random.default_rng(seed)
    shapes = {"embedding": (VOCABULARY, WIDTH), "hidden": (WIDTH, WIDTH), "out": (WIDTH, VOCABULARY)}
    return {name: jax.device_put(np.float32(rng.normal(size=shape))) for name, shape in shapes.items()}


A, B = weights(1), weights(2)


def apply_with_features(w, ids):
    """A causal model: each position sees the mean of those up to it."""
    embedded = w["embedding"][ids]
    hidden = jnp.tanh(embedded @ w["hidden"])
    seen = jnp.cumsum(hidden, 1) / jnp.arange(1, ids.shape[1] + 1)[None, :, None]
    return seen @ w["out"], {"hidden": hidden, "pooled": hidden.mean(1), "scores": seen @ seen.mT}


def apply(w, ids):
    return apply_with_features(w, ids)[0]


def at(alpha):
    """Logits and features in float64."""
    w = {name: (1 - alpha) * np.float64(A[name]) + alpha * np.float64(B[name]) for name in A}
    hidden = np.tanh(w["embedding"][IDS] @ w["hidden"])
    seen = np.cumsum(hidden, 1) / np.arange(1, T + 1)[:, None]
    return seen @ w["out"], {"hidden": hidden, "pooled": hidden.mean(1), "scores": seen @ seen.swapaxes(1, 2)}


def losses_at(alpha):
    logits, _ = at(alpha)
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, NEXT[..., None], -1)[..., 0]
    return losses, logits.argmax(-1) != NEXT


STREAMS = {
    "one batch": [(IDS, NEXT, KEPT)],
    "uneven batches": [(IDS[:4], NEXT[:4], KEPT[:4]), (IDS[4:], NEXT[4:], KEPT[4:])],
    "the ignored index under the mask": [(IDS, np.where(KEPT, NEXT, -100), KEPT)],
    "dicts": [{"inputs": IDS, "labels": NEXT, "mask": KEPT}],
    "batches of one sequence": [Batch(IDS[i : i + 1], NEXT[i : i + 1], KEPT[i : i + 1]) for i in range(N)],
}


@pytest.mark.parametrize("stream", STREAMS)
def test_loss_and_error_are_means_over_the_tokens_that_count(stream):
    found = llfc_jax.evaluate_path(apply, A, B, STREAMS[stream], 3)
    each = [losses_at(alpha) for alpha in ALPHAS]
    np.testing.assert_allclose(found["loss"], [losses[KEPT].mean() for losses, _ in each], rtol=1e-5)
    assert found["error"] == [wrong[KEPT].sum() / KEPT.sum() for _, wrong in each]
    assert (found["examples"], found["labels"]) == (5, KEPT.sum())  # one sequence is hidden altogether
    np.testing.assert_allclose(found["perplexity"], np.exp(found["loss"]), rtol=1e-12)


def test_a_barrier_is_as_uncertain_as_the_sequences_are_few():
    found = llfc_jax.evaluate_path(apply, A, B, STREAMS["uneven batches"], 3)
    (start, _), (middle, _), (stop, _) = map(losses_at, ALPHAS)
    over, tokens = middle - (start + stop) / 2, KEPT.sum(1)
    of_sequences = np.where(KEPT, over, 0).sum(1) - tokens * over[KEPT].mean()
    error = np.sqrt(np.square(of_sequences).sum()) / tokens.sum()
    np.testing.assert_allclose(found["loss_excess_std"][1] / np.sqrt(5), error, rtol=1e-4)


def test_a_sequence_of_one_token_is_an_example_with_a_label():
    inputs, labels = IDS[:, :1], NEXT[:, 0]
    flat = llfc_jax.evaluate_path(lambda w, ids: apply(w, ids)[:, 0], A, B, [(inputs, labels)], 3)
    assert llfc_jax.evaluate_path(apply, A, B, [(inputs, labels[:, None])], 3) == flat


def test_one_network_is_scored_as_the_ends_of_a_path():
    batches = [Batch(*jax.device_put((IDS, NEXT, np.float32(KEPT))))]
    found = llfc_jax.evaluate_path(apply, A, B, batches, 3)
    np.testing.assert_allclose(
        evaluate(apply, B, batches), (found["loss"][-1], found["error"][-1]), rtol=1e-6
    )


def compared(alpha, name):
    """Mean cosine distance and coefficient over the sequences that count, of the positions that do."""
    (_, theta), (_, a), (_, b) = at(alpha), at(0), at(1)
    u, v = theta[name], (1 - alpha) * a[name] + alpha * b[name]
    if name == "hidden":
        u, v = (np.where(KEPT[..., None], x, 0) for x in (u, v))
    u, v = (x[:5].reshape(5, -1) for x in (u, v))
    products, squares = (u * v).sum(1), (v * v).sum(1)
    cosines = products / np.linalg.norm(u, axis=1) / np.sqrt(squares)
    return (1 - cosines).mean(), (products / squares).mean()


@pytest.mark.parametrize("masks", ["positions", "shapes alone"])
def test_features_are_compared_over_the_positions_that_count(masks):
    def fixed(w, ids):
        assert ids.shape[1] == T  # as a network with learned positions: it can't be read at another length
        return apply_with_features(w, ids)

    network = apply_with_features if masks == "positions" else fixed
    found = llfc_jax.measure_features(network, A, B, STREAMS["uneven batches"], (0.5,))
    layers = {layer["layer"]: layer for layer in found["layers"]}
    assert list(layers) == ["hidden", "pooled", "scores"]
    for name, layer in layers.items():
        distance, coefficient = compared(0.5, name)
        np.testing.assert_allclose(layer["cosine_distance"]["mean"], [distance], rtol=1e-4)
        np.testing.assert_allclose(layer["coefficient"]["mean"], [coefficient], rtol=1e-5)


def test_what_a_mask_hides_has_no_say_in_any_measure():
    program = llfc_jax.read(apply, A, IDS)
    other = np.where(KEPT, IDS, (IDS + 3) % VOCABULARY)
    found, changed = (
        llfc_jax.measure(program, A, B, [(ids, NEXT, KEPT)], num_alphas=3, alphas=(0.5,))
        for ids in (IDS, other)
    )
    for path, value in jax.tree.leaves_with_path(found):
        other_value = changed
        for key in path:
            other_value = other_value[key.key if hasattr(key, "key") else key.idx]
        assert value == pytest.approx(other_value, nan_ok=True), jax.tree_util.keystr(path)


REFUSED = {
    "a label for each sequence": ([(IDS, NEXT[:, 0])], r"labels: expected \(n, T\) integers; found int32 of"),
    "labels of another length": (
        [(IDS, NEXT[:, 1:])],
        r"labels: expected shape \(6, 5\), by the logits; found",
    ),
    "an ignored index": (
        [(IDS, np.where(KEPT, NEXT, -100))],
        "labels: expected 0 to 6, by the logits; found -100 to 6; a mask hides labels that don't count",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_do_not_fit_are_refused_in_one_line(case):
    batches, line = REFUSED[case]
    with pytest.raises(UserError, match=f"^{line}"):
        llfc_jax.evaluate_path(apply, A, B, batches, 3)
