"""Configurations by name, path or file of one's own, and what their fields take from the command line."""

import ast
import tomllib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from llfc_jax.configs import default
from llfc_jax.errors import UserError
from llfc_jax.models import build
from llfc_jax.run import configuration
from llfc_jax.run.validation import validate

MINE = """
from llfc_jax.configs import default

def get_config():
    config = default.get_config()
    config.name = "mine"
    return config
"""


@pytest.mark.parametrize(
    "name", ["digits_mlp", "digits_mlp.py", "configs/digits_mlp.py", "configs/digits_mlp"]
)
def test_configurations_of_the_package_are_found_from_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration.load(name, []).model.hidden == (128, 128, 128)


def test_there_is_one_copy_of_the_configurations():
    root = Path(__file__).parents[2]
    assert (root / "configs").resolve() == (root / "llfc_jax" / "configs").resolve()
    packaging = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert "configs" not in packaging["sdist"]["only-include"]  # or hatchling would leave the real ones out


@pytest.mark.parametrize("name", configuration.names())
def test_every_configuration_of_the_package_is_valid(name):
    validate(configuration.load(name, []))


def test_a_file_of_ones_own_goes_before_one_of_the_package(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    for path in (tmp_path / "mine.py", tmp_path / "configs" / "digits_mlp.py"):
        path.write_text(MINE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "~/mine.py", str(tmp_path / "mine.py"), "configs/digits_mlp.py"):
        assert configuration.load(name, []).name == "mine"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit(3)", r"it ends the process, by sys.exit\(3\)"),
        ("def get_config():\n    raise SystemExit", r"it ends the process, by sys.exit\(None\)"),
        ("get_config = lambda: {'name': 'x'}", "expected get_config to return a ConfigDict; found dict"),
        ("x = 1", "AttributeError: .* has no attribute 'get_config'"),
        ("def get_config(:", "SyntaxError: .*"),
        ("from configs_of_mine import default", "ModuleNotFoundError: No module named 'configs_of_mine'"),
        ("def get_config():\n    return get_config()", "RecursionError: .*"),
        (MINE.replace("config.name", "config.nam"), 'AttributeError: .*"nam".*'),
    ],
)
def test_a_file_that_is_at_fault_is_one_line(source, reason, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(UserError, match=f"^--config={path}: {reason}$") as caught:
        configuration.load(str(path), [])
    assert "\n" not in str(caught.value)


VALUES = {str: "lmc", int: "7", float: "0.125", bool: "true", tuple: "(3, 0.5)"}


@pytest.mark.parametrize("field", dict(configuration.fields(default.get_config())))
def test_every_field_can_be_set_and_where_it_has_no_value_by_default_reset(field):
    config = default.get_config()
    section, name = config, field
    while "." in name:
        key, _, name = name.partition(".")
        section = section[key]
    before, kind = section[name], section.get_type(name)
    configuration.override(config, field, VALUES[kind])
    assert section[name] == (VALUES[str] if kind is str else ast.literal_eval(VALUES[kind].capitalize()))
    assert type(section[name]) is kind
    if before in (None, (), ""):
        for text in ("None", ""):
            configuration.override(config, field, VALUES[kind])
            configuration.override(config, field, text)
            assert section[name] == before
        configuration.override(config, field, "()")
        assert not section[name]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lmc,llfc", ("lmc", "llfc")),
        ("(lmc, llfc)", ("lmc", "llfc")),
        ("('lmc', 'llfc')", ("lmc", "llfc")),
        ("lmc", ("lmc",)),
        ("['lmc']", ("lmc",)),
        ("()", ()),
    ],
)
def test_several_names_can_be_written_in_every_manner(text, value):
    config = default.get_config()
    configuration.override(config, "measures", text)
    assert config.measures == value


def test_several_numbers_can_be_written_without_parentheses():
    config = default.get_config()
    configuration.override(config, "llfc.alphas", "0.5,1")
    configuration.override(config, "model.hidden", "64")
    assert (config.llfc.alphas, config.model.hidden) == ((0.5, 1), (64,))


@pytest.mark.parametrize("reset", ["None", "()", ""])
def test_an_option_that_the_model_lacks_can_be_taken_back(reset):
    """The default configuration sets the hidden layers of an MLP."""
    lenet = [("model.name", "lenet")]
    with pytest.raises(
        UserError, match=r"^model.hidden: .*'lenet' .*; reset it by --config.model.hidden=None$"
    ):
        build(configuration.load("digits_mlp", lenet).model, (28, 28, 1), 10)
    build(configuration.load("digits_mlp", [*lenet, ("model.hidden", reset)]).model, (28, 28, 1), 10)


def test_no_hidden_layers_are_not_the_default_number_of_them():
    linear = build(configuration.load("digits_mlp", [("model.hidden", "()")]).model, (8, 8, 1), 10)
    assert [stage.name for stage in linear.stages] == ["flatten", "dense1"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.seed", "1", "--config.data.augment"], [("seed", "1"), ("data.augment", None)]),
        (["--config.llfc.alphas=(0.25, 0.5)"], [("llfc.alphas", "(0.25, 0.5)")]),
        (["--config.seed", "--workdir=x"], [("seed", None)]),
    ],
)
def test_fields_are_told_from_flags(arguments, expected):
    assert configuration.split_overrides(arguments)[1] == expected


def test_a_switch_needs_no_value_and_a_number_does():
    config = default.get_config()
    configuration.override(config, "data.augment", None)
    assert config.data.augment is True
    with pytest.raises(UserError, match=r"^config.seed: expected a whole number; found none$"):
        configuration.override(config, "seed", None)


def test_a_section_is_no_field():
    with pytest.raises(UserError, match=r"^config.train: expected one of its fields: batch_size, .*"):
        configuration.override(default.get_config(), "train", "3")


def test_help_has_every_field_with_its_default_and_its_comment():
    text = configuration.describe()
    for field, value in configuration.fields(default.get_config()):
        assert f"  --config.{field}={','.join(value) if field == 'measures' else value}\n" in text + "\n"
    for words in ("lmc: loss and error along the path", "multiplies all hidden widths", "both or none"):
        assert words in text
    after = " " * 8
    for field, first in (
        ("replicates=1", "runs with the seeds"),
        ("data.name=digits", "digits, mnist"),
        ("only.NETWORK.FIELD=VALUE", "a single network's own"),
        ("merge.weights=()", "or the mean of all networks with these weights, such as (1, 1, 1)"),
    ):
        assert f"  --config.{field}\n{after}{first}" in text
    assert text.endswith("such as (1, 1, 1)")


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a/b", "a\0b", "a\nb", "   "])
def test_a_name_that_leaves_its_directory_is_refused(name):
    with pytest.raises(UserError, match=r"^config.name: expected the name of a directory; found "):
        configuration.file_name(ConfigDict({"name": name}))
