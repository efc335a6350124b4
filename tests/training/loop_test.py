import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.storage import checkpoint
from llfc_jax.training import loop, optimizers
from llfc_jax.training.lineage import TRUNK, plan
from llfc_jax.training.step import Recipe, make_runner, make_streaming_runner

EXAMPLES, BATCH, STEPS_PER_EPOCH = 66, 16, 4
TRAIN = {"pair": "spawn", "networks": 2, "epochs": 4, "spawn_epochs": 1.5, "spawn_steps": None}
TRAIN |= {"spawn_sweep": (), "control": False, "noise": 0.0, "fresh": ()}
OPT = {
    "name": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "schedule": "step",
    "decay_at": (0.5, 0.75),
    "decay_factor": 0.1,
    "clip": 0.0,
}

generator = np.random.default_rng(0)
DATA = (
    generator.integers(0, 256, (EXAMPLES, 3, 3, 1), dtype=np.uint8),
    generator.integers(0, 4, EXAMPLES, dtype=np.int32),
)


def make_setting(**opt):
    network = models.build({"name": "mlp", "hidden": (5,), "norm": "batch"}, (3, 3, 1), 4)
    images, labels = DATA
    optimizer, schedule = optimizers.build(OPT | {"warmup": 0.0} | opt, TRAIN["epochs"] * STEPS_PER_EPOCH)
    recipe = Recipe(network, optimizer, lambda key, images: images / 255)
    return loop.Setting(
        recipe=recipe,
        run=make_runner(recipe, images, labels, scan=True),
        evaluate=lambda variables: (float(variables["params"]["dense1"]["bias"].sum()), 0.5),
        schedule=schedule,
        seed=0,
        inputs=jax.ShapeDtypeStruct((1, 3, 3, 1), jnp.float32),
        num_examples=EXAMPLES,
        batch_size=BATCH,
        checkpoint_every_epochs=1,
        checkpoint_every_minutes=0,
        metadata={"config": {"some": "thing"}, "fingerprint": "f" * 64},
    )


@pytest.fixture(scope="module")
def setting():
    return make_setting()


def lineages(**changes):
    return plan(TRAIN | changes, STEPS_PER_EPOCH)


def train_all(setting, directory, **changes):
    for lineage in lineages(**changes):
        loop.train(lineage, setting, directory)


def everything(setting, directory, name):
    """A network's last checkpoint, state of the optimizer included."""
    some_variables = checkpoint.restore(directory / name).variables
    template = jax.eval_shape(setting.recipe.optimizer.init, some_variables["params"])
    return checkpoint.restore(directory / name, training=template)


def assert_same(left, right):
    assert left.metadata == right.metadata
    jax.tree.map(np.testing.assert_array_equal, left[:3], right[:3])


@pytest.fixture(scope="module")
def trained(setting, tmp_path_factory):
    """An uninterrupted run, and the batches of each of its lineages."""
    directory, seen = tmp_path_factory.mktemp("trained"), {}

    def run(key, state, indices):
        seen.setdefault(lineage.name, []).append(np.asarray(indices))
        return setting.run(key, state, indices)

    for lineage in lineages():
        loop.train(lineage, setting._replace(run=run), directory)
    return directory, {name: np.concatenate(batches) for name, batches in seen.items()}


def test_the_trunk_is_trained_once_and_the_children_train_the_rest(trained):
    _, batches = trained
    assert {name: len(steps) for name, steps in batches.items()} == {TRUNK: 6, "a": 10, "b": 10}


def test_children_differ_in_their_order_and_their_parameters(trained):
    directory, batches = trained
    assert not np.array_equal(batches["a"], batches["b"])
    a, b = (checkpoint.restore(directory / name).variables["params"]["dense1"]["kernel"] for name in "ab")
    assert 0 < np.abs(a - b).max() < 1


def test_twins_without_noise_end_as_one_network_bit_for_bit(setting, tmp_path):
    train_all(setting, tmp_path, pair="twins")
    a, b = (everything(setting, tmp_path, name) for name in "ab")
    jax.tree.map(np.testing.assert_array_equal, a[:3], b[:3])
    assert a.metadata["history"] == b.metadata["history"]


def test_twins_part_by_noise_in_units_of_each_array_and_see_the_same_batches(setting, tmp_path):
    seen = {}

    def run(key, state, indices):
        seen.setdefault(lineage.name, []).append((state.variables["params"], np.asarray(indices)))
        return setting.run(key, jax.tree.map(jnp.copy, state), indices)  # which it donates

    for lineage in lineages(pair="twins", networks=3, noise=0.5):
        loop.train(lineage, setting._replace(run=run), tmp_path)
    trunk = checkpoint.restore(tmp_path / TRUNK).variables["params"]
    starts = {name: seen[name][0][0] for name in "abc"}
    jax.tree.map(np.testing.assert_array_equal, starts["a"], trunk)
    for name in "bc":
        moved = jax.tree.map(lambda one, other: np.asarray(one - other), starts[name], trunk)
        kernel, size = moved["dense1"]["kernel"], np.sqrt(np.mean(np.square(trunk["dense1"]["kernel"])))
        assert 0.3 < kernel.std() / size < 0.7
    assert not np.allclose(starts["b"]["dense1"]["kernel"], starts["c"]["dense1"]["kernel"])
    batches = {name: np.concatenate([indices for _, indices in seen[name]]) for name in "abc"}
    np.testing.assert_array_equal(batches["a"], batches["b"])
    np.testing.assert_array_equal(batches["a"], batches["c"])


