"""Several devices give the numbers of one."""

import json
import os
from concurrent.futures import ProcessPoolExecutor

import command
import forks
import jax
import numpy as np
import pytest

from configs import test as test_config
from llfc_jax.data.batches import batches
from llfc_jax.errors import UserError
from llfc_jax.run import experiment, workbench
from llfc_jax.runtime import sharding

DEVICES = 4
CASES = {
    "as in configs/test.py": {"lmc.num_alphas": 3},
    # Batches of 50 don't divide: they are padded where a mask hides that, and otherwise seen by all devices.
    "with BatchNorm, in parts": {
        "lmc.num_alphas": 3,
        "model.norm": "batch",
        "eval.batch_size": 50,
        "fsdp": DEVICES,
    },
}


def prepare(case):
    config = test_config.get_config()
    config.update_from_flattened_dict(case)
    config.fsdp = min(config.fsdp, jax.device_count())
    return workbench.prepare(config)


def devices_of_a_batch():
    """Device -> shape of what it holds."""
    batch = next(batches(prepare({}).dataset.test, 50))
    return {str(shard.device): shard.data.shape for shard in batch.images.addressable_shards}


def train(case, checkpoints):
    """Train all networks; returns their histories, and the part of each that a device held in the end."""
    checkpoints.mkdir(exist_ok=True)
    bench, held, save = prepare(case), {}, experiment.checkpoint.save

    def watched(directory, step, variables, metadata, training):
        held[directory.name] = part_of_a_device((variables, training))
        save(directory, step, variables, metadata, training)

    with pytest.MonkeyPatch.context() as monkeypatch, sharding.split(bench.config.fsdp):
        monkeypatch.setattr(experiment.checkpoint, "save", watched)
        experiment.train(bench, checkpoints)
    found = {name: experiment.checkpoint.restore(checkpoints / name) for name in ("trunk", "a", "b")}
    return {name: one.metadata["history"] for name, one in found.items()}, held


def part_of_a_device(tree):
    """The largest fraction of an array that one device holds; scalars, and 10 classes, don't divide."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.size >= 16]
    return max(leaf.addressable_shards[0].data.size / leaf.size for leaf in leaves)


def measure(case, checkpoints):
    """What is measured on networks that were trained before."""
    results = json.loads(json.dumps(experiment.find_results(prepare(case), checkpoints, "")))
    for path in results["llfc"].values():
        path["layers"].pop(0)  # linear in theta: its distances are rounding
    return {name: results[name] for name in ("endpoints", "lmc", "llfc")}


def all_of(name, checkpoints, environment):
    """What a batch is, what training gives, and measuring."""
    os.environ.update(environment)
    case = CASES[name]
    found = devices_of_a_batch(), train(case, checkpoints / "again"), measure(case, checkpoints)
    return json.loads(json.dumps(found))


def on_devices(name, checkpoints):
    """The same in a process with several devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    environment = command.environment() | {"XLA_FLAGS": flags}
    with ProcessPoolExecutor(1, forks.context()) as pool:
        return pool.submit(all_of, name, checkpoints, environment).result()


def assert_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert x == y if isinstance(x, str) else np.allclose(x, y, **tolerance), (x, y)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_training_and_measuring_on_several_devices_give_the_numbers_of_one(name, tmp_path):
    (trained, _), measured = train(CASES[name], tmp_path), measure(CASES[name], tmp_path)
    shapes, (trained_on_devices, held), measured_on_devices = on_devices(name, tmp_path)
    assert held == dict.fromkeys(("trunk", "a", "b"), 1 / CASES[name].get("fsdp", 1))
    assert len(shapes) == DEVICES
    assert {tuple(shape) for shape in shapes.values()} == {(13, 8, 8, 1)}
    assert_close(trained_on_devices, trained, rtol=1e-4)
    for measure_name, expected in measured.items():
        # Barriers are differences of numbers near 1, coefficients of features rounded to 6e-8 of themselves.
        atol = 6e-8 if measure_name == "llfc" else 1e-6
        assert_close(measured_on_devices[measure_name], expected, rtol=1e-5, atol=atol)


def test_a_training_batch_that_does_not_divide_is_one_line(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: DEVICES)
    message = r"^config.train.batch_size: expected a multiple of 4 \(the devices\); found 30$"
    with pytest.raises(UserError, match=message):
        prepare({"train.batch_size": 30})


def test_sizes_are_padded_to_what_divides(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: DEVICES)
    assert [sharding.padded(size) for size in (1, 4, 5, 50)] == [4, 4, 8, 52]


def test_devices_that_cannot_be_divided_so_are_one_line(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: DEVICES)
    config = test_config.get_config()
    config.fsdp = 3
    with pytest.raises(UserError, match=r"^config.fsdp: expected a divisor of 4 \(the devices\); found 3$"):
        workbench.prepare(config)
