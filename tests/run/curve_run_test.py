"""A run with a curve beside the line, and the plane through its networks."""

import json

import pytest

from llfc_jax.errors import UserError
from llfc_jax.run import configuration
from llfc_jax.run.experiment import run
from llfc_jax.run.validation import validate

pytestmark = pytest.mark.usefixtures("unrendered")

FIELDS = (
    *("train.epochs=1", "path.kind=bezier", "path.steps=20", "plane.size=3", "lmc.num_alphas=3"),
    *("measures=lmc,random_direction,sharpness", "llfc.alphas=0.5", "train.spawn_epochs=0", "path.star=True"),
    "model.hidden=(8,)",
)


def configured(*fields):
    config = configuration.load("test", [])
    for field in fields:
        configuration.override(config, *field.split("=", 1))
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "bent"
    run(configured(*FIELDS), directory, "llfc_jax")
    return directory


def test_every_measure_is_taken_along_the_line_and_the_curve(workdir):
    results = json.loads((workdir / "results.json").read_text())
    for measure in ("lmc", "random_direction", "sharpness", "weights"):
        assert [*results[measure]] == ["a-b", "a-b/bezier", "a-star", "b-star"]
    line, curve = (results["lmc"][path]["test"] for path in ("a-b", "a-b/bezier"))
    assert [line["loss"][end] for end in (0, -1)] == [curve["loss"][end] for end in (0, -1)]
    plane = results["plane"]
    assert plane["networks"] == ["a", "b", "bezier"]
    assert abs(plane["loss_at_networks"][0] - line["loss"][0]) < 1e-5
    names = {path.stem for path in (workdir / "figures").iterdir()}
    assert {"plane", "lmc", "random_direction", "sharpness"} <= names


def test_a_run_goes_on_with_the_bend_that_it_has(workdir):
    before = (workdir / "results.json").read_bytes()
    bend = workdir / "checkpoints" / "a-b.bezier"
    saved = {path: path.stat().st_mtime_ns for path in bend.rglob("*") if path.is_file()}
    (workdir / "results.json").unlink()
    run(configured(*FIELDS), workdir, "llfc_jax")
    assert {path: path.stat().st_mtime_ns for path in bend.rglob("*") if path.is_file()} == saved
    again = json.loads((workdir / "results.json").read_text())
    assert again["lmc"] == json.loads(before)["lmc"]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (("plane.size=5",), "config.plane.size: expected three networks, by config.train.networks=3"),
        (("align.ladder=True",), "config.align.ladder: expected an align.method of two networks; found none"),
        (("plane.size=1", "path.kind=polygon"), "config.plane.size: expected 0, or 2 points a side at least"),
        (
            ("plane.size=5", "train.networks=3", "train.pair=twins", "train.noise=0"),
            "config.plane.size: expected different networks; found twins of train.noise=0",
        ),
        (("path.kind=circle",), "config.path.kind: expected one of line, bezier, polygon; found 'circle'"),
    ],
)
def test_fields_that_span_nothing_are_refused_in_one_line(fields, line):
    with pytest.raises(UserError, match=line):
        validate(configured(*fields))
