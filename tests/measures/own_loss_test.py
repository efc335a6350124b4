"""Losses of one's own, several outputs, and inputs whose first axis doesn't count examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.reporting import tables, verdict

N, IN, HIDDEN, OUT = 12, 3, 5, 2
ALPHAS = (0.0, 0.5, 1.0)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, IN)).astype(np.float32)
TARGETS = GENERATOR.normal(size=(N, OUT)).astype(np.float32)
CLASSES = GENERATOR.integers(0, OUT, N)


def weights(seed):
    rng = np.random.default_rng(seed)
    drawn = {"in": rng.normal(size=(IN, HIDDEN)), "out": rng.normal(size=(HIDDEN, OUT))}
    return jax.device_put(jax.tree.map(np.float32, drawn))


A, B = weights(1), weights(2)


def apply(w, x):
    return jnp.tanh(x @ w["in"]) @ w["out"]


def outputs_at(alpha, x=X):
    w = {name: (1 - alpha) * np.float64(A[name]) + alpha * np.float64(B[name]) for name in A}
    hidden = x @ w["in"]
    return np.tanh(hidden) @ w["out"], hidden


def autoencoder(w, x):
    """Reconstruction and code, and the code's largest unit, which is no float."""
    code = x @ w["in"]
    return {"code": code, "mean": jnp.tanh(code) @ w["out"], "winner": code.argmax(-1)}


