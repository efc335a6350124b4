from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from llfc_jax import models
from llfc_jax.corrections.batchnorm import recompute, recompute_by
from llfc_jax.data.batches import batches
from llfc_jax.data.dataset import Split
from llfc_jax.errors import UserError
from llfc_jax.models.network import with_statistics
from llfc_jax.path.curves import Curve
from llfc_jax.program.reading import read
from llfc_jax.types import Batch

IMAGE, BATCH = (3, 3, 1), 16
ALPHAS = (0.0, 0.5, 1.0)
NETWORK = models.build({"name": "mlp", "hidden": (6, 5), "norm": "batch"}, IMAGE, 4)


def batch_statistics(variables, images):
    return NETWORK.apply_train(variables, images / 255, key=None, momentum=0.0)[1]


def network(seed):
    return NETWORK.init(jax.random.key(seed), jnp.zeros((1, *IMAGE)))


def split(examples):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (examples, *IMAGE), dtype=np.uint8)
    return Split(images, np.zeros(examples, np.int32))


def along_path(a, examples):
    correction = recompute_by(batch_statistics, with_statistics)
    program = read(NETWORK.apply, a, jnp.zeros((1, *IMAGE)))
    return correction.statistics(
        program, Curve(a, network(2)), ALPHAS, lambda: batches(split(examples), BATCH)
    )


@cache
def recomputed(examples):
    return along_path(network(1), examples)


def before_first_norm(alpha, examples):
    """Outputs of the first linear layer of theta_alpha, in float64."""
    ends = (network(seed)["params"]["dense1"] for seed in (1, 2))
    layer = jax.tree.map(lambda x, y: (1 - alpha) * np.float64(x) + alpha * np.float64(y), *ends)
    return split(examples).images.reshape(examples, -1) / 255 @ layer["kernel"] + layer["bias"]


@pytest.mark.parametrize("examples", [BATCH, 3 * BATCH], ids=["one batch", "several batches"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_statistics_of_the_first_norm_are_those_of_the_whole_data(alpha, examples):
    found, values = recomputed(examples)[alpha]["norm1"], before_first_norm(alpha, examples)
    np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["var"], values.var(0), rtol=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_deeper_norms_see_what_training_would_feed_them(alpha):
    ends = [network(seed)["params"] for seed in (1, 2)]
    params = jax.tree.map(lambda x, y: (1 - alpha) * np.float64(x) + alpha * np.float64(y), *ends)
    values = before_first_norm(alpha, BATCH)
    values = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
    values = np.maximum(values * params["norm1"]["scale"] + params["norm1"]["bias"], 0)
    values = values @ params["dense2"]["kernel"] + params["dense2"]["bias"]
    found = recomputed(BATCH)[alpha]["norm2"]
    np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], values.var(0), rtol=1e-3)


def test_an_incomplete_batch_is_left_out():
    whole, odd = recomputed(2 * BATCH), recomputed(2 * BATCH + 5)
    jax.tree.map(np.testing.assert_array_equal, whole, odd)


def test_without_a_complete_batch_there_is_nothing_to_say():
    with pytest.raises(ValueError, match="expected a complete one"):
        recomputed(BATCH - 1)


def test_old_running_statistics_have_no_say():
    rubbish = jax.tree.map(lambda leaf: leaf + 100, network(1)["batch_stats"])
    found = along_path(with_statistics(network(1), rubbish), BATCH)
    jax.tree.map(np.testing.assert_array_equal, recomputed(BATCH), found)


def test_a_network_with_recomputed_statistics_keeps_its_parameters():
    a = network(1)
    mended = with_statistics(a, recomputed(BATCH)[0.0])
    assert mended["params"] is a["params"]
    assert jax.tree.structure(mended) == jax.tree.structure(a)


def test_any_training_mode_gives_the_same_statistics_whatever_its_momentum():
    """Linen's, with a momentum of its own, against the zoo's, which is asked for the batch alone."""

    def apply_train(variables, images):
        logits, statistics = NETWORK.apply_train(variables, images / 255, key=None)
        return logits, {"batch_stats": statistics}

    correction = recompute(apply_train)
    program = read(NETWORK.apply, network(1), jnp.zeros((1, *IMAGE)))
    stream = lambda: batches(split(3 * BATCH), BATCH)  # noqa: E731
    found = correction.statistics(program, Curve(network(1), network(2)), ALPHAS, stream)
    for alpha, expected in recomputed(3 * BATCH).items():
        mended = correction.mend(network(1), found[alpha])
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
            mended,
            with_statistics(network(1), expected),
        )


def test_an_nnx_network_is_recomputed_through_its_own_training_mode():
    model = nnx.Sequential(
        nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.BatchNorm(3, momentum=0.7, rngs=nnx.Rngs(0))
    )
    graph, state = nnx.split(model)

    def apply_train(state, x):
        model = nnx.merge(graph, state)
        model.train()
        outputs = model(x)
        return outputs, nnx.split(model)[1]

    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    stream = lambda: [Batch(x[i : i + 20], None, jnp.ones(20)) for i in (0, 20)]  # noqa: E731
    correction = recompute(apply_train)
    with jax.numpy_rank_promotion("allow"):
        (found,) = correction.statistics(None, Curve(state, state), (0.0,), stream).values()
    mended = nnx.to_pure_dict(correction.mend(state, found))
    layer = jax.tree.map(np.float64, nnx.to_pure_dict(state)["layers"][0])
    hidden = np.float64(x) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(mended["layers"][1]["mean"], hidden.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mended["layers"][1]["var"], hidden.var(0), rtol=1e-4)


def test_statistics_by_pytorchs_names_are_each_of_their_own_module():
    """Two norms of one size in a flat state dict, and a module with two kinds of statistics of its own."""
    names = {"one.running": 1.0, "body.0.two.running": 2.0, "own.first": 3.0, "own.last": 4.0}
    variables = {f"{name}_{which}": jnp.zeros(3) for name in names for which in ("mean", "var")}

    def apply_train(variables, x):
        seen = {f"{name}_mean": (factor * x).mean(0) for name, factor in names.items()}
        seen |= {f"{name}_var": (factor * x).var(0) for name, factor in names.items()}
        return x, {path: 0.9 * leaf + 0.1 * seen[path] for path, leaf in variables.items()}

    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    batch = Batch(x, np.zeros(20, np.int32), np.ones(20, np.float32))
    correction = recompute(apply_train)
    (found,) = correction.statistics(None, Curve(variables, variables), (0.0,), lambda: [batch]).values()
    mended = correction.mend(variables, found)
    for name, factor in names.items():
        np.testing.assert_allclose(mended[f"{name}_mean"], factor * x.mean(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mended[f"{name}_var"], factor**2 * x.var(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("apply_train", "line"),
    [
        (lambda v, x: x, "apply_train: expected .outputs, updated variables."),
        (lambda v, x: (x, {}), "apply_train: expected updated statistics, such as .*; found none"),
        (lambda v, x: (x, {"params": v["params"]}), "apply_train: expected updated statistics"),
        (
            lambda v, x: (x, {"batch_stats": v["batch_stats"]}),
            "apply_train: expected it to update the statistics of batch_stats/norm1; found them unmoved",
        ),
    ],
)
def test_a_training_mode_without_statistics_is_refused(apply_train, line):
    with pytest.raises(UserError, match=line):
        recompute(apply_train).statistics(
            None, Curve(network(1), network(2)), ALPHAS, lambda: batches(split(BATCH), BATCH)
        )
