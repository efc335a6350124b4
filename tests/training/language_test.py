"""What language models are trained by: AdamW, clipped gradients, averaged weights, losses over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llfc_jax import models
from llfc_jax.data.crops import crop
from llfc_jax.storage import checkpoint
from llfc_jax.training import loop, optimizers
from llfc_jax.training.lineage import TRUNK, plan
from llfc_jax.training.step import Recipe, init_state, make_runner, train_step

OPT = {
    "name": "adamw",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "beta2": 0.95,
    "weight_decay": 0.3,
    "schedule": "cosine",
    "decay_at": (),
    "decay_factor": 1.0,
    "warmup": 0.4,
    "clip": 0.0,
}
TRAIN = {"pair": "spawn", "networks": 2, "epochs": 3, "spawn_epochs": 1, "spawn_steps": None}
TRAIN |= {"spawn_sweep": (), "control": False, "fresh": ()}
BLOCK, CLASSES, EXAMPLES, BATCH, DECAY = 4, 5, 16, 8, 0.9


def text():
    stream = np.random.default_rng(0).integers(0, CLASSES, EXAMPLES * BLOCK + 1, dtype=np.uint8)
    return stream[:-1].reshape(-1, BLOCK), stream[1:].reshape(-1, BLOCK).astype(np.int32)


@pytest.fixture(scope="module")
def recipe():
    network = models.build({"name": "gpt", "width": 1 / 64, "blocks": 1, "heads": 1}, (BLOCK,), CLASSES)
    optimizer, _ = optimizers.build(OPT, 6)
    return Recipe(network, optimizer, lambda key, tokens: tokens, draw=crop, ema=DECAY)


@pytest.fixture(scope="module")
def states(recipe):
    """The state after each of six steps, from the initialisation on."""
    key = jax.random.key(0)
    variables = recipe.network.draw(jax.random.key(1), jax.ShapeDtypeStruct((1, BLOCK), jnp.float32))
    run = make_runner(recipe, *text(), scan=False)
    found = [jax.device_get(init_state(recipe, variables))]
    indices = np.arange(6 * BATCH).reshape(6, BATCH) % EXAMPLES
    return found + [jax.device_get(state) for state, _ in run(key, init_state(recipe, variables), indices)]


def adamw(params, gradients, decays):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2), with eps = 1e-8 and the rates of the schedule."""
    warm = np.linspace(0.005, 0.01, 3)[:2]
    rates = [*warm, *(0.01 * (1 + np.cos(np.pi * t / 4)) / 2 for t in range(2))]
    first = second = 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.95**t)) + 1e-8)
        params = params - rate * (step + (0.3 * params if decays else 0))
    return params


def test_adamw_decays_kernels_and_embeddings_and_leaves_offsets_and_scales():
    generator = np.random.default_rng(0)
    shapes = {"kernel": (3, 2, 2), "embedding": (4, 2), "bias": (2, 2), "scale": (3,)}
    start = {name: generator.normal(size=shape) for name, shape in shapes.items()}
    gradients = [{name: generator.normal(size=shape) for name, shape in shapes.items()} for _ in range(4)]
    optimizer, _ = optimizers.build(OPT, 6)
    params = jax.tree.map(np.float32, start)
    state = jax.jit(optimizer.init)(params)

    @jax.jit
    def updated(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients:
        params, state = updated(params, state, jax.tree.map(np.float32, gradient))
    for name, found in params.items():
        expected = adamw(start[name], [each[name] for each in gradients], name in ("kernel", "embedding"))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("clip", "length"), [(1.0, 1.0), (100.0, 13.0), (0.0, 13.0)])
def test_gradients_longer_than_the_clip_are_as_long_as_it(clip, length):
    sgd = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "clip": clip}
    optimizer, _ = optimizers.build(OPT | sgd | {"learning_rate": 1.0}, 1)
    gradient = {"a": np.float32([3, 4]), "b": np.float32(12)}
    updates, _ = jax.jit(lambda g: optimizer.update(g, optimizer.init(g), g))(gradient)
    for name, leaf in gradient.items():
        np.testing.assert_allclose(updates[name], -leaf * length / 13, rtol=1e-5)


def test_the_loss_is_the_mean_over_all_tokens_of_the_block_that_was_drawn(recipe):
    tokens, following = text()
    variables = recipe.network.draw(jax.random.key(1), jax.ShapeDtypeStruct((1, BLOCK), jnp.float32))

    @jax.jit
    def step(key, variables):
        return train_step(recipe, key, init_state(recipe, variables), tokens, following)[1]

    metrics = step(jax.random.key(0), variables)
    logits = np.float64(jax.jit(recipe.network.apply)(variables, tokens))
    chosen = np.take_along_axis(logits, following[..., None], -1)[..., 0]
    losses = np.log(np.exp(logits).sum(-1)) - chosen
    np.testing.assert_allclose(metrics.loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.error, (logits.argmax(-1) != following).mean(), rtol=1e-6)


def test_the_average_forgets_the_first_steps_fast_and_the_later_ones_by_its_decay(states):
    average = states[0].variables
    for step, state in enumerate(states[1:]):
        decay = min(DECAY, (1 + step) / (10 + step))
        average = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new, average, state.variables
        )
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), state.average, average
        )


def test_what_is_kept_is_the_average_but_training_goes_on_from_the_weights(recipe, tmp_path):
    _, schedule = optimizers.build(OPT, 6)
    seen = []

    def evaluate(variables):
        seen.append(jax.device_get(variables))
        return 1.0, 0.5

    setting = loop.Setting(
        recipe=recipe,
        run=make_runner(recipe, *text(), scan=True),
        evaluate=evaluate,
        schedule=schedule,
        seed=0,
        inputs=jax.ShapeDtypeStruct((1, BLOCK), jnp.uint8),
        num_examples=EXAMPLES,
        batch_size=BATCH,
        checkpoint_every_epochs=1,
        checkpoint_every_minutes=0,
        metadata={"config": {}, "fingerprint": "f" * 64},
    )
    trunk, a, _ = plan(TRAIN, 2)
    loop.train(trunk, setting, tmp_path)
    loop.train(a, setting, tmp_path)
    like = jax.eval_shape(lambda v: init_state(recipe, v), checkpoint.restore(tmp_path / "a").variables)
    raw = checkpoint.restore(tmp_path / TRUNK, training=like.beside)
    jax.tree.map(np.testing.assert_array_equal, raw.training[1], seen[0])
    kernels = [tree["params"]["block1.dense1"]["kernel"] for tree in (raw.variables, seen[0])]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
    kept = checkpoint.restore(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, kept.variables, seen[-1])

    unfinished = checkpoint.restore(tmp_path / "a", step=4, training=like.beside)
    state = like.restored(4, unfinished.variables, unfinished.training)
    again = loop._train_epoch(a, setting, state, 4, lambda steps, text: None)[0]
    jax.tree.map(np.testing.assert_array_equal, again.average, kept.variables)
