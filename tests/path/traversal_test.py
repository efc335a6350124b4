"""The one pass against a plain float64 NumPy account of the same network and measures."""

import float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import models
from llfc_jax.data.batches import batches
from llfc_jax.data.dataset import Split
from llfc_jax.measures.comparison import QUARTILES
from llfc_jax.measures.fold import Fold, Point, Tally
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import barrier, lmc
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import alpha_grid
from llfc_jax.path.traversal import Planned, measure_path, view
from llfc_jax.program.flat import arguments, run
from llfc_jax.program.reading import read_features

IMAGE, CLASSES, EXAMPLES = (3, 3, 1), 4, 50
ALPHAS, LLFC_ALPHAS = alpha_grid(5), (0.25, 0.4, 0.5)
NETWORK = models.build({"name": "mlp", "hidden": (6,)}, IMAGE, CLASSES)
LAYERS = {stage.name: stage.kind for stage in NETWORK.stages if stage.is_feature}
PLAN = {
    "lmc": Planned(lmc(), ALPHAS),
    "llfc": Planned(llfc(LAYERS), LLFC_ALPHAS),
    "baseline": Planned(baseline(LAYERS, LLFC_ALPHAS), (0.0,)),
}


def inputs(images):
    return images / 255 - 0.5


def features_fn(variables, images):
    return NETWORK.apply_with_features(variables, inputs(images))


def network(seed):
    return NETWORK.init(jax.random.key(seed), jnp.zeros((1, *IMAGE)))


def data():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (EXAMPLES, *IMAGE), dtype=np.uint8)
    return Split(images, generator.integers(0, CLASSES, EXAMPLES, dtype=np.int32))


def program_of(features_fn=features_fn, batch_size=20):
    return read_features(features_fn, network(1), data().images[:batch_size])


def found(a, b, batch_size=20, plan=PLAN, features_fn=features_fn, **options):
    program = program_of(features_fn, batch_size)
    return measure_path(program, Curve(a, b), batches(data(), batch_size), plan, **options)


def numpy_forward(variables):
    """All features in float64."""
    x, features = inputs(np.float64(data().images)).reshape(EXAMPLES, -1), {}
    for index in (1, 2):
        layer = variables["params"][f"dense{index}"]
        x = features[f"dense{index}"] = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
        if index < 2:
            x = features[f"relu{index}"] = np.maximum(x, 0)
    return features


def numpy_at(a, b, alpha):
    return numpy_forward(jax.tree.map(lambda x, y: (1 - alpha) * np.float64(x) + alpha * np.float64(y), a, b))


def numpy_lmc(a, b):
    labels = data().labels
    logits = [numpy_at(a, b, alpha)["dense2"] for alpha in ALPHAS]
    losses = [(np.log(np.exp(z).sum(-1)) - z[np.arange(EXAMPLES), labels]).mean() for z in logits]
    return losses, [(z.argmax(-1) != labels).mean() for z in logits]


@pytest.fixture(scope="module")
def pair():
    return network(1), network(2)


@pytest.fixture(scope="module")
def results(pair):
    return found(*pair)


def close_pair():
    """Two networks whose features differ by some percent."""
    a = network(1)
    return a, jax.tree.map(lambda x, y: x + 0.07 * y, a, network(2))


def test_curves_and_barriers_agree_with_float64(pair, results):
    losses, errors = numpy_lmc(*pair)
    np.testing.assert_allclose(results["lmc"]["loss"], losses, rtol=1e-6)
    np.testing.assert_allclose(results["lmc"]["error"], errors, rtol=1e-6)
    np.testing.assert_allclose(results["lmc"]["loss_barrier"], barrier(ALPHAS, losses), atol=1e-6)
    np.testing.assert_allclose(results["lmc"]["error_barrier"], barrier(ALPHAS, errors), atol=1e-6)
    middle = losses[ALPHAS.index(0.5)] - (losses[0] + losses[-1]) / 2
    np.testing.assert_allclose(results["lmc"]["loss_midpoint_gap"], middle, atol=1e-6)


def tolerance(statistic):
    """Quartiles are known to a bin, and between samples in either manner."""
    return 0.15 if statistic in QUARTILES else 1e-5


