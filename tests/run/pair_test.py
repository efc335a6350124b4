"""A run on two networks from files, and their way out again."""

import json
import re
import shutil

import command
import jax
import numpy as np
import pytest

from configs import test as test_config
from llfc_jax import data, models
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats
from llfc_jax.run import experiment, export
from llfc_jax.storage import checkpoint

pytestmark = pytest.mark.usefixtures("unrendered")

COMMAND = "llfc_jax"
SHAPE = (8, 8, 1)


def state_dict(seed):
    """Of the authors' MLP, as PyTorch draws it, for the digits."""
    generator, state = np.random.default_rng(seed), {}
    for index, (inputs, outputs) in enumerate(((64, 16), (16, 16), (16, 10))):
        for name, size in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            values = generator.uniform(-1, 1, size) / inputs**0.5
            state[f"layers.{2 * index}.{name}"] = values.astype(np.float32)
    return state


STATES = {name: state_dict(seed) for seed, name in enumerate("ab")}


def permuted(state, seed):
    """The same function, its hidden units in another order."""
    first, second = (np.random.default_rng(seed + index).permutation(16) for index in (0, 1))
    state = {name: array.copy() for name, array in state.items()}
    for layer, order in ((0, first), (2, second)):
        for name in ("weight", "bias"):
            state[f"layers.{layer}.{name}"] = state[f"layers.{layer}.{name}"][order]
    state["layers.2.weight"] = state["layers.2.weight"][:, first]
    state["layers.4.weight"] = state["layers.4.weight"][:, second]
    return state


def make_config(a, b):
    config = test_config.get_config()
    config.pair.a, config.pair.b = str(a), str(b)
    config.measures = ("lmc", "llfc")
    config.llfc.alphas = (0.5,)
    config.lmc.num_alphas = 3
    config.align.method = "weight_matching"
    config.merge.alpha = 0.5
    return config


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """`a.npz` and `b.safetensors`, where b is a in another order of its units."""
    directory = tmp_path_factory.mktemp("files")
    formats.write(directory / "a.npz", STATES["a"], "npz")
    formats.write(directory / "b.safetensors", permuted(STATES["a"], seed=3), "safetensors")
    formats.write(directory / "b.npz", STATES["b"], "npz")
    return directory


