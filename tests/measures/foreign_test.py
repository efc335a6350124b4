"""Every measure, on networks that nobody declared, against their programs in float64 and by identities."""

from functools import partial
from typing import Any, NamedTuple

import float64
import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from llfc_jax.measures.commutativity import commutativity, inputs_apart, join, weights_apart
from llfc_jax.measures.deviation import ARISING, deviation
from llfc_jax.measures.effective_rank import effective_rank, feature_rank
from llfc_jax.measures.measure import ANYWHERE, Found
from llfc_jax.measures.principal_angles import principal_angles
from llfc_jax.measures.singular_values import singular_values_along
from llfc_jax.measures.stitching import DIRECTIONS, stitching
from llfc_jax.measures.theory import theorem1
from llfc_jax.measures.weak_additivity import weak_additivity
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.traversal import Planned, measure_path
from llfc_jax.program.flat import arguments, run
from llfc_jax.program.interpreter import evaluate
from llfc_jax.program.landmarks import Kind
from llfc_jax.program.nodes import INPUT, Program
from llfc_jax.program.reading import read
from llfc_jax.symmetry import apply_permutation, permutation_spec, random_permutation
from llfc_jax.types import Batch

ALPHA = 0.3

NONLINEARITIES = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "tanh": np.tanh,
}


class Case(NamedTuple):
    """A network, two sets of weights, and what is measured between them."""

    apply: Any
    program: Program
    a: Any
    b: Any
    batches: list[Batch]
    plan: dict[str, Planned]
    found: dict[str, Any]


class Oracle(NamedTuple):
    """The same network, read again in float64, and all its values on all samples that count."""

    program: Program
    images: Any
    labels: np.ndarray
    weights: dict[str, Any]
    """a, b, theta -> variables."""
    values: dict[str, dict[int, np.ndarray]]

    def resumed(self, name, known, value):
        """A value by the weights of a network, computed from known values onwards."""
        flat = self.program.flat
        producer = {result: i for i, one in enumerate(flat.instructions) for result in one.results}
        with jax.enable_x64(True):
            known = {**arguments(flat, self.weights[name], self.images), **known}
            needed, waiting = set(), [value]
            while waiting:
                seen = waiting.pop()
                if seen not in known and producer[seen] not in needed:
                    needed.add(producer[seen])
                    waiting += flat.instructions[producer[seen]].operands
            return np.asarray(run(flat, known, sorted(needed))[value])

    def contract(self, contraction, weight, entry):
        instruction = self.program.flat.instructions[contraction.instruction]
        given = {contraction.weight: weight, contraction.entry: entry}
        with jax.enable_x64(True):
            (result,) = evaluate(instruction.eqn, [jnp.asarray(given[x]) for x in instruction.operands])
        return np.asarray(result)


def plan_of(program):
    folds = {
        "weak_additivity": (weak_additivity(program), (ALPHA,)),
        "deviation": (deviation(program), (ALPHA,)),
        "outputs": (commutativity(program), ANYWHERE),
        "inputs": (inputs_apart(program), ANYWHERE),
        "stitching": (stitching(program), ANYWHERE),
        "rank": (feature_rank(program), ANYWHERE),
    }
    return {name: Planned(*fold) for name, fold in folds.items()}


@pytest.fixture(autouse=True, scope="module")
def _any_broadcasting():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module", params=foreign.NETWORKS)
def case(request):
    (apply, a, inputs), (_, b, _) = (foreign.NETWORKS[request.param](jax.random.key(i)) for i in (0, 1))
    n = len(inputs)
    labels, mask = jnp.arange(2 * n) % 5, jnp.ones(n)
    batches = [  # of the second the last one is padding
        Batch(inputs, labels[:n], mask),
        Batch(jnp.flip(inputs, 1), labels[n:], mask.at[-1].set(0)),
    ]
    program = read(apply, a, inputs)
    plan = plan_of(program)
    found = measure_path(program, Curve(a, b), batches, plan, chunk=1)
    return Case(apply, program, a, b, batches, plan, found)