def test_llfc_agrees_with_float64_at_every_layer_and_alpha(pair, results):
    a, b = (numpy_forward(variables) for variables in pair)
    assert [layer["layer"] for layer in results["llfc"]] == list(LAYERS)
    for index, alpha in enumerate(LLFC_ALPHAS):
        features = numpy_at(*pair, alpha)
        for layer in results["llfc"]:
            name = layer["layer"]
            if name == "dense1":  # linear in theta: its distance is rounding
                continue
            expected = float64.comparison(features[name], (1 - alpha) * a[name] + alpha * b[name])
            for group, values in expected.items():
                for key, value in values.items():
                    np.testing.assert_allclose(
                        layer[group][key][index],
                        value,
                        rtol=tolerance(key),
                        err_msg=f"{name} {alpha} {group} {key}",
                    )


def test_networks_are_run_in_full_float32_whatever_precision_is_set(pair):
    seen = []

    def noting(variables, images):
        seen.append(jax.config.jax_default_matmul_precision)
        return features_fn(variables, images)

    with jax.default_matmul_precision("bfloat16"):
        found(*pair, plan={"lmc": PLAN["lmc"]}, features_fn=noting)
    assert set(seen) == {"highest"}


def test_the_baseline_agrees_with_float64(pair, results):
    a, b = (numpy_forward(variables) for variables in pair)
    for layer in join(results["llfc"], results["baseline"]):
        expected = float64.comparison(a[layer["layer"]], b[layer["layer"]])
        mean, std, dataset = (layer["baseline"][key] for key in ("mean", "std", "dataset"))
        np.testing.assert_allclose(
            [mean, std], [expected["cosine_distance"][key] for key in ("mean", "std")], rtol=1e-5
        )
        np.testing.assert_allclose(dataset, expected["dataset"]["cosine_distance"], rtol=1e-5)


def test_the_first_layer_is_linear_in_theta_so_its_distance_is_0_for_any_pair(results):
    first = results["llfc"][0]
    assert first["layer"] == "dense1"
    assert max(first["cosine_distance"]["mean"]) < 1e-12
    np.testing.assert_allclose(first["coefficient"]["mean"], 1, atol=1e-6)
    assert results["baseline"][0]["cosine_distance"]["mean"][0] > 0.1


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_the_ends_of_the_path_are_its_networks_exactly(end, pair):
    layers = found(*pair, plan={"llfc": Planned(llfc(LAYERS), (end,))})["llfc"]
    for layer in layers:
        assert {value for values in layer["cosine_distance"].values() for value in values} == {0}
        assert layer["coefficient"]["mean"] == [1]


def test_a_network_is_connected_to_itself():
    a = network(1)
    result = found(a, a)
    assert result["lmc"]["loss_barrier"] < 1e-6
    assert result["lmc"]["error_barrier"] < 1e-6
    for layer in result["llfc"] + result["baseline"]:
        assert max(layer["cosine_distance"]["mean"]) < 1e-12, layer["layer"]
        assert max(layer["dataset"]["cosine_distance"]) < 1e-12, layer["layer"]
        np.testing.assert_allclose(layer["coefficient"]["mean"], 1, atol=1e-6)


def test_tiny_distances_keep_their_digits():
    a, b = close_pair()
    layer = next(layer for layer in found(a, b)["llfc"] if layer["layer"] == "dense2")
    u, (f_a, f_b) = numpy_at(a, b, 0.5)["dense2"], (numpy_forward(x)["dense2"] for x in (a, b))
    expected = float64.comparison(u, (f_a + f_b) / 2)["cosine_distance"]["mean"]
    assert 1e-7 < expected < 1e-5
    np.testing.assert_allclose(layer["cosine_distance"]["mean"][2], expected, rtol=1e-4)


def assert_close(left, right):
    for (path, x), (_, y) in zip(*map(jax.tree.leaves_with_path, (left, right)), strict=True):
        assert x == y if isinstance(x, str) else x == pytest.approx(y, rel=1e-5, abs=1e-7), path


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_of_alphas_change_nothing(chunk, pair, results):
    assert_close(found(*pair, chunk=chunk), results)