@pytest.fixture(scope="module")
def run(files, tmp_path_factory):
    """The workdir of a run on the two files by the command, aligned and merged."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    process = command.run_here(
        "--config=configs/test.py",
        f"--config.pair.a={files / 'a.npz'}",
        f"--config.pair.b={files / 'b.safetensors'}",
        "--config.measures=('lmc', 'llfc')",
        "--config.llfc.alphas=(0.5,)",
        "--config.lmc.num_alphas=3",
        "--config.align.method=weight_matching",
        "--config.merge.alpha=0.5",
        f"--workdir={workdir}",
    )
    assert process.returncode == 0, process.stderr
    assert "imported a from" in process.stderr
    assert process.stdout.endswith(f"{workdir / 'report.html'}\n")
    return workdir


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_a_run_on_files_says_where_the_networks_came_from_and_has_no_history(run, files):
    found = results(run)
    assert found["training"] == {}
    assert found["sources"]["a"]["file"] == str(files / "a.npz")
    assert found["sources"]["b"]["format"] == "safetensors"
    assert found["sources"]["b"]["matched_by"] == "names of the LLFC authors' MLP"
    assert found["sources"]["a"]["sha256"] == formats.read(files / "a.npz").sha256
    page = (run / "report.html").read_text()
    assert f"Imported: A from {files / 'a.npz'}, B from {files / 'b.safetensors'}." in page
    assert "Trained for" not in page
    assert not (run / "figures" / "training.png").exists()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["a", "b", "b_aligned", "merged"]


def test_the_endpoints_are_those_of_the_files(run):
    """In float64 with NumPy, on the images as the run normalises them."""
    found, dataset = results(run), data.load(test_config.get_config().data)
    x = (dataset.test.images.reshape(len(dataset.test.labels), -1) / 255 - dataset.mean[0]) / dataset.std[0]
    for layer in (0, 2, 4):
        x = x @ STATES["a"][f"layers.{layer}.weight"].T.astype(float) + STATES["a"][f"layers.{layer}.bias"]
        x = np.maximum(x, 0) if layer < 4 else x
    log_probabilities = x - np.log(np.exp(x).sum(1, keepdims=True))
    loss = -log_probabilities[np.arange(len(x)), dataset.test.labels].mean()
    for name in ("a", "b", "b_aligned"):
        assert found["endpoints"][name]["test"]["loss"] == pytest.approx(loss, rel=1e-5)


def test_alignment_finds_the_planted_permutation(run):
    assert results(run)["lmc"]["a-b"]["test"]["loss_midpoint_gap"] != pytest.approx(0, abs=1e-4)
    assert results(run)["lmc"]["a-b_aligned"]["test"]["loss_midpoint_gap"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("what", ["a", "b", "b_aligned", "merged"])
@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_networks_go_out_as_they_came(format, what, run, files, tmp_path):
    out = export.export(run, what, format, tmp_path / f"{what}.{format}")
    found = formats.read(out).arrays
    expected = STATES["a"] if what != "b" else permuted(STATES["a"], seed=3)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)
    if what == "a" and format == "npz":
        assert out.read_bytes() == (files / "a.npz").read_bytes()


@pytest.mark.parametrize("format", ["npz", "safetensors", "orbax"])
def test_what_goes_out_comes_in_again(format, run, tmp_path):
    out = export.export(run, "b_aligned", format, tmp_path / f"x.{format}")
    bench = experiment.prepare(make_config(out, run / "checkpoints" / "b"))
    saved = checkpoint.restore(run / "checkpoints" / "b_aligned").variables
    jax.tree.map(np.testing.assert_array_equal, bench.given["a"][0], saved)
    assert "arrays" in bench.given["b"][1]


def test_an_export_is_written_once_and_overwrites_nothing(run, tmp_path):
    out = export.export(run, "a", "npz", tmp_path / "x.npz")
    before = out.stat()
    assert export.export(run, "a", "npz", out) == out
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(UserError, match=r"^--out=.*/x.npz exists and holds something else; choose another"):
        export.export(run, "b", "npz", out)
    (tmp_path / "y.npz").write_text("precious")
    with pytest.raises(UserError, match=r"y.npz exists and holds something else"):
        export.export(run, "b", "npz", tmp_path / "y.npz")
    assert (tmp_path / "y.npz").read_text() == "precious"


def test_networks_that_were_trained_here_go_out_in_our_names(tmp_path):
    network = models.build({"name": "mlp", "hidden": (4,)}, SHAPE, 10)
    variables = network.init(jax.random.key(0), np.zeros((1, *SHAPE)))
    (tmp_path / "checkpoints").mkdir()
    checkpoint.save(tmp_path / "checkpoints" / "a", 3, variables, {"history": {}})
    out = export.export(tmp_path, "a", "safetensors", tmp_path / "a.safetensors")
    assert formats.holds(out, formats.flatten(variables))


def test_a_run_on_files_continues(run, files, tmp_path):
    checkpoints = shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    before = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*")}
    bench = experiment.prepare(make_config(files / "a.npz", files / "b.safetensors"))
    found = json.loads(json.dumps(experiment.find_results(bench, checkpoints, COMMAND)))
    assert {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*")} == before
    for name in ("sources", "endpoints", "lmc", "llfc"):
        assert found[name] == results(run)[name]


def test_other_files_in_the_same_workdir_are_refused(run, files):
    config = make_config(files / "a.npz", files / "b.npz")
    with pytest.raises(UserError, match=r"belongs to another run: config.pair.b was '.*b.safetensors' there"):
        experiment.run(config, run, COMMAND)


def test_a_file_that_changed_meanwhile_is_refused(tmp_path):
    for name in "ab":
        formats.write(tmp_path / f"{name}.npz", STATES[name], "npz")
    (tmp_path / "checkpoints").mkdir()
    bench = experiment.prepare(make_config(tmp_path / "a.npz", tmp_path / "b.npz"))
    experiment.keep_given(bench, tmp_path / "checkpoints")
    formats.write(tmp_path / "b.npz", STATES["a"], "npz")
    bench = experiment.prepare(make_config(tmp_path / "a.npz", tmp_path / "b.npz"))
    with pytest.raises(
        UserError, match=r"^config.pair.b: .*/b.npz has changed since it was imported into .*/b;"
    ):
        experiment.keep_given(bench, tmp_path / "checkpoints")


WRONG = {
    "one file": ({"pair.b": None}, "^config.pair.a and config.pair.b: expected both or none; found one$"),
    "no such file": ({"pair.b": "none.npz"}, "^config.pair.b: none.npz: no such file or directory$"),
    "another architecture": (
        {"model.hidden": (16,)},
        r"^config.pair.a: .*/a.npz does not fit the model: 'layers.2.weight' is 16x16 \(expected 10x16\), "
        r"1 more like it; 'layers.4.weight' \(10x16\) is left over, 1 more like it; nearest known .*=mlp .*",
    ),
    "three networks": (
        {"train.networks": 3},
        "^config.train.networks: expected 2 with config.pair.a and b; found 3$",
    ),
    "half the constants": (
        {"data.mean": (0.5,)},
        "^config.data.mean and config.data.std: expected both or none; found one$",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_leaves_nothing(name, files, tmp_path):
    changes, line = WRONG[name]
    config = make_config(files / "a.npz", files / "b.safetensors")
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=line) as caught:
        experiment.run(config, tmp_path / "run", COMMAND)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_export_command_ends_with_the_path_of_the_file(run):
    process = command.run(run, "--what=b_aligned", "--format=npz", module="llfc_jax.export")
    assert process.stdout.endswith(f"{run / 'exports' / 'b_aligned.npz'}\n"), process.stderr
    assert (process.returncode, process.stderr) == (0, "")
    assert formats.read(run / "exports" / "b_aligned.npz").arrays.keys() == STATES["b"].keys()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "expected one RUN, the workdir of a run; found none"),
        (["RUN", "--format=onnx"], "--format=onnx: expected one of safetensors, pt, npz, orbax"),
        (["RUN", "--what=c"], "--what=c: expected one of the networks in RUN/checkpoints: none"),
    ],
)
def test_a_wrong_export_command_is_one_line(arguments, line, tmp_path):
    run = tmp_path / "run"
    named = (argument.replace("RUN", str(run)) for argument in arguments)
    process = command.run_here(*named, module="llfc_jax.export")
    assert re.fullmatch(f"llfc_jax: {line.replace('RUN/', f'{run}/')}\n", process.stderr), process.stderr
    assert (process.returncode, process.stdout) == (2, "")
    assert not run.exists()
