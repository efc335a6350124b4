"""What the README shows is so: its examples run, its files are there, and it is no longer than it says."""

import importlib.util
import pydoc
import re
from pathlib import Path

import numpy as np
import pytest

import llfc_jax
from llfc_jax.measures import STANDARD

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIBRARY, PYTORCH = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ROOMS = "bridges|configs|corrections|launch|matching|measures|reporting|symmetry"


def run(code):
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


def test_the_library_example_runs(capsys):
    names = run(LIBRARY)
    *_, barrier, hidden, relu, logits, verdict = capsys.readouterr().out.splitlines()
    assert float(barrier) >= 0
    assert [line.split()[0] for line in (hidden, relu, logits)] == ["layers_0", "relu1", "layers_2"]
    assert verdict.startswith("LMC ")
    same = llfc_jax.check_equivalence(names["model"].apply, names["b"], names["aligned"], names["x"][:256])
    assert same < 1e-5
    assert names["results"].keys() >= set(STANDARD)


def test_the_pytorch_example_runs(capsys):
    pytest.importorskip("torch")
    if importlib.util.find_spec("torchax") is None:
        pytest.skip("needs torchax")
    names = run(PYTORCH)
    assert float(capsys.readouterr().out) >= 0
    assert [layer["layer"] for layer in names["results"]["llfc"]["a-b"]["layers"]] == ["0", "1", "2"]
    expected = names["network"].apply(names["b"], names["x"].numpy())
    np.testing.assert_allclose(names["theirs"](names["x"]).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_every_path_named_exists():
    for name in re.findall(rf"`((?:{ROOMS})/[\w/]+\.(?:py|sh))`", README):
        assert (ROOT / name).exists() or (ROOT / "llfc_jax" / name).exists(), name
    for name in re.findall(r"\]\(((?:configs|launch)/[\w/.]+)\)", README):
        assert (ROOT / name).exists(), name


def test_every_configuration_named_exists():
    for name in re.findall(r"--config=(?:configs/)?(\w+)(?:\.py)?\b", README):
        assert name in ("NAME", "mine") or (ROOT / "configs" / f"{name}.py").exists(), name


def test_every_help_named_is_more_than_a_line():
    for name in re.findall(r"help\(\"?([\w.]+)\"?\)", README):
        assert len(pydoc.locate(name).__doc__.splitlines()) > 3, name


def test_two_commands_set_it_up_and_the_readme_can_be_read_at_once():
    assert len(re.findall(r"^python -m venv .*$", README, re.MULTILINE)) == 2
    assert len(README.splitlines()) <= 250