def test_batches_of_another_size_and_padding_give_the_same(pair, results):
    assert_close(found(*pair, batch_size=7), results)


@pytest.mark.parametrize(
    ("plan", "passes"),
    [
        (PLAN, len({*ALPHAS, *LLFC_ALPHAS})),
        ({"lmc": PLAN["lmc"]}, len(ALPHAS)),
        ({"llfc": Planned(llfc(LAYERS), (0.5,))}, 1 + 2),
    ],
    ids=["all", "LMC, which has the ends", "LLFC, which needs them"],
)
def test_a_batch_costs_a_forward_pass_per_alpha_and_end(plan, passes, pair):
    seen = []

    def counted(variables, images):
        kernel = variables["params"]["dense1"]["kernel"]
        jax.debug.callback(lambda x: seen.append(float(x)), kernel[0, 0])
        return features_fn(variables, images)

    found(*pair, plan=plan, features_fn=counted, chunk=2)
    jax.effects_barrier()
    assert len(seen) == 3 * passes
    assert len(set(seen)) == passes


def test_nothing_is_traced_again_for_more_batches_or_another_pair(pair):
    traces = []

    def counted(variables, images):
        traces.append(None)
        return features_fn(variables, images)

    plan, program = {"lmc": PLAN["lmc"]}, program_of(counted)
    once = len(traces)
    for ends in (pair, [*reversed(pair)]):
        measure_path(program, Curve(*ends), batches(data(), 20), plan)
    assert len(traces) == once


def test_what_is_added_on_the_host_is_what_is_added_on_the_devices(pair):
    def total(point):
        return point.alpha + jnp.where(point.mask[:, None] > 0, point.theta.logits, 0).sum()

    def finalize(total, alphas):
        return dict(zip(alphas, total.tolist(), strict=True))

    both = {
        "fold": Fold(lambda point: jnp.zeros(()), lambda seen, point: seen + total(point), finalize),
        "tally": Tally(total, np.add, finalize, empty=0.0),
    }
    plan = {name: Planned(one, (0.0, 0.25, 0.75, 1.0)) for name, one in both.items()}
    totals = found(*pair, plan=plan)
    assert totals["tally"] == pytest.approx(totals["fold"], rel=1e-5)


@pytest.mark.parametrize("name", PLAN)
def test_a_total_is_of_one_size_whatever_the_number_of_samples(name, pair):
    measure = PLAN[name].measure

    def shapes(examples):
        images = jax.ShapeDtypeStruct((examples, *IMAGE), jnp.uint8)
        program = read_features(features_fn, pair[0], images)

        def look(images):
            labels = jnp.zeros(len(images), jnp.int32)
            values = run(program.flat, arguments(program.flat, pair[0], images))
            seen = view(program, pair[0], values, labels)
            return measure.look(Point(program, jnp.float32(0.5), seen, seen, seen, labels, labels))

        seen = jax.tree.map(lambda leaf: np.ones((2, *leaf.shape)), jax.eval_shape(look, images))
        return jax.tree.map(np.shape, measure.add(measure.empty, seen))

    assert shapes(1) == shapes(1000)


def test_a_correction_is_applied_at_its_own_alpha(pair):
    def shift(variables, offset):
        bias = variables["params"]["dense2"]["bias"] + offset
        dense2 = variables["params"]["dense2"] | {"bias": bias}
        return {"params": variables["params"] | {"dense2": dense2}}

    offsets = {alpha: jnp.arange(CLASSES) * alpha for alpha in ALPHAS}
    path, plan = Curve(*pair, offsets), {"lmc": PLAN["lmc"]}
    result = measure_path(program_of(), path, batches(data(), 20), plan, correct=shift)["lmc"]
    logits = [numpy_at(*pair, alpha)["dense2"] + np.arange(CLASSES) * alpha for alpha in ALPHAS]
    labels = data().labels
    losses = [(np.log(np.exp(z).sum(-1)) - z[np.arange(EXAMPLES), labels]).mean() for z in logits]
    np.testing.assert_allclose(result["loss"], losses, rtol=1e-6)


def test_no_batches_is_an_error(pair):
    with pytest.raises(ValueError, match="expected at least one; found none"):
        measure_path(program_of(), Curve(*pair), [], PLAN)