def test_children_are_equal_at_the_spawn_step(setting, tmp_path):
    train_all(setting, tmp_path, spawn_epochs=4.0)
    trunk, a, b = (everything(setting, tmp_path, name) for name in (TRUNK, "a", "b"))
    for child in (a, b):
        jax.tree.map(np.testing.assert_array_equal, trunk[:3], child[:3])
        assert not any(child.metadata["history"].values())


def test_spawning_at_initialisation_gives_children_of_one_initialisation(setting, tmp_path):
    train_all(setting, tmp_path, spawn_epochs=0.0)
    assert checkpoint.steps(tmp_path / TRUNK) == [0]
    assert [checkpoint.steps(tmp_path / name)[-1] for name in "ab"] == [16, 16]


def test_independent_networks_differ_at_initialisation(setting, tmp_path):
    for lineage in lineages(pair="independent"):
        loop.train(lineage._replace(last_step=0), setting, tmp_path)
    a, b = (checkpoint.restore(tmp_path / name).variables["params"] for name in "ab")
    assert not np.array_equal(a["dense1"]["kernel"], b["dense1"]["kernel"])


def test_history_has_an_entry_per_epoch_and_covers_the_lineage(trained):
    directory, _ = trained
    trunk, a = (checkpoint.restore(directory / name).metadata["history"] for name in (TRUNK, "a"))
    assert (trunk["step"], a["step"]) == ([4, 6], [8, 12, 16])
    assert (trunk["epoch"], a["epoch"]) == ([1.0, 1.5], [2.0, 3.0, 4.0])
    np.testing.assert_allclose(a["learning_rate"], [0.1, 0.01, 0.001], rtol=1e-6)
    assert {len(values) for values in a.values()} == {3}


def test_where_epochs_are_shorter_than_the_time_between_checkpoints_only_the_last_is_saved(setting, tmp_path):
    train_all(setting._replace(checkpoint_every_minutes=60), tmp_path)
    assert [checkpoint.steps(tmp_path / name) for name in (TRUNK, "a", "b")] == [[6], [16], [16]]


def test_a_run_stopped_after_each_save_ends_as_if_it_had_not_been(setting, trained, tmp_path, monkeypatch):
    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    for _ in range(8):  # two saves of the trunk, three of each child
        with pytest.raises(KeyboardInterrupt):
            train_all(setting, tmp_path)
    train_all(setting, tmp_path)  # all is there: nothing is saved
    for name in (TRUNK, "a", "b"):
        assert_same(everything(setting, tmp_path, name), everything(setting, trained[0], name))


def test_training_again_changes_nothing(setting, trained):
    directory, _ = trained
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    train_all(setting, directory)
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(setting, tmp_path):
    trunk, a, _ = lineages()
    loop.train(trunk, setting, tmp_path)
    good = everything(setting, tmp_path, TRUNK)
    with pytest.raises(UserError, match=r"^training a: the loss became (nan|inf) at step 7; .* is kept; .*$"):
        loop.train(a, make_setting(learning_rate=1e30), tmp_path)
    assert checkpoint.steps(tmp_path / "a") == []
    assert_same(good, everything(setting, tmp_path, TRUNK))


def test_a_last_update_that_ruins_the_network_is_noticed(tmp_path):
    trunk, *_ = lineages(spawn_steps=1)
    setting = make_setting(learning_rate=1e38, momentum=0.0)
    setting = setting._replace(evaluate=lambda variables: (float("nan"), 0.9))
    with pytest.raises(UserError, match=r"^training trunk: the loss became nan at step 1"):
        loop.train(trunk, setting, tmp_path)
    assert checkpoint.steps(tmp_path / TRUNK) == []


def test_checkpoints_of_other_data_are_refused(setting, trained):
    directory, _ = trained
    _, a, _ = lineages(epochs=5)
    other = setting._replace(metadata=setting.metadata | {"fingerprint": "0" * 64})
    with pytest.raises(UserError, match=r"was trained on other data: fingerprint f{12}, .* now give 0{12}$"):
        loop.train(a, other, directory)


def test_data_that_are_streamed_here_and_were_held_there_are_known_by_their_files(setting, tmp_path):
    trunk, a, _ = lineages(epochs=2)
    there, here = ({"of_files": "c" * 64, "fingerprint": of * 64} for of in "fc")
    loop.train(trunk, setting._replace(metadata=setting.metadata | there), tmp_path)
    loop.train(a, setting._replace(metadata=setting.metadata | here), tmp_path)
    assert checkpoint.steps(tmp_path / "a")[-1] == a.last_step


def test_a_streamed_run_that_ends_within_an_epoch_goes_on_to_the_numbers_of_one_held_in_memory(
    setting, trained, tmp_path
):
    reads = itertools.count(1)

    def read(indices, seeds):
        for index, _ in zip(indices, seeds, strict=True):
            if next(reads) == 8:  # the trunk takes six steps; `a` has taken one of the two left of its epoch
                raise MemoryError
            yield tuple(jnp.asarray(array[index]) for array in DATA)

    streamed = setting._replace(run=make_streaming_runner(setting.recipe, read))
    with pytest.raises(MemoryError):
        train_all(streamed, tmp_path)
    train_all(streamed, tmp_path)
    for name in (TRUNK, "a", "b"):
        ours, held = (everything(setting, directory, name) for directory in (tmp_path, trained[0]))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), ours[:3], held[:3])
