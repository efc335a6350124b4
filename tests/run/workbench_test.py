"""What is checked before anything is trained: that it fits into memory."""

import re

import pytest

from configs import test as test_config
from llfc_jax.errors import UserError
from llfc_jax.run.workbench import prepare
from llfc_jax.runtime import environment

WEIGHTS = 4 * sum((inputs + 1) * outputs for inputs, outputs in ((64, 16), (16, 16), (16, 10)))
"""Bytes of a network of `configs/test.py`."""


def make_config(**changes):
    config = test_config.get_config()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, 3 * WEIGHTS),  # with gradients and momentum
        ({"opt__momentum": 0.0}, 2 * WEIGHTS),
        ({"opt__ema": 0.99}, 4 * WEIGHTS),
        ({"opt__name": "adam"}, 4 * WEIGHTS),
    ],
)
def test_a_network_that_fits_but_whose_training_does_not_is_refused(changes, held, monkeypatch):
    config = make_config(**changes)
    monkeypatch.setattr(environment, "memory_bytes", lambda: held - 1)
    with pytest.raises(UserError, match=re.escape("1,482 parameters are too many: training takes ")):
        prepare(config)
    counters = 16  # of steps
    monkeypatch.setattr(environment, "memory_bytes", lambda: held + counters)
    prepare(config)
