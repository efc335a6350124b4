import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.corrections.channel_moments import add_batch, no_batches, whole


def statistics_of(batch):
    return {"stage": {"mean": jnp.mean(batch, 0), "var": jnp.var(batch, 0)}}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_moments_of_batches_are_those_of_all_their_examples(count):
    """Far from zero, where a difference of mean squares would cancel, and drifting from batch to batch."""
    rng = np.random.default_rng(count)
    batches = rng.normal(size=(count, 50, 6)) + 300 + rng.normal(size=(count, 1, 6))
    batches = batches.astype(np.float32)
    moments = no_batches(jax.eval_shape(statistics_of, batches[0]))
    for batch in batches:
        moments = jax.jit(add_batch)(moments, statistics_of(batch))
    together = batches.reshape(-1, 6).astype(np.float64)
    found = whole(moments)["stage"]
    np.testing.assert_allclose(found["mean"], together.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["var"], together.var(0), rtol=1e-3)
    assert moments.seen == count


def test_stages_are_kept_apart_and_leading_axes_are_kept():
    rng = np.random.default_rng(0)
    batches = {"wide": rng.normal(size=(3, 20, 4, 8)), "narrow": rng.normal(size=(3, 20, 4, 2))}
    statistics = [
        {
            stage: {"mean": jnp.asarray(x[i].mean(0)), "var": jnp.asarray(x[i].var(0))}
            for stage, x in batches.items()
        }
        for i in range(3)
    ]
    moments = no_batches(statistics[0])
    for one in statistics:
        moments = add_batch(moments, one)
    for stage, x in batches.items():
        together = x.reshape(60, *x.shape[2:])
        np.testing.assert_allclose(whole(moments)[stage]["mean"], together.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(whole(moments)[stage]["var"], together.var(0), rtol=1e-5)
