"""The rows of the benchmark on cases so small that only what they say is tested, not how fast."""

import io
import json
import subprocess
import sys

import command
import pytest
from rich.console import Console

from llfc_jax.benchmark import growth, path
from llfc_jax.benchmark.__main__ import ROWS, job, table
from llfc_jax.benchmark.cases import Case

TINY = {
    "mlp": Case({"name": "mlp", "hidden": (8, 8)}, (8, 8, 1), 4, 16, repeats=1, training_batch_size=4),
    "mlp with BatchNorm": Case(
        {"name": "mlp", "hidden": (8,), "norm": "batch"}, (8, 8, 3), 4, 8, repeats=1, training_batch_size=8
    ),
}
KINDS = dict.fromkeys(row.kind for row in ROWS.values() if row.kind != growth.KIND)


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((kind, "mlp") for kind in KINDS), ("training step", "mlp with BatchNorm")],
)
def test_a_row_measures_positive_numbers(kind, name, monkeypatch):
    monkeypatch.setattr(path, "STANDARD", ("lmc", "llfc", "weak_additivity", "principal_angles"))
    work = next(row.work for row in ROWS.values() if row.kind == kind)
    numbers = work(TINY[name])
    assert numbers["seconds"] > 0
    assert numbers["peak memory (MB)"] > 0
    assert all(value > 0 for key, value in numbers.items() if key.endswith("/s") or key == "of peak")


def test_the_table_fits_110_columns_and_compares():
    ours = {"images": 500, "seconds": 1234.5, "images/s": 98765.4, "GFLOP/s": 123.4, "of peak": 0.456}
    ours["peak memory (MB)"] = 1000.0
    theirs = {"seconds": 2469.0, "peak memory (MB)": 4000.0, "features (MB)": 3000.0}
    measured = {name: {"llfc_jax": ours, "pytorch": theirs} for name in ROWS}
    measured["weight matching, mlp"]["pytorch"] = None
    console = Console(width=110, file=io.StringIO())
    with console.capture() as captured:
        console.print(table(measured))
    lines = captured.get().splitlines()
    for name in ROWS:
        (line,) = [line for line in lines if f" {name}  " in line]
        assert ("61.0" in line) == (name != "weight matching, mlp")  # 4 + 3 x (10,000 / 500 - 1)


@pytest.mark.slow
def test_the_command_prints_each_row_with_its_peer_and_writes_json(tmp_path):
    pytest.importorskip("torch")
    options = [
        "--only=path evaluation, mlp",
        "--images=100",
        "--repeats=1",
        f"--json={tmp_path / 'all.json'}",
    ]
    process = subprocess.run(
        [sys.executable, "-m", "llfc_jax.benchmark", *options],
        cwd=command.ROOT,
        env=command.environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "at 10k" in process.stdout
    (both,) = json.loads((tmp_path / "all.json").read_text()).values()
    assert both["llfc_jax"]["images"] == 100
    assert both["pytorch"]["features (MB)"] == pytest.approx(3 * 100 * (6 * 512 + 10) * 4 / 1e6)


def test_what_grows_is_one_thing_by_two_and_four():
    base, *larger = growth.GROWING.values()
    assert len(larger) == 8
    sizes = {
        "images": lambda case: case.images,
        "alphas": lambda case: case.alphas - 1,
        "layers": lambda case: len(case.model["hidden"]),
        "width": lambda case: case.model["hidden"][0],
    }
    for name, case in list(growth.GROWING.items())[1:]:
        _, factor, times = name.split()
        grown = {what: size(case) / size(base) for what, size in sizes.items()}
        assert grown == dict.fromkeys(sizes, 1) | {factor: int(times.removeprefix("x"))}


def test_the_table_of_growth_holds_each_number_once():
    numbers = {
        name: {"seconds": 100.0 + i, "peak memory (MB)": 500.0 + i} for i, name in enumerate(growth.GROWING)
    }
    console = Console(width=100, file=io.StringIO())
    with console.capture() as captured:
        console.print(growth.table(numbers))
    words = captured.get().split()
    assert all(
        words.count(str(n)) == (4 if n % 100 == 0 else 1) for n in (*range(100, 109), *range(500, 509))
    )


def test_the_peer_is_given_what_the_row_does():
    from absl import flags

    flags.FLAGS(["benchmark"])
    wanted = job(ROWS["path evaluation, resnet20x4"])
    assert wanted["model"] == {"name": "resnet20", "width": 4}
    assert wanted["batch_size"] == 16
    assert job(ROWS["training step, resnet20x4"])["batch_size"] == 32