@pytest.fixture(scope="module")
def oracle(case):
    def raised(tree):
        return jax.tree.map(lambda x: np.float64(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    images = raised(jnp.concatenate([batch.images for batch in case.batches])[:-1])
    labels = np.concatenate([batch.labels for batch in case.batches])[:-1]
    with jax.enable_x64(True):
        weights = {"a": raised(case.a), "b": raised(case.b)}
        weights["theta"] = lerp(*weights.values(), ALPHA)
        program = read(case.apply, weights["a"], images)
        values = {
            name: run(program.flat, arguments(program.flat, own, images)) for name, own in weights.items()
        }
        values = {
            name: {
                i: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
                for i, x in own.items()
            }
            for name, own in values.items()
        }
    assert [node.name for node in program.nodes] == [node.name for node in case.program.nodes]
    return Oracle(program, images, labels, weights, values)


def between(oracle, value):
    return float64.between(oracle.values["a"][value], oracle.values["b"][value], ALPHA)


def size(x):
    return np.linalg.norm(x)


def loss(logits, labels):
    return np.mean(scipy.special.logsumexp(logits, axis=-1) - logits[np.arange(len(labels)), labels])


def test_deviations_are_those_of_float64_and_their_parts_sum_to_the_whole(case, oracle):
    rows = {row["layer"]: row for row in case.found["deviation"]}
    assert [*rows] == [node.name for node in case.program.features if node.sample_axis is not None]
    for node in (oracle.program[name] for name in rows):
        row, middle = rows[node.name], between(oracle, node.value)
        value = oracle.values["theta"][node.value]
        of_linear = {entry: between(oracle, entry) for entry in node.entries}
        linear = oracle.resumed("theta", of_linear, node.value)
        parts = {"propagated": value - linear, ARISING.get(node.kind): linear - middle}
        scale, whole = size(middle), size(value - middle)
        np.testing.assert_allclose(row["deviation"], whole / scale, rtol=1e-3, atol=1e-5, err_msg=node.name)
        assert row["norms"].keys() == row["shares"].keys() == parts.keys() - {None}, node.name
        for name, part in parts.items():
            if name is None:
                assert size(part) <= 1e-12 * scale, node.name
                continue
            np.testing.assert_allclose(
                row["norms"][name], size(part) / scale, rtol=2e-3, atol=1e-4, err_msg=node.name
            )
            if whole > 1e-4 * scale:
                share = np.vdot(part, value - middle) / whole**2
                np.testing.assert_allclose(row["shares"][name], share, rtol=1e-3, atol=2e-3)
        if whole > 1e-4 * scale:
            np.testing.assert_allclose(sum(share[0] for share in row["shares"].values()), 1, atol=1e-5)


def test_weak_additivity_is_that_of_the_nonlinearity_applied_in_float64(case, oracle):
    rows = {row["layer"]: row for row in case.found["weak_additivity"]}
    assert [*rows] == [node.name for node in case.program.of_kind(Kind.NONLINEARITY)]
    for node in (oracle.program[name] for name in rows):
        sigma, (entry,) = NONLINEARITIES[node.label], node.entries
        h_a, h_b = (oracle.values[name][entry] for name in ("a", "b"))
        if INPUT in node.inputs:  # the first of DenseNet's sees the image beside its first features
            h_a, h_b = (np.concatenate([oracle.images, h], -1) for h in (h_a, h_b))
        u = float64.between(sigma(h_a), sigma(h_b), ALPHA)
        v = sigma(float64.between(h_a, h_b, ALPHA))
        expected, row = float64.comparison(u, v), rows[node.name]
        for quantity in ("cosine_distance", "coefficient", "dist"):
            np.testing.assert_allclose(
                row["dataset"][quantity], expected["dataset"][quantity], rtol=1e-3, atol=1e-8
            )
            np.testing.assert_allclose(
                row[quantity]["mean"], expected[quantity]["mean"], rtol=1e-3, atol=1e-8
            )


def test_commutativity_is_that_of_the_four_products_in_float64(case, oracle):
    of_weights = weights_apart(case.program, case.a, case.b)
    rows = {row["layer"]: row for row in join(case.found["outputs"], case.found["inputs"], of_weights)}
    assert [*rows] == [node.name for node in case.program.of_kind(Kind.CONTRACTION)]
    deviations = {row["layer"]: row for row in case.found["deviation"]}
    for node in (oracle.program[name] for name in rows):
        own, row = node.contraction, rows[node.name]
        (w_a, h_a), (w_b, h_b) = (
            (oracle.values[name][own.weight], oracle.values[name][own.entry]) for name in ("a", "b")
        )
        left = oracle.contract(own, w_a, h_a) + oracle.contract(own, w_b, h_b)
        right = oracle.contract(own, w_a, h_b) + oracle.contract(own, w_b, h_a)
        np.testing.assert_allclose(
            row["dist_com"]["dataset"], float64.dist(left, right), rtol=1e-3, atol=1e-10
        )
        np.testing.assert_allclose(row["dist_h"]["dataset"], float64.dist(h_a, h_b), rtol=1e-4, atol=1e-12)
        np.testing.assert_allclose(row["dist_w"], float64.dist(w_a, w_b), rtol=1e-6)
        # What arises in a linear layer is -alpha (1 - alpha) (W_A - W_B)(H_A - H_B).
        arising = ALPHA * (1 - ALPHA) * size(left - right) / size(between(oracle, node.value))
        found = deviations[node.name]["norms"]["commutativity"]
        np.testing.assert_allclose(found, arising, rtol=2e-3, atol=1e-5)


def test_stitching_resumes_one_network_with_what_the_other_has_at_the_cut(case, oracle):
    program = oracle.program
    cuts = [node for node in program.nodes if node.weights and node.value <= program.output]
    for direction, prefix, suffix in zip(DIRECTIONS, "ab", "ba", strict=True):
        losses, errors = (case.found["stitching"][direction][name] for name in ("loss", "error"))
        for index, cut in enumerate(cuts):
            pinned = {x.value: oracle.values[prefix][x.value] for x in program.nodes if x.value <= cut.value}
            logits = oracle.resumed(suffix, pinned, program.output)
            np.testing.assert_allclose(losses[index], loss(logits, oracle.labels), rtol=1e-4)
            np.testing.assert_allclose(errors[index], np.mean(logits.argmax(-1) != oracle.labels), rtol=1e-6)
        whole = loss(oracle.values[prefix][program.output], oracle.labels)
        np.testing.assert_allclose(losses[-1], whole, rtol=1e-4)


def leaf_of(node, variables):
    """The weight of a contraction as it is kept, and how many of its axes, at which end, are the outputs'."""
    path = next(x for x in node.weights if not x.removesuffix("/value").endswith("bias"))
    leaves = {
        jax.tree_util.keystr(p, simple=True, separator="/"): x
        for p, x in jax.tree.leaves_with_path(variables)
    }
    step, _, _ = node.name.partition("/")
    leaf = np.float64(leaves[path])
    return path, leaf[int(step)] if step.isdecimal() else leaf


def matrix_of(node, variables):
    """(out, in), by what each framework says of its weights."""
    path, weight = leaf_of(node, variables)
    name = path.removesuffix("/value").removesuffix("/kernel").rpartition("/")[2]
    if name == "weight":  # Equinox: outputs first
        return weight.reshape(len(weight), -1)
    out = 2 if name in ("query", "key", "value", "wq", "wk", "wv") else 1
    return weight.reshape(-1, np.prod(weight.shape[-out:])).T


def test_ranks_and_principal_angles_agree_with_scipy(case, oracle):
    for name, (rank,) in case.found["rank"].items():
        node = oracle.program[name]
        values = np.moveaxis(oracle.values["a"][node.value], node.unit_axis, -1)
        singular = scipy.linalg.svdvals(values.reshape(-1, values.shape[-1]))
        seen = singular[singular > 3e-4 * singular.max()]  # as far as float32 can tell
        np.testing.assert_allclose(rank, effective_rank(seen), rtol=5e-3, err_msg=name)
    contractions = case.program.of_kind(Kind.CONTRACTION)
    seen = Found(case.program, Curve(case.a, case.b), folds={}, entries={}, shared={})
    along = singular_values_along(seen, ANYWHERE)
    angles = {row["layer"]: row for row in principal_angles(case.program, case.a, case.b, k=2)}
    assert [*angles] == [*along] == [node.name for node in contractions]
    for node in contractions:
        of_a, of_b = (matrix_of(node, variables) for variables in (case.a, case.b))
        singular = scipy.linalg.svdvals(of_a)
        np.testing.assert_allclose(along[node.name][0][: len(singular)], singular, rtol=1e-5, atol=1e-6)
        (u_a, _, v_a), (u_b, _, v_b) = (scipy.linalg.svd(x, full_matrices=False) for x in (of_a, of_b))
        for side, x, y in (("left", u_a, u_b), ("right", v_a.T, v_b.T)):
            expected = np.sort(np.degrees(scipy.linalg.subspace_angles(x[:, :2], y[:, :2])))
            np.testing.assert_allclose(angles[node.name][side], expected, rtol=1e-5, atol=1e-5)


def test_a_network_with_itself_deviates_nowhere(case):
    found = measure_path(case.program, Curve(case.a, case.a), case.batches, case.plan, chunk=1)
    for row in (*found["weak_additivity"], *found["outputs"], *found["inputs"]):
        np.testing.assert_allclose(row["dataset"]["dist"], 0, atol=1e-10)
    for row in found["deviation"]:
        np.testing.assert_allclose(row["deviation"], 0, atol=1e-5)
    for direction in DIRECTIONS:
        losses = found["stitching"][direction]["loss"]
        np.testing.assert_allclose(losses, losses[-1], rtol=1e-5)


def test_permuting_both_networks_alike_changes_nothing(case):
    spec = permutation_spec(case.apply, case.a, case.batches[0].images)
    permutation = random_permutation(jax.random.key(5), spec)
    permute = jax.jit(partial(apply_permutation, spec))
    moved = [permute(permutation, x) for x in (case.a, case.b)]
    assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (moved[0], case.a)), strict=True))
    found = measure_path(case.program, Curve(*moved), case.batches, case.plan, chunk=1)
    # Where nothing deviates, shares of rounding are NaN in one and may not be in the other.
    for one, other in zip(*map(jax.tree.leaves, (case.found, found)), strict=True):
        if not isinstance(one, str) and not np.isnan([one, other]).any():
            np.testing.assert_allclose(one, other, rtol=5e-3, atol=3e-4)


