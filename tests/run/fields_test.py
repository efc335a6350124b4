"""All fields, and values that are wrong for them: each is refused in one line that names the field."""

from functools import reduce

import pytest

from llfc_jax.configs import default
from llfc_jax.errors import UserError
from llfc_jax.run import configuration
from llfc_jax.run.validation import RULES, validate

FIELDS = dict(configuration.fields(default.get_config()))
SEVERAL = ("data.mean", "data.std", "model.hidden", "model.head")
SWITCHES = ("data.augment", "model.tied", "train.control", "path.star", "corrections.recompute")
SWITCHES += ("corrections.repair",)
TEXTS = ("name", "data.name", "data.data_dir", "data.train_split", "data.test_split", "pair.a", "pair.b")
TEXTS += ("sample.prompt", "model.output")
OF_FLOATS = ("data.mean", "data.std", "opt.decay_at", "train.spawn_sweep", "llfc.alphas")

REPEATED = ("train.epochs", "align.restarts", "align.max_sweeps", "align.epochs", "lmc.num_alphas")
"""What takes its time, or its memory, as often as it says; other counts end where the data does."""

NO_NUMBERS = ("abc", "[]", "{}", "1 2", "0x", "--1", "1e", "nan", "inf", "-inf", "1e999")
NO_WHOLE_NUMBERS = (str(10**22), "2.5", "1e12", "9" * 5000, "-1", "1/2")


def wrong_values(field):
    """As written on the command line."""
    value, kind = FIELDS[field], default_type(field)
    if field in SWITCHES:
        return ("abc", "2", "yes!", *(() if value is None else ("None", "", "()")))
    if field in TEXTS:
        return (
            ("a\0b", "a\nb") if field != "name" else ("a\0b", "a\nb", "../../x", "..", "", "a/b", "x" * 300)
        )
    if field in SEVERAL or isinstance(value, tuple):
        if field == "measures":
            return ("lmcc", "lmc,lmcc", "(1,)", "None", "((),)", "True")
        if field == "train.fresh":
            return ("(1,)", "((),)", "({},)", "True", f"({'a,' * 1001})")
        if field == "data.classes":
            return ("abc", "(-1,)", "(2.5,)", "(10**12,)", f"({2**31},)")
        fractional = (
            () if field in OF_FLOATS else ("(2.5,)", "2.5", "(0,)", "(-1,)", "(10**12,)", f"({2**31},)")
        )
        endless = ("(1e999,)", "(1e300,)", "(nan,)")
        endless += (f"({'1,' * 1001})",)
        return ("abc", "(None,)", "('a',)", "((1,),)", "(True,)", "({},)", *endless, *fractional)
    if kind is int:
        return (*NO_NUMBERS, *NO_WHOLE_NUMBERS, *(["1000000"] if field in REPEATED else []))
    if kind is float:
        return (*NO_NUMBERS, "-1", "-0.1", "1e31", "1e300")
    return ("abc", "None!", "1", "x" * 300)


def default_type(field):
    *sections, name = field.split(".")
    return reduce(lambda config, key: config[key], sections, default.get_config()).get_type(name)


def test_every_field_has_a_rule():
    assert RULES.keys() == FIELDS.keys()


def set_and_check(config, field, text):
    configuration.override(config, field, text)
    validate(config)
    pytest.fail(f"--config.{field}={text} was taken")


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_value_is_one_line_that_names_the_field(field):
    for text in wrong_values(field):
        config = default.get_config()
        with pytest.raises(UserError, match=rf"^config\.{field}\b.*(expected|:) ") as caught:
            set_and_check(config, field, text)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
