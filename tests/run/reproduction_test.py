"""A paper's figure as a command: what it runs, what it prints beside, what it refuses."""

import json

import command
import pytest

from llfc_jax.run import configuration, published, reproduction
from llfc_jax.run.published import REPRODUCTIONS, Reproduction, Row
from llfc_jax.run.validation import validate

pytestmark = pytest.mark.usefixtures("unrendered")

ENTRY = Reproduction(
    "Somebody 2020",
    "table 1",
    "test",
    (
        Row("loss barrier", published.barrier("a-b", "loss"), "nats", "0.5"),
        Row("error of the ends", published.end_error, "%", ""),
        Row("worst layer", published.worst_layer("a-b"), "part", "0"),
        Row("of one width", published.barrier("a-b", "error"), "%", "3 %", {"model.width": 1.0}),
        Row("of no run", published.barrier("a-b", "loss"), "nats", "9", {"model.width": 7.0}),
    ),
    (("measures", "lmc,llfc"),),
)


@pytest.mark.parametrize("name", REPRODUCTIONS)
@pytest.mark.parametrize("scale", [1, 0.05, 0.001])
def test_every_figure_is_a_configuration_that_can_be_run(name, scale):
    overrides = reproduction.overrides(name, scale, 3, [("seed", "5")])
    config = configuration.load(REPRODUCTIONS[name].config, overrides)
    validate(config)
    assert (config.name, config.seed, config.replicates) == (name, 5, 3)
    assert config.train.epochs >= 1
    if config.train.pair == "spawn":
        assert config.train.spawn_epochs < config.train.epochs


def test_below_one_epoch_the_data_are_cut():
    overrides = dict(reproduction.overrides("llfc-mnist-mlp", 0.01, 1, []))
    assert (overrides["train.epochs"], overrides["data.train_split"]) == ("1", "train[:30%]")


def test_ours_stand_beside_the_published_over_all_seeds(monkeypatch, tmp_path):
    monkeypatch.setitem(REPRODUCTIONS, "entry", ENTRY)
    process = command.run_here("entry", "--seeds=2", f"--workdir={tmp_path}", module="llfc_jax.reproduce")
    assert process.returncode == 0, process.stderr
    said = process.stdout.splitlines()
    header, *lines = said[said.index("Somebody 2020: table 1") + 1 :]
    assert header.split() == ["ours", "published"]
    runs = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("seed=*/results.json"))]
    record = json.loads((tmp_path / "reproduction.json").read_text())["rows"]
    assert [row["ours"] for row in record] == [
        [run["lmc"]["a-b"]["test"]["loss_barrier"] for run in runs],
        [sum(run["endpoints"][name]["test"]["error"] for name in "ab") / 2 for run in runs],
        [
            max(
                layer["cosine_distance"]["mean"][run["llfc"]["a-b"]["alphas"].index(0.5)]
                / layer["baseline"]["mean"]
                for layer in run["llfc"]["a-b"]["layers"]
            )
            for run in runs
        ],
        [run["lmc"]["a-b"]["test"]["error_barrier"] for run in runs],
        [],
    ]
    assert lines[0].startswith("loss barrier")
    assert "±" in lines[0]
    assert lines[4].split() == ["of", "no", "run", "not", "run", "9"]
    assert lines[-1] == str(tmp_path / "report.html")


def test_what_the_users_own_fields_leave_out_is_a_dash(monkeypatch, tmp_path):
    monkeypatch.setitem(REPRODUCTIONS, "entry", ENTRY)
    own = ("--config.measures=lmc", f"--workdir={tmp_path}")
    process = command.run_here("entry", *own, module="llfc_jax.reproduce")
    assert process.returncode == 0, process.stderr
    (line,) = (line for line in process.stdout.splitlines() if line.startswith("worst layer"))
    assert line.split() == ["worst", "layer", "–", "0"]


def test_what_takes_no_training_is_scaled_in_its_images_and_a_sweep_in_its_spawn_epochs():
    overrides = dict(reproduction.overrides("repair-imagenet-resnet50", 0.02, 1, []))
    assert overrides["data.test_split"] == "validation[:2%]"
    assert "train.epochs" not in overrides
    overrides = dict(reproduction.overrides("instability-cifar-resnet20", 0.05, 1, []))
    assert overrides["train.spawn_sweep"] == "(0.0, 0.05, 0.1, 0.25, 0.5, 1.0)"


def test_quantities_are_those_of_the_worst_layer_the_chosen_pair_and_the_middle():
    spectra = [[3.0, 4.0], [6.0, 8.0], [5.0, 12.0]]  # of norm 5, 10 and 13
    split = {"error_barrier": 0.25, "error": [0.1, 0.4, 0.2]}
    results = {
        "lmc": {
            "a@0-b@0": {},
            "a@0-b@0/recompute": {},
            "a@2-b@2": {"alphas": [0.0, 0.5, 1.0], "test": split},
        },
        "endpoints": {"merged": {"test": {"error": 0.3}}, "a": {"test": {"error": 0.1}}},
        "commutativity": {
            "p": {
                "layers": [
                    {"dist_com": {"mean": com}, "dist_w": w, "dist_h": {"mean": h}}
                    for com, w, h in ((1.0, 4.0, 2.0), (1.0, 5.0, 10.0))
                ]
            }
        },
        "weak_additivity": {
            "p": {
                "alphas": [0.25, 0.5],
                "layers": [{"cosine_distance": {"mean": [9.0, x]}} for x in (2.0, 3.0)],
            }
        },
        "singular_values": {"p": {"layers": [{"weights": spectra}, {}]}},
    }
    assert published.barrier_of_spawned(1, "error")(results) == 0.25
    assert published.middle_error("a@2-b@2")(results) == 0.4
    assert (published.merged_error(results), published.end_error(results)) == (0.3, 0.1)
    assert published.commutativity("p")(results) == 0.5
    assert published.weak_additivity("p")(results) == 3.0
    assert published.spectrum("p", "weights")(results) == pytest.approx(2 / 80**0.5)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], r"expected one NAME, of llfc-mnist-mlp, .*; found none"),
        (["fig2"], r"expected one of llfc-mnist-mlp, .*; found 'fig2'"),
        (["rebasin-width", "--scale=2"], r"--scale: expected a number above 0, up to 1; found 2"),
        (["rebasin-width", "--scale=x"], r"--scale: .*'x'"),
        (["rebasin-width", "--config.train.epoch=3"], r"config.train has no field .epoch.: .*"),
        (
            ["rebasin-width", "--scale=0.1", "--config.train.epochs=0"],
            r"config.train.epochs: expected a whole number in \[1, .*; found 0",
        ),
        (
            ["llfc-mnist-mlp", "--scale=0.001", "--config.data.train_split=train[:9]"],
            r"--scale: expected a whole split in data.train_split, to take a part of; found 'train\[:9\]'",
        ),
    ],
)
def test_a_wrong_command_is_one_line(arguments, line):
    command.assert_one_line(command.run_here(*arguments, module="llfc_jax.reproduce"), line)
