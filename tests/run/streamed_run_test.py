"""Runs on sets that are streamed: the papers' third network, and the imported pair, both at tiny sizes."""

import json

import command
import numpy as np
import pytest
import record_files

from llfc_jax.models.resnet_imagenet import BLOCKS
from llfc_jax.run import experiment

CLASSES = 3
FIELDS = {
    "model.width": "0.03",
    "lmc.num_alphas": "2",
    "measures": "lmc",
    "data.size": "16",
    "data.mean": "(0.485, 0.456, 0.406)",  # of both sets: what is compiled for one is there for the other
    "data.std": "(0.229, 0.224, 0.225)",
    "train.batch_size": "8",
    "eval.batch_size": "8",
    "eval.train_examples": "8",
    "corrections.examples": "8",
}
SPAWNED = FIELDS | {
    "data.name": "tiny_imagenet/wnids",
    "data.resize": "16",
    "data.memory": "0",
    "train.epochs": "1",
    "train.spawn_epochs": "0",
}
IMPORTED = FIELDS | {"data.name": "photos", "data.resize": "18", "align.examples": "8"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Both sets in the two layouts of TFDS: 24 images to train on and 9 to validate."""
    directory, generator = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    sets = {"tiny_imagenet/wnids/1.0.0": ((16, 17), "png"), "photos/5.1.0": ((26, 50), "jpeg")}
    for name, (sizes, kind) in sets.items():
        splits = {
            split: record_files.examples(generator, n, sizes, CLASSES)
            for split, n in (("train", 24), ("validation", 9))
        }
        record_files.write(directory, name, splits, classes=CLASSES, kind=kind, named=kind == "jpeg")
    return directory


def run(name, workdir, data_dir, fields):
    arguments = [f"--config.{field}={value}" for field, value in fields.items()]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(experiment, "write_report", lambda directory: directory)  # takes long
        finished = command.run_here(
            f"--config={name}", f"--workdir={workdir}", f"--config.data.data_dir={data_dir}", *arguments
        )
    assert finished.returncode == 0, finished.stderr
    return json.loads((workdir / "results.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def one_block_in_each_group():
    """A ResNet-50 compiles for as long as it has blocks, and they are all of one kind."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(BLOCKS, 50, (1, 1, 1, 1))
        yield


@pytest.fixture(scope="module")
def spawned(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("spawned") / "run"
    return workdir, run("tiny_imagenet_resnet50", workdir, data_dir, SPAWNED)


def test_the_third_network_of_the_paper_is_spawned_on_a_streamed_set(spawned):
    _, results = spawned
    assert results["data"]["train_examples"] == 24
    assert np.isfinite(results["lmc"]["a-b/recompute"]["test"]["loss"]).all()


def test_an_imported_pair_is_matched_and_corrected_on_images_of_any_size(spawned, data_dir, tmp_path):
    fields = dict(IMPORTED)
    for name in "ab":
        file = tmp_path / f"{name}.safetensors"
        exported = command.run_here(spawned[0], f"--what={name}", f"--out={file}", module="llfc_jax.export")
        assert exported.returncode == 0, exported.stderr
        fields[f"pair.{name}"] = str(file)
    results = run("imagenet_resnet50", tmp_path / "run", data_dir, fields)
    assert {"a-b", "a-b/recompute", "a-b_aligned", "a-b_aligned/recompute"} == set(results["lmc"])