LOSSES = {
    "regression": (apply, lambda y, t: ((y - t) ** 2).sum(-1), lambda y, code: ((y - TARGETS) ** 2).sum(-1)),
    "each target on its own": (apply, lambda y, t: abs(y - t), lambda y, code: abs(y - TARGETS)),
    "several labels": (
        apply,
        lambda y, t: jax.nn.softplus(jnp.where(t > 0, -y, y)).mean(-1),
        lambda y, code: np.log1p(np.exp(np.where(TARGETS > 0, -y, y))).mean(-1),
    ),
    "an autoencoder": (
        autoencoder,
        lambda out, t: ((out["mean"] - t) ** 2).sum(-1) + 0.1 * (out["code"] ** 2).sum(-1),
        lambda y, code: ((y - TARGETS) ** 2).sum(-1) + 0.1 * (code**2).sum(-1),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_ones_own_replaces_cross_entropy_and_there_is_no_error(name):
    network, loss_fn, oracle = LOSSES[name]
    stream = [(X[:7], TARGETS[:7]), (X[7:], TARGETS[7:])]
    found = llfc_jax.evaluate_path(network, A, B, stream, 3, loss_fn=loss_fn)
    losses = [oracle(*outputs_at(alpha)) for alpha in ALPHAS]
    np.testing.assert_allclose(found["loss"], [each.mean() for each in losses], rtol=1e-5)
    over = (losses[1] - (losses[0] + losses[2]) / 2).reshape(N, -1).mean(-1)
    np.testing.assert_allclose(found["loss_excess_std"][1], over.std(), rtol=1e-4)
    assert not [key for key in found if "error" in key or key == "perplexity"]


@pytest.mark.usefixtures("unrendered")
def test_measure_and_report_show_a_loss_without_errors_and_judge_no_barrier(tmp_path):
    _, loss_fn, oracle = LOSSES["an autoencoder"]
    program = llfc_jax.read(autoencoder, A, X)
    data = {"test": [(X, TARGETS)], "train": [(X, TARGETS)]}
    chosen = ("lmc", "llfc", "stitching", "theory")
    found = llfc_jax.measure(
        program, A, B, data, measures=chosen, num_alphas=3, alphas=(0.5,), loss_fn=loss_fn
    )
    last = found["stitching"]["a-b"]["layers"][-1]["prefix_a"]
    np.testing.assert_allclose(last["loss"], oracle(*outputs_at(0.0)).mean(), rtol=1e-5)
    assert "error" not in last
    assert "num_classes" not in found["data"]
    assert "lemma1" not in found.get("theory", {}).get("a-b", {})
    assert str(verdict(found)).startswith("LMC is not judged: barrier ")
    assert "nats" not in str(verdict(found))
    page = llfc_jax.report(found, tmp_path).read_text()
    assert "error barrier" not in page
    assert "LMC: not judged" in tables.terminal(found)


@pytest.mark.parametrize("output", ["mean", 1])
def test_the_logits_are_one_of_several_outputs(output):
    def several(w, x):
        found = autoencoder(w, x)
        return found if output == "mean" else (found["code"], found["mean"])

    found = llfc_jax.evaluate_path(several, A, B, [(X, CLASSES)], 3, output=output)
    assert found == llfc_jax.evaluate_path(apply, A, B, [(X, CLASSES)], 3)
    program = llfc_jax.read(several, A, X, output=output)
    measured = llfc_jax.measure(program, A, B, [(X, CLASSES)], measures=("lmc",), num_alphas=3)
    np.testing.assert_allclose(measured["lmc"]["a-b"]["test"]["loss"], found["loss"], rtol=1e-6)


def graphs(w, graph):
    """Fifteen nodes in three graphs."""
    hidden = jnp.tanh(graph["nodes"] @ w["in"])
    sent = jax.ops.segment_sum(hidden[graph["senders"]], graph["receivers"], 15)
    return jax.ops.segment_sum(sent, graph["graph"], 3) @ w["out"]


GRAPH = {
    "nodes": GENERATOR.normal(size=(15, IN)).astype(np.float32),
    "senders": GENERATOR.integers(0, 15, 40),
    "receivers": GENERATOR.integers(0, 15, 40),
    "graph": np.repeat(np.arange(3), 5),
}


@pytest.mark.parametrize("told", [3, lambda graph: int(graph["graph"].max()) + 1])
def test_graphs_are_measured_whole_when_it_is_said_how_many_they_are(told):
    labels = np.array([0, 1, 1])
    found = llfc_jax.evaluate_path(graphs, A, B, [(GRAPH, labels)], 3, num_examples=told)
    logits = [np.float64(jax.jit(graphs)(w, GRAPH)) for w in (A, B)]
    losses = [(np.log(np.exp(z).sum(-1)) - z[np.arange(3), labels]).mean() for z in logits]
    np.testing.assert_allclose([found["loss"][0], found["loss"][-1]], losses, rtol=1e-5)
    assert found["examples"] == 3


def test_features_of_graphs_are_compared_graph_by_graph():
    def with_features(w, graph):
        return graphs(w, graph), {"nodes": jnp.tanh(graph["nodes"] @ w["in"]), "graphs": graphs(w, graph)}

    found = llfc_jax.measure_features(with_features, A, B, [GRAPH and (GRAPH,)], (0.5,), num_examples=3)
    assert [layer["layer"] for layer in found["layers"]] == ["graphs"]
    assert list(found["skipped"]) == ["nodes"]


def test_features_need_neither_logits_nor_labels_and_what_is_none_is_skipped():
    def with_features(w, x):
        hidden = x @ w["in"]
        odd = {"ids": jnp.arange(N), "mean": hidden.mean(), "rate": 0.5, "stack": jnp.stack([hidden] * 2)}
        return None, {"hidden": hidden, **odd}

    found = llfc_jax.measure_features(with_features, A, B, [X], (0.5,))
    assert [layer["layer"] for layer in found["layers"]] == ["hidden"]
    assert set(found["skipped"]) == {"ids", "mean", "rate", "stack"}


def test_complex_features_count_with_both_their_parts():
    def spectrum(w, x):
        found = jnp.fft.fft(jnp.tanh(x @ w["in"]))
        return x @ w["in"], {"complex": found, "parts": jnp.concatenate([found.real, found.imag], -1)}

    found = llfc_jax.measure_features(spectrum, A, B, [X], (0.5,))
    both = {layer.pop("layer"): layer for layer in found["layers"]}
    for (path, x), y in zip(
        jax.tree.leaves_with_path(both["complex"]), jax.tree.leaves(both["parts"]), strict=True
    ):
        assert x == y if isinstance(x, str) else x == pytest.approx(y, rel=1e-4, nan_ok=True), path


REFUSED = {
    "several outputs": (
        autoencoder, {}, CLASSES,
        "apply: expected an array of logits, or `output` to say which entry they are; "
        "found a dict of 'code', 'mean', 'winner'",
    ),
    "an output that there isn't": (
        autoencoder, {"output": "logits"}, CLASSES,
        "output: expected an entry of what apply returns, 'code', 'mean', 'winner'; found 'logits'",
    ),
    "complex logits": (
        lambda w, x: jnp.fft.fft(apply(w, x)), {}, CLASSES, "apply: expected real logits; found complex64",
    ),
    "the mean of the losses": (
        apply, {"loss_fn": lambda y, t: jnp.mean((y - t) ** 2)}, TARGETS,
        r"loss_fn: expected losses \(12, ...\), one for each label; found \(\)",
    ),
    "complex losses": (
        apply, {"loss_fn": lambda y, t: (y * 1j).sum(-1)}, TARGETS,
        r"loss_fn: expected \(n, ...\) floating-point losses; found complex64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_outputs_and_losses_that_cannot_be_are_refused_in_one_line(case):
    network, options, labels, line = REFUSED[case]
    with pytest.raises(UserError, match=f"^{line}"):
        llfc_jax.evaluate_path(network, A, B, [(X, labels)], 3, **options)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (
            None,
            "inputs: expected 3, one for each of the labels; found .*; `num_examples` says how many examples",
        ),
        (4, r"labels: expected 4, by num_examples; found shape \(3,\)"),
        (lambda graph: None, "num_examples: expected an integer; found None"),
    ],
)
def test_graphs_are_neither_cut_nor_guessed_at(told, line):
    with pytest.raises(UserError, match=f"^{line}"):
        llfc_jax.evaluate_path(graphs, A, B, [(GRAPH, np.arange(3) % 2)], 3, num_examples=told)
