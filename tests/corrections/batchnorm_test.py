from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import models
from llfc_jax.corrections.batchnorm import recompute_statistics, with_statistics
from llfc_jax.data.batches import batches
from llfc_jax.data.dataset import Split

IMAGE, BATCH = (3, 3, 1), 16
ALPHAS = (0.0, 0.5, 1.0)
NETWORK = models.build({"name": "mlp", "hidden": (6, 5), "norm": "batch"}, IMAGE, 4)


def preprocess(images):
    return images / 255


def network(seed):
    return NETWORK.init(jax.random.key(seed), jnp.zeros((1, *IMAGE)))


def split(examples):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (examples, *IMAGE), dtype=np.uint8)
    return Split(images, np.zeros(examples, np.int32))


def recompute(a, examples):
    stream = batches(split(examples), BATCH)
    return recompute_statistics(NETWORK, preprocess, a, network(2), ALPHAS, stream)


@cache
def recomputed(examples):
    return recompute(network(1), examples)


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
    found = recompute(with_statistics(network(1), rubbish), BATCH)
    jax.tree.map(np.testing.assert_array_equal, recomputed(BATCH), found)


def test_a_network_with_recomputed_statistics_keeps_its_parameters():
    a = network(1)
    mended = with_statistics(a, recomputed(BATCH)[0.0])
    assert mended["params"] is a["params"]
    assert jax.tree.structure(mended) == jax.tree.structure(a)
