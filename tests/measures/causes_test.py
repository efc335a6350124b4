"""The causes of LLFC against float64 NumPy, on a network with every kind of layer, and their identities."""

from functools import cache, partial

import flax.linen as nn
import float64
import jax
import numpy as np
import pytest
import scipy.linalg
from planted import some_permutation

from llfc_jax.data.batches import batches
from llfc_jax.data.dataset import Split
from llfc_jax.measures import commutativity, stitching
from llfc_jax.measures.deviation import ARISING, deviation
from llfc_jax.measures.effective_rank import effective_rank, feature_rank
from llfc_jax.measures.measure import Found
from llfc_jax.measures.principal_angles import principal_angles
from llfc_jax.measures.singular_values import singular_values_along
from llfc_jax.measures.theory import lemma1, theorem1
from llfc_jax.measures.weak_additivity import weak_additivity
from llfc_jax.models.layers import Add, Flatten, MaxPool, ReLU
from llfc_jax.models.network import INPUT, Network, Stage, sequence
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import lerp
from llfc_jax.path.traversal import Planned, measure_path
from llfc_jax.program.reading import read_features
from llfc_jax.symmetry import apply_permutation, permutation_spec

IMAGE, CLASSES, EXAMPLES = (4, 4, 2), 3, 30
ALPHAS = (0.0, 0.3, 0.5, 1.0)


def residual_network(last_norm=None):
    """A block that is added to its entry, pooled, and a dense head."""
    end = "conv2" if last_norm is None else "norm2"
    return Network(
        sequence(
            [
                ("conv0", nn.Conv(4, (3, 3))),
                ("relu0", ReLU()),
                ("conv1", nn.Conv(4, (3, 3), use_bias=False)),
                ("norm1", nn.BatchNorm()),
                ("relu1", ReLU()),
                ("conv2", nn.Conv(4, (3, 3))),
                *([] if last_norm is None else [("norm2", last_norm)]),
                Stage("add", Add(), (end, "relu0")),
                ("relu2", ReLU()),
                ("pool", MaxPool()),
                ("flatten", Flatten()),
                ("dense", nn.Dense(CLASSES)),
            ]
        )
    )


BOTH_NORMS, BATCH_NORM = residual_network(nn.LayerNorm()), residual_network()
"""A LayerNorm, behind which Theorem 1 gives no bound, is in the first alone."""


