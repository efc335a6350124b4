"""Runs of the command on networks in files: trained, continued, imported, exported; a change is refused."""

import importlib.util
import json
import sys

import command
import jax
import numpy as np
import own_files
import pytest

from llfc_jax.interchange import formats
from llfc_jax.storage import checkpoint

pytestmark = pytest.mark.usefixtures("unrendered")

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "torchax"))
WITH_TORCH = pytest.mark.skipif(not HAS_TORCH, reason="needs torch and torchax, of the extra [torch]")
SMALL = (
    *command.SMALL_RUN,
    "--config.train.epochs=2",
    "--config.measures=lmc",
    "--config.align.method=weight_matching",
)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_a_network_in_a_file_is_trained_continued_and_refused_once_the_file_has_changed(tmp_path):
    file, workdir = tmp_path / "nets.py", tmp_path / "run"
    file.write_text(own_files.FLAX)
    arguments = (
        *SMALL,
        f"--config.model.name={file}:Linen",
        "--config.model.args.hidden=6",
        f"--workdir={workdir}",
    )
    process = command.run_here(*arguments)
    assert process.returncode == 0, process.stderr
    found = results(workdir)
    assert {"a-b", "a-b/recompute", "a-b_aligned"} <= found["lmc"].keys()
    assert found["model"]["sha256"] == found["config"]["model"]["sha256"]
    assert found["model"]["parameters"] == 64 * 6 + 6 + 2 * 6 + 6 * 10 + 10
    assert found["alignment"]["a-b_aligned"]["equivalence_error"] < 1e-5
    assert (workdir / "report.html").exists()

    before = command.contents(workdir)
    assert command.run_here(*arguments).returncode == 0
    assert command.contents(workdir) == before

    file.write_text(own_files.FLAX + "\n")
    process = command.run_here(*arguments)
    command.assert_one_line(process, ".* belongs to another run: config.model.sha256 was .*")


def test_recomputed_paths_are_left_out_and_said_where_training_moves_no_statistics(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(own_files.FLAX)
    process = command.run_here(
        *command.SMALL_RUN,
        "--config.train.epochs=1",
        "--config.train.spawn_steps=0",
        "--config.measures=lmc",
        f"--config.model.name={file}:Idle",
        f"--workdir={tmp_path / 'run'}",
    )
    assert process.returncode == 0, process.stderr
    assert results(tmp_path / "run")["lmc"].keys() == {"a-b"}
    said = [line for line in process.stderr.splitlines() if "left out" in line]
    assert said == [
        "recomputed paths are left out: training moves no running statistics of this network, "
        "such as those of norm"
    ]


@WITH_TORCH
def test_two_files_of_a_module_are_imported_aligned_and_go_out_as_they_came(tmp_path):
    """B is A with its hidden units in another order."""
    import torch

    (tmp_path / "nets.py").write_text(own_files.TORCH)
    torch.manual_seed(3)
    state = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 7), torch.nn.ReLU(), torch.nn.Linear(7, 10)
    ).state_dict()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    moved = {**state, "1.weight": state["1.weight"][order], "1.bias": state["1.bias"][order]}
    moved["3.weight"] = state["3.weight"][:, order]
    torch.save(state, tmp_path / "a.pt")
    torch.save({"state_dict": moved}, tmp_path / "b.pt")
    process = command.run_here(
        *SMALL,
        f"--config.model.name={tmp_path / 'nets.py'}:Plain",
        "--config.model.args.hidden=7",
        f"--config.pair.a={tmp_path / 'a.pt'}",
        f"--config.pair.b={tmp_path / 'b.pt'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert process.returncode == 0, process.stderr
    found = results(tmp_path / "run")
    assert found["sources"]["a"]["framework"] == "PyTorch"
    assert found["lmc"]["a-b_aligned"]["test"]["loss_barrier"] == pytest.approx(0, abs=1e-6)
    aligned = checkpoint.restore(tmp_path / "run" / "checkpoints" / "b_aligned").variables
    jax.tree.map(np.testing.assert_array_equal, dict(aligned), {k: v.numpy() for k, v in state.items()})
    out = tmp_path / "b.npz"
    command.run_here(tmp_path / "run", "--what=b", "--format=npz", f"--out={out}", module="llfc_jax.export")
    np.testing.assert_array_equal(formats.read(out).arrays["1.weight"], moved["1.weight"].numpy())
