import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.training import optimizers
from llfc_jax.training.step import Recipe, epoch_batches, init_state, make_runner, train_step

OPT = {
    "name": "sgd",
    "learning_rate": 0.5,
    "momentum": 0.9,
    "weight_decay": 0.03,
    "schedule": "step",
    "decay_at": (0.5, 0.75),
    "decay_factor": 0.1,
    "beta2": 0.999,
    "clip": 0.0,
    "warmup": 0.0,
}
EXAMPLES, BATCH, CLASSES = 24, 8, 3


def data():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (EXAMPLES, 2, 2, 1), dtype=np.uint8)
    return images, generator.integers(0, CLASSES, EXAMPLES, dtype=np.int32)


def recipe(hidden=(), opt=OPT, steps=8):
    network = models.build({"name": "mlp", "hidden": hidden}, (2, 2, 1), CLASSES)
    return Recipe(network, optimizers.build(opt, steps)[0], lambda key, images: images / 255)


def start(recipe):
    return begun(
        recipe, recipe.network.draw(jax.random.key(1), jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32))
    )


begun = jax.jit(init_state, static_argnums=0)
step_of = jax.jit(train_step, static_argnums=0)


def torch_sgd(weight, bias, indices, rates):
    """SGD as documented by PyTorch (2.x), on a softmax regression, in float64."""
    images, labels = data()
    weights, buffers = [np.float64(weight), np.float64(bias)], [0.0, 0.0]
    for index, rate in zip(indices, rates, strict=True):
        x, y = images[index].reshape(len(index), -1) / 255, np.eye(CLASSES)[labels[index]]
        logits = x @ weights[0] + weights[1]
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        for i, gradient in enumerate((x.T @ (p - y) / len(index), (p - y).mean(0))):
            gradient = gradient + OPT["weight_decay"] * weights[i]
            buffers[i] = OPT["momentum"] * buffers[i] + gradient
            weights[i] = weights[i] - rate * buffers[i]
    return weights


@pytest.mark.parametrize("scan", [True, False])
def test_sgd_is_pytorchs_momentum_weight_decay_and_step_schedule(scan):
    one = recipe()
    run = make_runner(one, *data(), scan=scan)
    state, key = start(one), jax.random.key(0)
    first = jax.tree.map(np.asarray, state.variables["params"]["dense1"])
    indices = jnp.concatenate([epoch_batches(key, epoch, EXAMPLES, BATCH) for epoch in range(3)])[:8]
    *_, (state, _) = run(key, state, indices)
    rates = [0.5] * 4 + [0.05] * 2 + [0.005] * 2
    weight, bias = torch_sgd(first["kernel"], first["bias"], np.asarray(indices), rates)
    found = state.variables["params"]["dense1"]
    np.testing.assert_allclose(found["kernel"], weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["bias"], bias, rtol=1e-5, atol=1e-6)
    assert int(state.step) == 8


def test_a_scan_and_a_loop_train_the_same_network():
    key, ends = jax.random.key(0), {}
    one = recipe(hidden=(5,))
    indices = epoch_batches(key, 0, EXAMPLES, BATCH)
    for scan in (True, False):
        outputs = list(make_runner(one, *data(), scan=scan)(key, start(one), indices))
        assert [len(metrics.loss) for _, metrics in outputs] == ([3] if scan else [1, 1, 1])
        ends[scan] = outputs[-1][0].variables, np.concatenate([metrics.loss for _, metrics in outputs])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), ends[True], ends[False])


def test_metrics_are_those_before_the_update():
    one, (images, labels) = recipe(), data()
    state = start(one)
    logits = np.float64(one.network.apply(state.variables, images / 255))
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(EXAMPLES), labels]
    _, metrics = step_of(one, jax.random.key(0), state, images, labels)
    np.testing.assert_allclose(metrics.loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.error, (logits.argmax(-1) != labels).mean(), rtol=1e-6)


