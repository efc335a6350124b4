"""What is wrong with a configuration is said in one line that names the field."""

import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import default
from llfc_jax import data
from llfc_jax.errors import UserError
from llfc_jax.run.validation import validate
from llfc_jax.training import optimizers


def test_a_config_that_is_no_config_dict_is_refused():
    with pytest.raises(UserError, match=r"^config: expected get_config to return a ConfigDict; found dict$"):
        validate({"name": "mine"})


def test_a_config_that_lacks_a_field_of_the_default_is_refused():
    config = ConfigDict(default.get_config())
    config.unlock()
    del config.align
    expected = r"^config.align.classes: expected the fields of configs/default.py; found none of this name$"
    with pytest.raises(UserError, match=expected):
        validate(config)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        (
            "opt.decay_factor",
            -1.0,
            "config.opt.decay_factor: expected a number, 0 at least, up to 1e+30; found -1.0",
        ),
        ("opt.decay_at", (0.5, 1.5), "config.opt.decay_at: expected a number in [0, 1]; found 1.5"),
        ("data.memory", -1.0, "config.data.memory: expected a number in [0, 1073741824]; found -1.0"),
        ("data.workers", -1, "config.data.workers: expected a whole number in [0, 512]; found -1"),
        (
            "data.crop",
            "resized",
            "config.data.size: expected a side in pixels, for data.resize and data.crop=resized; found None",
        ),
        (
            "opt.learning_rate",
            float("nan"),
            "config.opt.learning_rate: expected a number above 0, up to 1e+30; found nan",
        ),
        ("pair.a", "a.npz", "config.pair.a and config.pair.b: expected both or none; found one"),
        (
            "merge.weights",
            (1.0, 1.0, 1.0),
            "config.merge.weights: expected 2, one for each network, not all 0; found (1.0, 1.0, 1.0)",
        ),
    ],
)
def test_a_number_out_of_range_names_its_field(field, value, line):
    config = default.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        validate(config)


def test_constants_that_are_no_numbers_are_refused():
    config = ConfigDict(default.get_config().data)
    config.mean, config.std = ("a",), (1.0,)
    with pytest.raises(UserError, match=r"^data.mean: expected 1 numbers, one per channel; found \('a',\)$"):
        data.load(config)


def test_the_rate_decays_twice_where_two_decays_coincide():
    opt = dict(default.get_config().opt) | {"decay_at": (0.5, 0.5, 0.75)}
    _, schedule = optimizers.build(opt, 100)
    np.testing.assert_allclose([schedule(49), schedule(51), schedule(76)], [0.1, 0.001, 0.0001], rtol=1e-5)


def test_the_shorter_side_is_not_resized_to_less_than_is_cut_out():
    config = default.get_config()
    config.data.size, config.data.resize = 224, 200
    with pytest.raises(UserError, match=r"^config.data.resize: expected data.size=224 at least; found 200$"):
        validate(config)
