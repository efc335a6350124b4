"""Corrections and matchers look at what the networks were trained on: augmented images, if it augments."""

import jax
import numpy as np
import pytest

from configs import default
from llfc_jax.data import augment
from llfc_jax.data.batches import batches, full_batches
from llfc_jax.matching import alignment, weight_matching
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.models.network import with_statistics
from llfc_jax.path.curves import Curve
from llfc_jax.run import experiment, measurement
from llfc_jax.run.measurement import corrections, measure, paths, read_network
from llfc_jax.run.workbench import prepare
from llfc_jax.storage import checkpoint

SIDE, LEVELS, EXAMPLES = 10, 8, 1024
BATCH = 128
ENDS = {"a": 0, "b": -1}
HALF_A_POINT = 0.005


def bright_images(seed):
    """Noisy images without black, told apart by their brightness; a crop padded with black is darker."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, LEVELS, EXAMPLES)
    shades = 80 + 22 * labels[:, None, None]
    noise = generator.normal(0, 6, (EXAMPLES, SIDE, SIDE))
    return np.clip(shades + noise, 0, 255).astype(np.uint8), labels


def make_config(file, **changes):
    config = default.get_config()
    config.update_from_flattened_dict(
        {
            "measures": ("lmc",),
            "data.name": str(file),
            "data.augment": True,
            "model.hidden": (32, 32, 32),
            "model.norm": "batch",
            "opt.learning_rate": 0.05,
            "train.epochs": 8,
            "train.spawn_epochs": 0.0,
            "eval.batch_size": BATCH,
            "eval.train_examples": 0,
            "lmc.num_alphas": 2,
            "corrections.examples": 0,
            "align.examples": 300,
        }
        | {name.replace("__", "."): value for name, value in changes.items()}
    )
    return config.lock()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "bright.npz"
    (train_image, train_label), (test_image, test_label) = map(bright_images, (0, 1))
    np.savez(
        path,
        train_image=train_image,
        train_label=train_label,
        test_image=test_image,
        test_label=test_label,
    )
    return path


@pytest.fixture(scope="module")
def trained(file, tmp_path_factory):
    """A workbench and the checkpoints of two networks that were trained on it, with augmentation."""
    bench, checkpoints = prepare(make_config(file)), tmp_path_factory.mktemp("checkpoints")
    experiment.train(bench, checkpoints)
    return bench, checkpoints


def ends(checkpoints):
    return {name: checkpoint.restore(checkpoints / name).variables for name in ENDS}


def assert_same_batches(found, expected):
    for one, other in zip(found, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_recomputed_statistics_leave_the_ends_of_an_augmented_pair_as_good_as_they_were(trained):
    bench, checkpoints = trained
    lmc = measure(bench, checkpoints)["lmc"]
    for split in ("test", "train"):
        for end in ENDS.values():
            plain, recomputed = (lmc[key][split]["error"][end] for key in ("a-b", "a-b/recompute"))
            assert plain < 0.05
            assert abs(recomputed - plain) < HALF_A_POINT


def test_statistics_of_clean_images_would_not(trained):
    bench, checkpoints = trained
    a, b = ends(checkpoints).values()
    clean = full_batches(bench.dataset.train, BATCH)
    correction = bench.pipeline.recompute
    program = read_network(bench, a)
    statistics = correction.statistics(program, Curve(a, b), (0.0, 1.0), lambda: clean)
    for variables, alpha in ((a, 0.0), (b, 1.0)):
        mended = with_statistics(variables, statistics[alpha])
        assert evaluate(bench.pipeline.apply, mended, batches(bench.dataset.test, BATCH))[1] > 0.1


def test_batches_as_in_training_are_augmented_raw_images_the_same_each_time(file):
    bench = prepare(make_config(file))
    clean = list(full_batches(bench.dataset.train, BATCH))
    found = list(bench.as_in_training(bench.dataset.train, BATCH))
    assert_same_batches(bench.as_in_training(bench.dataset.train, BATCH), found)
    another = prepare(make_config(file, seed=1))
    for index, (seen, raw) in enumerate(zip(found, clean, strict=True)):
        assert seen.images.dtype == raw.images.dtype
        np.testing.assert_array_equal(seen.labels, raw.labels)
        assert (np.asarray(seen.images) == 0).any(
            axis=(1, 2, 3)
        ).mean() > 0.9  # of 81 crops one has no border
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1_001), index)
        np.testing.assert_array_equal(seen.images, augment(key, raw.images))
    other = next(another.as_in_training(bench.dataset.train, BATCH))
    assert (np.asarray(other.images) != found[0].images).any()


def test_corrections_see_every_image_and_few_of_them_in_several_crops(file, monkeypatch):
    seen = []

    def spy(program, curve, alphas, wanted, data):
        del program, curve, alphas, wanted
        seen.append(np.concatenate([batch.images for batch in data("recompute")]))
        return {}

    monkeypatch.setattr(measurement, "corrected_paths", spy)
    for augment_, images in ((True, 3 * 1023), (False, 1023)):
        bench = prepare(
            make_config(file, corrections__examples=2500, eval__batch_size=350, data__augment=augment_)
        )
        measurement.paths(bench, None, Curve({"batch_stats": {}}, {}), (0.5,), corrections(bench, None))
        assert len(seen[-1]) == images  # 1024 in three batches of 341, once or until there are 2500
    crops, clean = seen
    assert np.unique(crops, axis=0).shape[0] > 2 * 1023
    np.testing.assert_array_equal(clean, bench.some_training_data(2500).images[:1023])


def test_without_augmentation_they_are_the_images_bit_for_bit(file):
    bench = prepare(make_config(file, data__augment=False))
    train = bench.dataset.train
    assert_same_batches(bench.as_in_training(train, BATCH), full_batches(train, BATCH))


@pytest.mark.parametrize("method", ["activation_matching", "straight_through"])
def test_matchers_that_look_at_data_see_it_as_in_training(method, file, trained, tmp_path, monkeypatch):
    seen = []

    def spy(key, problem, config):
        del key, config
        seen.extend(problem.batches())
        return weight_matching(jax.random.key(0), *problem[:3])

    monkeypatch.setitem(alignment.MATCHERS, method, spy)
    bench = prepare(make_config(file, align__method=method))
    for name, variables in ends(trained[1]).items():
        checkpoint.save(tmp_path / name, 0, variables, {})
    experiment.align_to_first(bench, tmp_path)
    examples = bench.some_training_data(bench.config.align.examples)
    assert_same_batches(seen, bench.as_in_training(examples, bench.config.train.batch_size))


def test_repair_estimates_on_images_as_in_training(file):
    """Where augmented images are much darker, so are the units' means that REPAIR restores."""
    config = make_config(file, model__norm="none", corrections__repair=True)
    bench = prepare(config)
    a, b = (bench.network.init(jax.random.key(seed), np.zeros((1, SIDE, SIDE, 1))) for seed in (1, 2))
    program = read_network(bench, a)
    mended = paths(bench, program, Curve(a, b), (0.5,), corrections(bench, program))["repair"]
    found = mended.path.corrections[0.5]["dense1"]["shift"]

    def first_layer(end, images):
        layer = jax.tree.map(np.float64, end["params"]["dense1"])
        pixels = np.asarray(bench.pipeline.preprocess(images), np.float64).reshape(len(images), -1)
        return pixels @ layer["kernel"] + layer["bias"]

    seen = np.concatenate(
        [batch.images for batch in bench.as_in_training(bench.some_training_data(0), BATCH)]
    )
    values = [first_layer(end, seen) for end in (a, b)]
    middle = sum(values) / 2
    std = sum(value.std(0) for value in values) / 2
    scale = np.sqrt((std**2 + 1e-5) / (middle.var(0) + 1e-5))
    np.testing.assert_allclose(found, middle.mean(0) * (1 - scale), rtol=1e-3, atol=1e-4)
