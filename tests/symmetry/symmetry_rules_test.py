"""What single operations leave free, and the soundness of any chain of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from planted import some_permutation

from llfc_jax import symmetry
from llfc_jax.symmetry.factors import expand, new_axis
from llfc_jax.symmetry.unification import unify

KERNEL = np.random.default_rng(0).normal(size=(3, 1, 12)).astype(np.float32)
FREE, FIXED = [12], []


def layer_norm(h):
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 0.1)


def pool(h, window, padding="VALID"):
    return lax.reduce_window(h, -jnp.inf, lax.max, window, window, padding)


def depthwise(h, kernel):
    return lax.conv_general_dilated(
        h, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=h.shape[-1]
    )


def grouped_matmul(h):
    blocks = h.reshape(*h.shape[:2], 3, -1)
    return jnp.einsum("btgi,bsgi->btsg", blocks, blocks).reshape(*h.shape[:2], -1)


# operation on h of shape (batch 2, time 4, channels 12) -> the sizes of the channels' permutations
OPERATIONS = {
    "relu": (jax.nn.relu, FREE),
    "gelu": (jax.nn.gelu, FREE),
    "softmax": (jax.nn.softmax, FREE),
    "logsumexp": (lambda h: h - jax.nn.logsumexp(h, -1, keepdims=True), FREE),
    "layer_norm": (layer_norm, FREE),
    "where": (lambda h: jnp.where(h > 0, h, jnp.zeros_like(h)), FREE),
    "clip": (lambda h: jnp.clip(h, -0.5, 1.0), FREE),
    "checkpoint": (jax.checkpoint(lambda h: jnp.sin(h) * h), FREE),
    "barrier": (lambda h: lax.optimization_barrier((h, h + 1))[1], FREE),
    "transpose": (lambda h: jnp.einsum("btc,bsc->bts", h, h), FREE),
    "gram": (lambda h: jnp.einsum("btc,btd->bcd", h, h), FREE),
    "time_sort": (lambda h: jnp.sort(h, axis=1), FREE),
    "time_cumsum": (lambda h: jnp.cumsum(h, axis=1), FREE),
    "time_slice": (lambda h: h[:, 1:, :], FREE),
    "time_index": (lambda h: h[:, -1] + h[:, 2], FREE),
    "time_take": (lambda h: jnp.take(h, jnp.array([2, 0]), axis=1), FREE),
    "time_dynamic_slice": (
        lambda h: lax.dynamic_slice_in_dim(h, jnp.argmax(h[0].sum(-1)), 2, axis=1),
        FREE,
    ),
    "time_update": (lambda h: lax.dynamic_update_slice_in_dim(h, jnp.sin(h[:, :2]), 1, axis=1), FREE),
    "time_reverse": (lambda h: h[:, ::-1], FREE),
    "time_pool": (lambda h: pool(h, (1, 2, 1)), FREE),
    "time_pad": (lambda h: jnp.pad(h, ((0, 0), (1, 2), (0, 0))), FREE),
    "time_stack": (lambda h: jnp.stack([h, 2 * h], axis=1), FREE),
    "time_unstack": (lambda h: sum(i * part for i, part in enumerate(jnp.unstack(h, axis=1))), FREE),
    "time_argmax": (lambda h: jnp.argmax(h, axis=1).astype(jnp.float32) + h.sum(1), FREE),
    "tile": (lambda h: jnp.tile(h, (1, 1, 2)), FREE),
    "repeat": (lambda h: jnp.repeat(h, 2, axis=-1), FREE),
    "uniform_constant": (lambda h: h + np.full(12, 2.0, np.float32), FREE),
    "concatenate_self": (lambda h: jnp.cumsum(jnp.concatenate([h, 2 * h], -1).reshape(2, 4, 2, 12), 2), FREE),
    "half": (lambda h: h[..., :6], [6, 6]),
    "middle": (lambda h: h[..., 4:8], [4, 8]),
    "unaligned_slice": (lambda h: h[..., 1:], [11]),
    "gate": (lambda h: jnp.prod(jnp.stack(jnp.split(h, 2, axis=-1)), axis=0), [2, 6]),
    "uneven_split": (lambda h: jnp.split(h, [4], axis=-1)[1], [4, 8]),
    "pad": (lambda h: jnp.pad(h, ((0, 0), (0, 0), (4, 4))), [12]),
    "crop": (lambda h: lax.pad(h, 0.0, ((0, 0, 0), (0, 0, 0), (-6, 6, 0))), [6, 6]),
    "unaligned_pad": (lambda h: jnp.pad(h, ((0, 0), (0, 0), (1, 0))), [12]),
    "dilate": (lambda h: lax.pad(h, 0.0, ((0, 0, 0), (0, 0, 0), (0, 0, 1))), [12]),
    "roll": (lambda h: jnp.roll(h, 3, axis=-1) * h, [3]),
    "groups": (lambda h: h.reshape(2, 4, 3, 4).max(-1), [3, 4]),
    "grouped_matmul": (grouped_matmul, [3, 4]),
    "ungrouped": (lambda h: h.reshape(2, 4, 3, 4).swapaxes(2, 3).reshape(2, 4, 12), [3, 4]),
    "straddle": (
        lambda h: h.reshape(2, 4, 3, 4).max(-1).sum(-1) + h.reshape(2, 4, 4, 3).max(-1).sum(-1),
        FIXED,
    ),
    "varying_constant": (lambda h: h * np.arange(12, dtype=np.float32), FIXED),
    "iota": (lambda h: h * jnp.arange(12.0), FIXED),
    "depthwise_constant": (lambda h: depthwise(h, KERNEL), FIXED),
    "cumsum": (lambda h: jnp.cumsum(h, -1), FIXED),
    "sort": (lambda h: jnp.sort(h, -1), FREE),
    "reverse": (lambda h: h * h[..., ::-1], FIXED),
    "stride": (lambda h: h[..., ::2], [6, 6]),
    "take": (lambda h: h[..., np.array([3, 1, 5])], FIXED),
    "argmax": (lambda h: h + jnp.argmax(h, -1, keepdims=True), FIXED),
    "one_hot": (lambda h: h * jax.nn.one_hot(jnp.argmax(h, -1), 12), FREE),
    "look_up": (lambda h: jnp.take_along_axis(h, jnp.argsort(h, -1), -1)[..., :3], FREE),
    "argsort": (lambda h: jnp.argsort(h, -1) * 1.0, FIXED),
    "time_fft": (lambda h: jnp.fft.fft(h, axis=1).real, FREE),
    "segment_sum": (lambda h: jax.ops.segment_sum(h[0], np.array([0, 1, 0, 2]), 3), FREE),
    "associative_scan": (lambda h: lax.associative_scan(jnp.add, h, axis=1), FREE),
    "channel_pool": (lambda h: pool(h, (1, 1, 2)), FIXED),
    "diagonal": (lambda h: jnp.einsum("btc,bsc->bts", h, h * jnp.eye(12)[3]), FIXED),
    "top_k": (lambda h: lax.top_k(h, 3)[0], FREE),
    "scatter": (lambda h: h.at[..., 2].set(0.0), FIXED),
    "fft": (lambda h: jnp.fft.fft(h).real, FIXED),
    "cholesky": (lambda h: jnp.linalg.cholesky(jnp.einsum("btc,btd->bcd", h, h) + jnp.eye(12)), FIXED),
    "random_mask": (lambda h: h * jax.random.bernoulli(jax.random.key(0), 0.5, h.shape), FIXED),
    "empty": (lambda h: jnp.concatenate([h, h[..., :0]], -1), [12]),
}


def variables_and_input(shapes):
    rng = np.random.default_rng(1)
    variables = {name: jax.device_put(np.float32(rng.normal(size=shape))) for name, shape in shapes.items()}
    return variables, jax.device_put(np.float32(rng.normal(size=(2, 4, 3))))


def assert_symmetric(apply, spec, variables, x):
    permutation = some_permutation(2, spec)
    permuted = symmetry.apply_permutation(spec, permutation, variables)
    assert symmetry.check_equivalence(apply, variables, permuted, x) < 1e-4


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_leaves_free_what_commutes_with_it(name):
    operation, expected = OPERATIONS[name]

    def apply(v, x):
        # a sum, which no order matters to, over everything but the batch
        h = jnp.sin(operation(x @ v["w"]))
        return h.sum(range(1, h.ndim))

    variables, x = variables_and_input({"w": (3, 12)})
    spec = symmetry.permutation_spec(apply, variables, x)
    assert sorted(spec.sizes.values()) == expected
    assert_symmetric(jax.jit(apply), spec, variables, x)


# steps from (2, 4, even C) to (2, 4, C'); `w(*shape)` is a new parameter
STEPS = [
    lambda h, w: jax.nn.relu(h @ w(h.shape[-1], 12)),
    lambda h, w: jnp.tanh(h + w(h.shape[-1])),
    lambda h, w: layer_norm(h) * w(h.shape[-1]),
    lambda h, w: jnp.concatenate([h, jnp.sin(h @ w(h.shape[-1], 6))], -1),
    lambda h, w: depthwise(h, w(3, 1, h.shape[-1])),
    lambda h, w: depthwise(h, w(3, 1, 2 * h.shape[-1])),
    lambda h, w: lax.conv_general_dilated(
        h, w(3, h.shape[-1] // 2, 8), (1,), "SAME", None, None, ("NWC", "WIO", "NWC"), 2
    ),
    lambda h, w: h + jnp.einsum("bts,bsc->btc", jnp.einsum("btc,bsc->bts", h, h), h) / 30,
    lambda h, w: jnp.pad(h, ((0, 0), (0, 0), (2, 4))),
    lambda h, w: h[..., h.shape[-1] // 2 :],
    lambda h, w: jnp.multiply(*jnp.split(h, 2, axis=-1)),
    lambda h, w: h.reshape(2, 4, 2, -1).swapaxes(2, 3).reshape(2, 4, -1),
    lambda h, w: h.reshape(2, 4, 2, -1)[:, :, ::-1].reshape(2, 4, -1),
    lambda h, w: h / (1 + jnp.abs(h).reshape(2, 4, 2, -1).max(-1).repeat(h.shape[-1] // 2, -1)),
    lambda h, w: jnp.tile(h, (1, 1, 2)),
    lambda h, w: jnp.roll(h, 2, axis=-1) + h,
    lambda h, w: jnp.cumsum(h, axis=1),
    lambda h, w: h[..., ::-1],
    lambda h, w: lax.scan(lambda c, a: (jnp.tanh(c + a @ w.now), c), h[:, 0], h.swapaxes(0, 1))[1].swapaxes(
        0, 1
    ),
]


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, len(STEPS) - 1), min_size=2, max_size=6))
def test_any_chain_of_operations_gets_a_true_symmetry(steps):
    shapes = {}

    def run(x, parameter):
        h = STEPS[0](x, parameter)
        for step in steps:
            if h.shape[-1] < 64 and h.shape[-1] % 2 == 0:
                square = h.shape[-1]
                parameter.now = parameter(square, square) if step == len(STEPS) - 1 else None
                h = STEPS[step](h, parameter)
        return h.sum(-1), h @ parameter(h.shape[-1], 2)

    class Shapes:
        def __call__(self, *shape):
            shapes[f"w{len(shapes)}"] = shape
            return jnp.ones(shape)

    class Values:
        def __init__(self, variables):
            self.remaining = iter([variables[f"w{i}"] for i in range(len(variables))])

        def __call__(self, *shape):
            return next(self.remaining) / np.sqrt(np.prod(shape[:-1]))

    x = jnp.ones((2, 4, 3))
    jax.eval_shape(lambda x: run(x, Shapes()), x)
    variables, x = variables_and_input(shapes)

    def apply(variables, x):
        return run(x, Values(variables))

    spec = symmetry.permutation_spec(apply, variables, x)
    assert_symmetric(jax.jit(apply), spec, variables, x)


def sizes(axis):
    return [factor.size for factor in expand(axis)]


def test_unification_finds_the_common_refinement():
    first, second = new_axis(8) + new_axis(64), new_axis(64) + new_axis(8)
    unify(first, second, "a test")
    assert sizes(first) == sizes(second) == [8, 8, 8]
    assert expand(first) == expand(second)


def test_splitting_one_axis_splits_its_whole_class():
    axis, alias, view = new_axis(12), new_axis(12), new_axis(3) + new_axis(4)
    unify(axis, alias, "a test")
    unify(alias, view, "a test")
    assert expand(axis) == expand(view)


def test_straddling_factors_are_fixed_up_to_where_the_sides_meet():
    first, second = new_axis(6) + new_axis(4) + new_axis(5), new_axis(4) + new_axis(6) + new_axis(5)
    unify(first, second, "a test")
    assert [factor.fixed is not None for factor in expand(first)] == [True, True, False]
    assert expand(first)[-1] is expand(second)[-1]


def test_fixedness_spreads_to_the_class_and_its_later_parts():
    axis, fixed = new_axis(12), new_axis(12, fixed="a test")
    unify(axis, fixed, "a test")
    unify(new_axis(2) + new_axis(6), axis, "a test")
    assert [factor.fixed for factor in expand(axis)] == ["a test", "a test"]