@cache
def variables_of(network, seed):
    """Drawn so that no parameter or statistic has a special value."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        positive = 0.2 * rng.standard_normal(leaf.shape) ** 2
        if leaf.ndim > 1:
            positive += rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return jax.device_put(np.float32(positive + (path[-1].key in ("scale", "var"))))

    return jax.tree.map_with_path(draw, network.shapes(np.zeros((1, *IMAGE), np.float32)))


def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, *IMAGE), dtype=np.uint8)
    return Split(images, rng.integers(0, CLASSES, EXAMPLES, dtype=np.int32))


def inputs(images):
    return images / 255 - 0.5


@cache
def program_of(network):
    def features_fn(variables, images):
        return network.apply_with_features(variables, inputs(images))

    return read_features(features_fn, variables_of(network, 1), data().images[:8])


@cache
def plan_of(network):
    program = program_of(network)
    return {
        "weak_additivity": Planned(weak_additivity(program), ALPHAS),
        "deviation": Planned(deviation(program), ALPHAS),
        "outputs": Planned(commutativity.commutativity(program), (0.0,)),
        "inputs": Planned(commutativity.inputs_apart(program), (0.0,)),
        "stitching": Planned(stitching.stitching(program), (0.0,)),
        "effective_rank": Planned(feature_rank(program), (0.0, 1.0)),
    }


def measured(network, a, b):
    """Everything, by one program for all pairs; of the network for Theorem 1 the deviation alone."""
    plan = plan_of(network)
    taken = {"deviation": plan["deviation"]} if network is BATCH_NORM else plan
    # Batches of 8 leave a padded one: padding must not count.
    return measure_path(program_of(network), Curve(a, b), batches(data(), 8), taken, chunk=1)


@pytest.fixture(scope="module")
def pair():
    return BOTH_NORMS, variables_of(BOTH_NORMS, 1), variables_of(BOTH_NORMS, 2)


@pytest.fixture(scope="module")
def results(pair):
    return measured(*pair)


@pytest.fixture(scope="module")
def ends(pair):
    network, a, b = pair
    return tuple(float64.forward(network.stages, x, inputs(np.float64(data().images))) for x in (a, b))


def test_weak_additivity_agrees_with_float64(results, ends):
    found = results["weak_additivity"]
    assert [layer["layer"] for layer in found] == ["relu0", "relu1", "relu2"]
    for layer, entry in zip(found, ("conv0", "norm1", "add"), strict=True):
        for index, alpha in enumerate(ALPHAS):
            h_a, h_b = (end[entry].reshape(EXAMPLES, -1) for end in ends)
            u = float64.between(np.maximum(h_a, 0), np.maximum(h_b, 0), alpha)
            v = np.maximum(float64.between(h_a, h_b, alpha), 0)
            cosine = np.sum(u * v) / np.linalg.norm(u) / np.linalg.norm(v)
            dataset = layer["dataset"]
            np.testing.assert_allclose(dataset["cosine_distance"][index], 1 - cosine, rtol=1e-5, atol=1e-12)
            np.testing.assert_allclose(dataset["dist"][index], float64.dist(u, v), rtol=1e-5, atol=1e-12)
            np.testing.assert_allclose(
                dataset["coefficient"][index], np.sum(u * v) / np.sum(v * v), rtol=1e-6
            )
            each = [float64.dist(x, y) for x, y in zip(u, v, strict=True)]
            np.testing.assert_allclose(layer["dist"]["mean"][index], np.mean(each), rtol=1e-5, atol=1e-12)
            np.testing.assert_allclose(layer["dist"]["std"][index], np.std(each), rtol=1e-4, atol=1e-12)


def test_at_a_half_weak_additivity_is_that_of_the_sums(results, ends):
    at_a_half = results["weak_additivity"][1]["dataset"]["dist"][ALPHAS.index(0.5)]
    h_a, h_b = (end["norm1"] for end in ends)
    u, v = np.maximum(h_a, 0) + np.maximum(h_b, 0), np.maximum(h_a + h_b, 0)
    np.testing.assert_allclose(at_a_half, float64.dist(u, v), rtol=1e-5)


def test_commutativity_agrees_with_the_four_products_in_float64(results, pair, ends):
    network, a, b = pair
    layers = commutativity.join(
        results["outputs"], results["inputs"], commutativity.weights_apart(program_of(network), a, b)
    )
    stages = {stage.name: stage for stage in network.stages}
    assert [layer["layer"] for layer in layers] == ["conv0", "conv1", "conv2", "dense"]
    for layer in layers:
        stage = stages[layer["layer"]]
        h_a, h_b = (end[stage.inputs[0]] for end in ends)
        product = partial(float64.apply, stage, bias=False)
        left, right = product(a, h_a) + product(b, h_b), product(a, h_b) + product(b, h_a)
        np.testing.assert_allclose(
            layer["dist_com"]["dataset"], float64.dist(left, right), rtol=1e-5, atol=1e-12
        )
        np.testing.assert_allclose(layer["dist_h"]["dataset"], float64.dist(h_a, h_b), rtol=1e-5)
        kernels = (np.float64(x["params"][stage.name]["kernel"]) for x in (a, b))
        np.testing.assert_allclose(layer["dist_w"], float64.dist(*kernels), rtol=1e-6)


def test_the_parts_of_the_deviation_are_those_of_float64_and_sum_to_the_whole(results, pair, ends):
    network, a, b = pair
    stages = {stage.name: stage for stage in network.stages}
    kinds = {node.name: node.kind for node in program_of(network).nodes}
    images = inputs(np.float64(data().images))
    for index, alpha in enumerate(ALPHAS[1:3], start=1):
        theta = float64.lerp_tree(a, b, alpha)
        features = float64.forward(network.stages, theta, images)
        middle = {name: float64.between(ends[0][name], ends[1][name], alpha) for name in features}
        for layer in results["deviation"]:
            stage = stages[layer["layer"]]
            whole = features[stage.name] - middle[stage.name]
            if stage.kind in ("dense", "conv"):
                (entry,) = stage.inputs
                deviations = features[entry] - middle[entry]
                inherited = float64.apply(stage, theta, deviations, bias=False)
                difference = {
                    "params": jax.tree.map(lambda x, y: np.float64(x) - np.float64(y), a, b)["params"]
                }
                own = (
                    -alpha
                    * (1 - alpha)
                    * float64.apply(stage, difference, ends[0][entry] - ends[1][entry], bias=False)
                )
            else:
                linear = float64.apply(stage, theta, *(middle[name] for name in stage.inputs))
                inherited, own = features[stage.name] - linear, linear - middle[stage.name]
            np.testing.assert_allclose(inherited + own, whole, atol=1e-12)
            size = np.linalg.norm(middle[stage.name])
            np.testing.assert_allclose(
                layer["deviation"][index], np.linalg.norm(whole) / size, rtol=1e-4, atol=1e-6
            )
            parts = {"propagated": inherited} | (
                {arising: own} if (arising := ARISING.get(kinds[stage.name])) else {}
            )
            assert layer["norms"].keys() == layer["shares"].keys() == parts.keys()
            for name, part in parts.items():
                expected = np.linalg.norm(part) / size
                np.testing.assert_allclose(layer["norms"][name][index], expected, rtol=1e-3, atol=1e-4)
                if np.linalg.norm(whole) > 1e-6 * size:
                    share = np.sum(part * whole) / np.sum(whole**2)
                    np.testing.assert_allclose(layer["shares"][name][index], share, atol=1e-4)


def test_shares_sum_to_one_and_the_ends_deviate_nowhere(results):
    for layer in results["deviation"]:
        assert layer["deviation"][0] == layer["deviation"][-1] == 0
        shares = np.sum(list(layer["shares"].values()), axis=0)
        assert np.isnan(shares[[0, -1]]).all()
        if layer["layer"] != "conv0":  # exactly linear: no deviation to share out
            np.testing.assert_allclose(shares[1:3], 1, atol=1e-6)


def test_stitching_agrees_with_running_each_stitched_network_in_float64(results, pair, ends):
    network, a, b = pair
    rows = stitching.join(results["stitching"], program_of(network))
    assert [row["layer"] for row in rows] == [stage.name for stage in network.stages if stage.is_feature]
    labels = data().labels
    for row in rows:
        cut = [stage.name for stage in network.stages].index(row["layer"])
        for direction, prefix, suffix in (("prefix_a", ends[0], b), ("prefix_b", ends[1], a)):
            values = {name: prefix[name] for name in [INPUT, *(s.name for s in network.stages[: cut + 1])]}
            for stage in network.stages[cut + 1 :]:
                values[stage.name] = float64.apply(stage, suffix, *(values[name] for name in stage.inputs))
            logits = values["dense"]
            losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(EXAMPLES), labels]
            np.testing.assert_allclose(row[direction]["loss"], losses.mean(), rtol=1e-5)
            np.testing.assert_allclose(
                row[direction]["error"], np.mean(logits.argmax(-1) != labels), rtol=1e-5
            )


def test_principal_angles_agree_with_scipy_and_vanish_between_equal_weights(pair):
    network, a, b = pair
    found = principal_angles(program_of(network), a, b, k=2)
    for layer in found:
        matrices = [np.float64(x["params"][layer["layer"]]["kernel"]) for x in (a, b)]
        (u_a, _, v_a), (u_b, _, v_b) = (
            scipy.linalg.svd(np.moveaxis(m, -1, 0).reshape(m.shape[-1], -1)) for m in matrices
        )
        left = np.degrees(scipy.linalg.subspace_angles(u_a[:, :2], u_b[:, :2]))
        right = np.degrees(scipy.linalg.subspace_angles(v_a[:2].T, v_b[:2].T))
        np.testing.assert_allclose(layer["left"], np.sort(left), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(layer["right"], np.sort(right), rtol=1e-6, atol=1e-6)
    for layer in principal_angles(program_of(network), a, a, k=2):
        np.testing.assert_allclose(layer["left"] + layer["right"], 0, atol=1e-5)


def test_effective_ranks_agree_with_float64(results, pair, ends):
    network, a, b = pair
    for layer, ranks in results["effective_rank"].items():
        for rank, end in zip(ranks, ends, strict=True):
            values = np.linalg.svd(end[layer].reshape(-1, end[layer].shape[-1]), compute_uv=False)
            np.testing.assert_allclose(rank, effective_rank(values), rtol=1e-3, err_msg=layer)
    for layer, (found,) in singular_values_along(pair_of(network, a, b), (0.0,)).items():
        kernel = np.float64(a["params"][layer]["kernel"])
        values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        np.testing.assert_allclose(effective_rank(found), effective_rank(values), rtol=1e-9)


def pair_of(network, a, b):
    return Found(program_of(network), Curve(a, b), folds={}, entries={}, shared={})


def theorem1_on(network, a, b, layers):
    return theorem1(pair_of(network, a, b), {"alphas": ALPHAS, "layers": layers})


def test_a_network_with_itself_deviates_nowhere(pair):
    network, a, _ = pair
    found = measured(network, a, a)
    for layer in (*found["weak_additivity"], *found["outputs"], *found["inputs"]):
        np.testing.assert_allclose(layer["dist"]["mean"], 0, atol=1e-12)
        np.testing.assert_allclose(layer["dataset"]["dist"], 0, atol=1e-12)
    for layer in found["deviation"]:
        np.testing.assert_allclose(layer["deviation"], 0, atol=1e-6)
    for direction in stitching.DIRECTIONS:
        losses = found["stitching"][direction]["loss"]
        np.testing.assert_allclose(losses, losses[-1], rtol=1e-6)


def test_permuting_both_networks_alike_changes_nothing(results, pair):
    network, a, b = pair
    spec = permutation_spec(network.apply, a, np.float32(inputs(data().images[:2])))
    permutation = some_permutation(5, spec)
    after = measured(network, *(apply_permutation(spec, permutation, x) for x in (a, b)))
    # Where nothing deviates, shares of rounding are NaN in one and may not be in the other.
    leaves = [jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, str)) for found in (results, after)]
    for one, other in zip(*leaves, strict=True):
        if not isinstance(one, str) and not np.isnan([one, other]).any():
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5)


def test_theorem_1_bounds_every_layer_and_is_zero_where_its_premises_hold():
    network = BATCH_NORM
    a, b = variables_of(network, 1), variables_of(network, 2)
    for other in (b, lerp(a, b, 0.1)):
        layers = measured(network, a, other)["deviation"]
        found = theorem1_on(network, a, other, layers)
        assert found["holds"]
        for layer in found["layers"]:
            assert layer["holds"], layer
    same = measured(network, a, a)["deviation"]
    for layer in theorem1_on(network, a, a, same)["layers"]:
        np.testing.assert_allclose(layer["bound"], 0, atol=1e-4)


def test_theorem_1_gives_no_bound_behind_a_layer_norm(results, pair):
    whole = theorem1_on(*pair, results["deviation"])
    assert whole["holds"] is None
    found = {layer["layer"]: layer for layer in whole["layers"]}
    assert found["conv1"]["holds"] is found["norm1"]["holds"] is True
    assert found["norm2"]["holds"] is found["dense"]["holds"] is None


def test_a_path_that_breaks_lemma_1_is_said_to():
    assert lemma1({"error": [0.1, 0.19, 0.1]})["holds"]
    assert lemma1({"error": [0.1, np.nextafter(0.2, 1), 0.1]})["holds"]
    assert not lemma1({"error": [0.1, 0.21, 0.1]})["holds"]
