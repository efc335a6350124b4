"""Which runs a sweep is made of."""

import re

import pytest

from llfc_jax.errors import UserError
from llfc_jax.run import configuration
from llfc_jax.run.points import parse, points


def names(*flags, **fields):
    config = configuration.load(
        "test", [(field.replace("__", "."), value) for field, value in fields.items()]
    )
    return list(points(config, parse(flags)))


def test_a_sweep_is_the_product_of_its_values_and_each_point_differs_in_them_alone():
    config = configuration.load("test", [("train.epochs", "5")])
    found = points(config, parse(["train.spawn_epochs=0,0.5", "seed=3,4"]))
    assert list(found) == [
        *("train.spawn_epochs=0,seed=3", "train.spawn_epochs=0,seed=4"),
        *("train.spawn_epochs=0.5,seed=3", "train.spawn_epochs=0.5,seed=4"),
    ]
    last = found["train.spawn_epochs=0.5,seed=4"]
    assert last.changes == (("train.spawn_epochs", "0.5"), ("seed", "4"))
    config.seed, config.train.spawn_epochs = 4, 0.5
    assert last.config.to_dict() == config.to_dict()


def test_replicates_are_the_seeds_from_the_configurations_on():
    assert names(replicates="3", seed="7") == ["seed=7", "seed=8", "seed=9"]
    assert names("model.width=1,2", replicates="2")[1:3] == ["model.width=1,seed=1", "model.width=2,seed=0"]
    assert names("seed=0,1", "model.width=1,2")[1:3] == ["model.width=1,seed=1", "model.width=2,seed=0"]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("model.hidden=(64,64),(128,)", ["model.hidden=(64, 64)", "model.hidden=(128,)"]),
        ("config.model.norm=None,layer", ["model.norm=None", "model.norm=layer"]),
        ("measures=lmc,(lmc, llfc)", ["measures=('lmc',)", "measures=('lmc', 'llfc')"]),
        ("data.augment=true,false", ["data.augment=True", "data.augment=False"]),
        ("llfc.alphas=(0.0, 0.5),(1, 0.25)", ["llfc.alphas=(0, 0.5)", "llfc.alphas=(1, 0.25)"]),
        ("model.args.depth=1,2", ["model.args.depth=1", "model.args.depth=2"]),
        ("data.name=a/b.npz,a|b", ["data.name=a%2Fb.npz", "data.name=a%7Cb"]),
    ],
)
def test_a_point_is_called_by_its_values_as_a_directory_can_be(flag, expected):
    assert names(flag) == expected


@pytest.mark.parametrize(
    ("flags", "fields", "line"),
    [
        (
            ["train.spwan_epochs=0,1"],
            {},
            "config.train has no field 'spwan_epochs': did you mean 'spawn_epochs'?",
        ),
        (["seed=0,a"], {}, "config.seed: expected a whole number; found 'a'"),
        (["seed=0,0"], {}, "--sweep: expected different values; found seed=0 twice"),
        (["train.spawn_epochs=0.5,0.50"], {}, "found train.spawn_epochs=0.5 twice"),
        (["seed=0", "seed=1"], {}, "--sweep seed: expected all its values in one flag; found seed twice"),
        (["seed"], {}, "--sweep: expected FIELD=VALUE,VALUE,...; found 'seed'"),
        (["seed=0,"], {}, "expected FIELD=VALUE,VALUE,...; found 'seed=0,'"),
        (["replicates=1,2"], {}, "--sweep replicates: expected a field of single runs"),
        (["seed=0,1"], {"replicates": "2"}, "config.replicates=2 doesn't go with --sweep seed"),
        (["seed=0,1"], {"pair__a": "a.pt"}, "those from files have no seed"),
        ([], {"pair__a": "a.pt", "replicates": "2"}, "those from files have no seed"),
        (["pair.a=a.pt,c.pt"], {"pair__b": "b.pt", "replicates": "2"}, "those from files have no seed"),
        (
            ["llfc.alphas=(0, 0.5),(0.0, 0.5)"],
            {},
            "expected different values; found llfc.alphas=(0, 0.5) twice",
        ),
        ([f"data.name={'x' * 260},y"], {}, "values that fit into the name of a directory"),
        (
            ["seed=" + ",".join(map(str, range(40)))] * 1 + ["model.width=" + ",".join("123456789" * 3)],
            {},
            "1000 runs",
        ),
    ],
)
def test_what_makes_no_runs_is_told_in_one_line(flags, fields, line):
    with pytest.raises(UserError, match=re.escape(line)) as error:
        names(*flags, **fields)
    assert "\n" not in str(error.value)
