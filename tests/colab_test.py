"""The notebook's cells, run one after another as plain Python.

Not by a kernel: its cells use no magic, so running them here is the same, without sockets and processes that
may be left over, and with warnings as errors and tracebacks that point at the line.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

from llfc_jax.configs import digits_mlp_permutation

NOTEBOOK = Path(__file__).parents[1] / "launch" / "colab.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}


@pytest.fixture
def shown(monkeypatch):
    """What the notebook displays, recorded by a stand-in for IPython."""
    found = []
    display = ModuleType("IPython.display")
    display.Image = lambda filename, **options: Path(filename)
    display.display = found.append
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return found


def fewer_measures(get_config=digits_mlp_permutation.get_config):
    """The notebook's configuration with the two measures that all others come after."""
    config = get_config()
    config.measures = ("lmc", "llfc")
    return config


@pytest.mark.slow
def test_the_notebook_runs_and_shows_a_barrier_that_goes(unrendered, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(digits_mlp_permutation, "get_config", fewer_measures)
    plt.switch_backend("agg")
    namespace = {}
    for name, source in CODE.items():
        exec(compile(source, f"colab.ipynb:{name}", "exec"), namespace)
    assert {path.suffix for path in shown} == {".png"}
    assert len(shown) >= 3
    assert all((tmp_path / path).is_file() for path in shown)
    assert len(plt.get_fignums()) == 2
    plt.close("all")
    before, after = (namespace["paths"][name]["loss_barrier"] for name in ("B", "π(B)"))
    assert before > 0.5
    assert after < 0.1
    assert (tmp_path / "runs" / "colab" / "report.html").exists()


def test_installing_is_skipped_where_the_package_is_there(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail(f"ran {args}"))
    exec(compile(CODE["install"], "colab.ipynb:install", "exec"), {})


def installed_by(directory, monkeypatch, *, device=None, source=""):
    """The commands that the first cell runs in a directory, on a machine with that device."""
    commands = []
    monkeypatch.chdir(directory)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda command, **options: commands.append(command))
    monkeypatch.setattr("shutil.which", lambda name: "/bin/nvidia-smi" if device == "nvidia" else None)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter([device] if device == "accel0" else []))
    code = CODE["install"].replace('SOURCE = ""', f"SOURCE = {source!r}")
    exec(compile(code, "colab.ipynb:install", "exec"), {})
    assert all(command[:-1] == [sys.executable, "-m", "pip", "install", "--quiet"] for command in commands)
    return [command[-1] for command in commands]


@pytest.mark.parametrize(("device", "extra"), [("accel0", "[tpu]"), ("nvidia", "[cuda]"), (None, "")])
@pytest.mark.parametrize(
    ("source", "requirement"),
    [
        ("", "..EXTRA"),
        ("llfc_jax-0.1.0-py3-none-any.whl", "llfc_jax-0.1.0-py3-none-any.whlEXTRA"),
        ("git+https://example.org/llfc_jax", "llfc_jaxEXTRA @ git+https://example.org/llfc_jax"),
    ],
)
def test_it_is_installed_from_where_it_is_and_for_the_accelerator_that_is_there(
    source, requirement, device, extra, tmp_path, monkeypatch
):
    for part in ("launch", "llfc_jax"):
        (tmp_path / part).mkdir()
    (tmp_path / "llfc_jax" / "__init__.py").touch()
    found = installed_by(tmp_path / "launch", monkeypatch, device=device, source=source)
    assert found == [requirement.replace("EXTRA", extra)]


def test_without_a_checkout_it_asks_where_to_install_from(tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="Set SOURCE to a wheel"):
        installed_by(tmp_path, monkeypatch)


def test_no_outputs_are_committed():
    for cell in CELLS:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