def unbounded(program, exact):
    """The nodes that no gain is known of where their inputs deviate, and those behind them.

    Args:
        program: the network.
        exact: names of nodes that don't deviate.
    """
    found = set()
    for node in program.nodes:
        by_input = node.kind is Kind.NORMALIZATION and not any("mean" in x for x in node.weights)
        curved = node.kind is Kind.NONLINEARITY and node.label not in ("relu", "tanh")
        stretches = by_input or curved or node.kind in (Kind.ATTENTION, Kind.PRODUCT, Kind.OTHER)
        if found & {*node.inputs} or (stretches and not {*node.inputs} <= exact):
            found.add(node.name)
    return found


def test_theorem_1_bounds_the_deviation_wherever_all_gains_are_known(case):
    program = case.program
    seen = Found(program, Curve(case.a, case.b), folds={}, entries={}, shared={})
    found = theorem1(seen, {"alphas": (ALPHA,), "layers": case.found["deviation"]})
    rows = {row["layer"]: row["holds"] for row in found["layers"]}
    assert False not in rows.values()
    # What is linear in the weights doesn't deviate, but for rounding, which may be nothing.
    linear = set()
    for node in program.nodes:
        if node.kind is Kind.EMBEDDING or (node.kind is Kind.SHIFT and {*node.inputs} <= linear):
            linear.add(node.name)
    rounded = {
        node.name
        for node in program.nodes
        if node.kind is Kind.CONTRACTION and {*node.inputs} <= linear | {INPUT}
    }
    without = {name for name, holds in rows.items() if holds is None}
    assert unbounded(program, linear | rounded) & rows.keys() <= without <= unbounded(program, linear)
    assert found["holds"] is (None if without else True)