def test_an_epoch_is_a_permutation_without_its_odd_end_and_differs_by_epoch_and_key():
    epochs = [
        np.asarray(epoch_batches(jax.random.key(seed), epoch, 21, 4))
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for batches in epochs:
        assert batches.shape == (5, 4)
        assert len(set(batches.ravel())) == 20
        assert set(batches.ravel()) <= set(range(21))
    for i in range(3):
        assert not np.array_equal(epochs[i], epochs[i - 1])
    np.testing.assert_array_equal(epochs[0], epoch_batches(jax.random.key(0), 0, 21, 4))


class RecordingNetwork:
    """A constant network that notes the key it is given in training."""

    def apply_train(self, variables, inputs, key):
        self.key = jax.random.key_data(key)
        return jnp.zeros((len(inputs), CLASSES)) + variables["params"]["bias"][None], {}

    def parameters(self, variables):
        return variables["params"]

    def updated(self, variables, params, changes):
        return {**variables, "params": params, **changes}


def test_randomness_depends_on_the_lineages_key_and_the_step_alone():
    images, labels = data()

    @jax.jit
    def given(key, step, batch, bias):
        network, augment_keys = RecordingNetwork(), []

        def preprocess(key, images):
            augment_keys.append(jax.random.key_data(key))
            return images

        one = recipe()._replace(network=network, preprocess=preprocess)
        state = init_state(one, {"params": {"bias": jnp.full(CLASSES, bias)}})
        train_step(one, key, state._replace(step=step), *batch)
        return augment_keys[0], network.key

    def keys(seed, step, batch, bias):
        found = given(jax.random.key(seed), jnp.int32(step), (images[batch], labels[batch]), bias)
        return tuple(tuple(key.tolist()) for key in found)

    here = keys(0, 3, slice(8), 0.0)
    assert here == keys(0, 3, slice(8, 16), 0.0) == keys(0, 3, slice(8), 1.0)
    assert len({*here, *keys(0, 4, slice(8), 0.0), *keys(1, 3, slice(8), 0.0)}) == 6


@pytest.mark.parametrize(
    ("name", "precision"), [("float32", "HIGHEST"), ("tf32", "HIGH"), ("bfloat16", "DEFAULT")]
)
def test_all_matrix_products_of_a_step_have_its_precision_whatever_is_set_around_it(name, precision):
    one = recipe(hidden=(5,))._replace(precision=name)
    with jax.default_matmul_precision("high" if name != "tf32" else "highest"):
        program = jax.make_jaxpr(train_step, static_argnums=0)(one, jax.random.key(0), start(one), *data())
    products = [line for line in str(program).splitlines() if "dot_general[" in line]
    found = re.findall(r"precision=(.*)", str(program))
    assert len(found) == len(products) == 5  # two forward, three backward: images need no gradient
    assert set(found) == {f"(Precision.{precision}, Precision.{precision})"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {0: 0.5, 49: 0.5, 50: 0.05, 74: 0.05, 75: 0.005, 99: 0.005}),
        ({"decay_at": (), "decay_factor": 7.0}, {0: 0.5, 99: 0.5}),
        ({"schedule": "constant"}, {0: 0.5, 99: 0.5}),
        ({"schedule": "cosine"}, {0: 0.5, 50: 0.25, 100: 0.0}),
        ({"schedule": "cosine", "warmup": 0.2}, {0: 0.025, 10: 0.2625, 20: 0.5, 60: 0.25, 100: 0.0}),
        ({"schedule": "cosine", "warmup": 1.0}, {0: 0.005, 100: 0.5}),
    ],
    ids=["step", "step without decay", "constant", "cosine", "cosine after a warm-up", "warm-up alone"],
)
def test_schedules_at_known_steps(changes, expected):
    _, schedule = optimizers.build(OPT | changes, 100)
    for step, rate in expected.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-5, atol=1e-8, err_msg=f"step {step}")


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
@pytest.mark.parametrize("schedule", optimizers.SCHEDULES)
def test_every_optimizer_with_every_schedule_lowers_the_loss(name, schedule):
    one = recipe(opt=OPT | {"name": name, "schedule": schedule, "learning_rate": 0.1}, steps=20)
    images, labels = data()
    state, losses = start(one), []
    for _ in range(20):
        state, metrics = step_of(one, jax.random.key(0), state, images, labels)
        losses.append(float(metrics.loss))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sdg"}, r"opt.name: expected one of sgd, adam, adamw; found 'sdg'"),
        ({"schedule": "poly"}, r"opt.schedule: expected one of step, cosine, constant; found 'poly'"),
        ({"learning_rate": 0.0}, r"opt.learning_rate: expected a positive number; found 0.0"),
        ({"warmup": 1.5}, r"opt.warmup: expected fractions of training in \[0, 1\]; found 1.5"),
        ({"decay_at": (80, 120)}, r"opt.decay_at: expected fractions of training .* found \(80, 120\)"),
    ],
)
def test_what_cannot_be_is_one_line(changes, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        optimizers.build(OPT | changes, 100)


class Counting:
    """A softmax regression that counts its batches, as PyTorch's BatchNorm does."""

    def parameters(self, variables):
        return {"weight": variables["weight"]}

    def updated(self, variables, params, changes):
        return {**variables, **params, **changes}

    def apply_train(self, variables, inputs, key):
        return inputs.reshape(len(inputs), -1) @ variables["weight"], {"count": variables["count"] + 1}


@pytest.mark.parametrize("scan", [True, False])
def test_counts_are_no_numbers_to_average(scan):
    one = Recipe(Counting(), optimizers.build(OPT, 8)[0], lambda key, images: images / 255, ema=0.9)
    state = begun(one, {"weight": jnp.ones((4, CLASSES)), "count": jnp.int32(7)})
    indices = epoch_batches(jax.random.key(0), 0, EXAMPLES, BATCH)
    *_, (state, _) = make_runner(one, *data(), scan=scan)(jax.random.key(0), state, indices)
    assert state.average["count"] == state.variables["count"] == 7 + len(indices)
    assert state.average["count"].dtype == jnp.int32
    assert np.abs(state.average["weight"] - state.variables["weight"]).max() > 1e-4
