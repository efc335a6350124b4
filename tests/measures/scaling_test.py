"""Measures are about directions and ratios: networks whose features are large or small give the same."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import traces

import llfc_jax
from llfc_jax.measures.scaling import in_units, joined, largest, power_near

WIDTHS = (5, 7, 6, 3)
EXAMPLES = 24


def weights(seed):
    rng = np.random.default_rng(seed)
    return [
        {"w": np.float32(rng.normal(size=(fan_in, fan_out))), "b": np.float32(rng.normal(size=fan_out))}
        for fan_in, fan_out in itertools.pairwise(WIDTHS)
    ]


def apply(variables, x):
    for layer in variables[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"][None])
    return x @ variables[-1]["w"] + variables[-1]["b"][None]


def with_features_times(scale, variables):
    """The same function by hidden features that are larger: exactly so, for powers of two."""
    first, *middle, last = variables
    scale = np.float32(scale)
    return [
        jax.tree.map(lambda leaf: leaf * scale, first),
        *({"w": layer["w"], "b": layer["b"] * scale} for layer in middle),
        {"w": last["w"] / scale, "b": last["b"]},
    ]


def measured(scale):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, WIDTHS[0])).astype(np.float32)
    x *= rng.uniform(0.1, 10, (EXAMPLES, 1)).astype(np.float32)  # batches differ in size
    batches = [(x[i : i + 8], np.arange(8) % WIDTHS[-1]) for i in range(0, EXAMPLES, 8)]
    a, b = (with_features_times(scale, weights(seed)) for seed in (1, 2))
    program = llfc_jax.read(apply, a, x[:8])
    with traces() as seen:
        found = llfc_jax.measure(program, a, b, batches, num_alphas=3)
    return by_path(found), seen


def by_path(results):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(results)}


@pytest.fixture(scope="module")
def plain():
    found, traced = measured(1.0)
    assert traced
    return found


@pytest.mark.parametrize("exponent", [60, -60])
def test_features_of_any_size_give_the_same_results_and_measures_made_anew_trace_nothing_new(exponent, plain):
    found, traced = measured(2.0**exponent)  # the program is read anew, too
    assert not traced
    assert found.keys() == plain.keys()
    sized = ("['scale']", "['weights']", "['seconds']", "['peak_memory_bytes']")
    numbers = {path: value for path, value in found.items() if isinstance(value, int | float)}
    relative = [path for path in numbers if not any(name in path for name in sized)]
    assert len(relative) > 300
    for path in relative:
        np.testing.assert_allclose(found[path], plain[path], rtol=1e-6, atol=0, err_msg=path)
    sizes = {path for path in found if "['scale']" in path and found[path] != plain[path]}
    assert sizes
    for path in sizes:
        np.testing.assert_allclose(found[path], plain[path] * 2.0**exponent, rtol=1e-6)


def test_sums_in_units_of_samples_are_those_of_float64():
    sizes = 10.0 ** np.random.default_rng(1).uniform(-25, 25, (4, 6))
    features = (sizes[..., None] * np.random.default_rng(2).normal(size=(4, 6, 3))).astype(np.float32)
    features[0, 1] = 0

    @jax.jit
    def with_one_more(scale, total, batch):
        sizes = largest(batch)
        scale, before, now = joined(scale, power_near(sizes))
        (scaled,) = in_units(sizes, batch)
        return scale, before * total + jnp.sum(now * jnp.square(scaled).sum(-1))

    scale, total = np.float32(0), np.float32(0)
    for batch in features:
        scale, total = with_one_more(scale, total, batch)
    expected = np.sum(np.square(np.float64(features)))
    np.testing.assert_allclose(np.float64(scale) ** 2 * np.float64(total), expected, rtol=1e-6)


def test_what_is_no_number_shows_in_sums():
    (scaled,) = jax.jit(lambda x: in_units(largest(x), x))(np.float32([[1, np.nan], [1, np.inf]]))
    assert not np.isfinite(np.square(scaled).sum(-1)).any()
