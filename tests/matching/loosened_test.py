"""Larger networks without constraints, and the ladder of barriers down to the ordinary line."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from symmetric_networks import X, normal, rms_norm

import llfc_jax
from llfc_jax import models
from llfc_jax.matching.failing import constraint_ladder
from llfc_jax.matching.loosened import CONSTRAINTS, loosened
from llfc_jax.matching.weights import by_weights
from llfc_jax.measures.evaluation import cross_entropy
from llfc_jax.path.examples import masked_batches
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import symmetries

FREE, STREAM, TIES = "none of the constraints", CONSTRAINTS["stream"], CONSTRAINTS["ties"]


@pytest.fixture(autouse=True, scope="module")
def _ranks_are_promoted():
    """As users' networks do."""
    with jax.numpy_rank_promotion("allow"):
        yield


def tied(w, x):
    """Two blocks on a stream, whose last norm has a scale that the tied embedding can't take in."""
    x = x @ w["embedding"]
    for block in ("first", "second"):
        x = x + jax.nn.gelu(rms_norm(x) @ w[f"{block}_read"]) @ w[f"{block}_write"]
    return (rms_norm(x) * w["scale"]) @ w["embedding"].T


EMBEDDING, READ, WRITE = (np.asarray(normal(*shape)) for shape in ((5, 8), (8, 9), (9, 8)))
A = {"embedding": EMBEDDING, "scale": np.full(8, 3, np.float32)}
A |= {"first_read": READ, "first_write": WRITE, "second_read": READ[:, ::-1], "second_write": WRITE[::-1]}
TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0].astype(np.float32)
TURNED = {
    name: TURN @ leaf if name.endswith("read") else leaf if name == "scale" else leaf @ TURN.T
    for name, leaf in A.items()
}
"""A in another basis of its stream: a symmetry only because the scale happens to be uniform."""
A, TURNED = jax.device_put((A, TURNED))
logits = jax.jit(tied)


@cache
def labels():
    return np.asarray(logits(A, X)).argmax(-1)


def test_the_larger_network_computes_the_same():
    larger = loosened(tied, A, X)
    assert larger.constraints == ("stream", "ties")
    variables = larger.variables(A, X)
    assert {name.split()[0]: leaf.shape for name, leaf in variables["free"].items()} == {
        "stream": (8, 8),
        "ties": (5, 8),
    }
    np.testing.assert_array_equal(larger.apply(variables, X[:3]), tied(A, X[:3]))


def test_matrices_are_on_skip_connections_and_copies_where_an_array_is_read_again():
    network = models.build({"name": "gpt", "blocks": 2, "heads": 2, "width": 1 / 16}, (6,), 9)
    tokens = np.arange(12).reshape(2, 6) % 9
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape), network.shapes(tokens))
    larger = loosened(network.apply, variables, tokens)
    assert [edge.constraint for edge in larger.edges] == ["stream"] * 4 + ["ties"]
    again = larger.with_again("stream")
    assert again.constraints == ("ties",)
    found = jax.jit(again.apply)(again.variables(variables, tokens), tokens)
    np.testing.assert_allclose(found, jax.jit(network.apply)(variables, tokens), atol=1e-5)


def test_a_network_without_branches_has_no_constraints():
    weights = {"in": normal(5, 8), "out": normal(8, 3)}
    assert loosened(lambda w, x: jnp.tanh(x @ w["in"]) @ w["out"], weights, X).edges == ()


def test_each_block_of_the_larger_network_turns_by_itself():
    larger = loosened(tied, A, X)
    found = symmetries(larger.apply, larger.variables(A, X), X)
    assert sum(action.kind == "orthogonal" for action in found.actions.values()) == 3
    assert sum(action.kind == "orthogonal" for action in symmetries(tied, A, X).actions.values()) == 1


def loss(w):
    scores = np.float64(logits(w, X))
    return np.mean(np.log(np.exp(scores).sum(-1)) - scores[np.arange(len(X)), labels()])


def test_a_ladder_goes_on_from_the_rungs_that_were_kept():
    matched, kept = [], []

    def counted(key, problem, options):
        matched.append(len(jax.tree.leaves(problem.a)))
        return by_weights(key, problem, options)

    def climb(known=()):
        return constraint_ladder(
            jax.random.key(0),
            A,
            TURNED,
            method=counted,
            apply=tied,
            loss_of=lambda apply: partial(cross_entropy, apply),
            batches=lambda: masked_batches([(X, labels())]),
            inputs=lambda: [X],
            known=known,
            keep=lambda rungs: kept.append(tuple(rungs)),
        )

    rungs = climb()
    assert [len(own) for own in kept] == [1, 2, 3]
    assert climb(known=kept[1]) == rungs == kept[-1]
    assert matched == [len(A) + 3, len(A) + 1, len(A), len(A)]


def test_what_ties_forbid_is_the_cost_of_ties_and_costs_sum_to_the_barrier_of_the_ordinary_line():
    batches = [(X, labels())]
    rungs = llfc_jax.constraint_ladder(tied, A, TURNED, batches)
    assert [rung.added for rung in rungs] == [FREE, STREAM, TIES]
    aligned = llfc_jax.align(tied, A, TURNED, batches, method="procrustes_matching").variables
    barrier = loss(lerp(A, aligned, 0.5)) - (loss(A) + loss(TURNED)) / 2
    assert rungs[-1].barrier == pytest.approx(barrier, abs=1e-5)
    assert sum(rung.cost for rung in rungs) == pytest.approx(barrier, abs=1e-5)
    assert barrier > 0.01
    assert abs(rungs[1].barrier) < 1e-3
    assert max(rungs, key=lambda rung: rung.cost).added == TIES
