"""Measuring finds its programs compiled: they are the very ones that it asks for."""

import jax
import pytest
from compiling import compiled

from configs import test as test_config
from llfc_jax.errors import UserError
from llfc_jax.path import traversal
from llfc_jax.run import ahead, experiment, measurement, workbench

MODELS = {
    "mlp": {"hidden": (8,)},
    "mlp with BatchNorm": {"hidden": (8,), "norm": "batch"},
    "vit": {"hidden": None, "width": 0.25, "patch": 4, "blocks": 1, "heads": 1},
}


@pytest.mark.parametrize("name", MODELS)
def test_measures_are_compiled_while_networks_train(name, tmp_path):
    config = test_config.get_config()
    config.model.name = name.partition(" ")[0]
    config.model.update(MODELS[name])
    config.train.epochs = 1
    config.corrections.recompute = False
    bench = workbench.prepare(config)
    with compiled() as before, jax.default_matmul_precision("highest"), ahead.compiling(bench):
        experiment.train(bench, tmp_path)
    with compiled() as then, jax.default_matmul_precision("highest"):
        measurement.measure(bench, tmp_path)
    assert before.count("jit(_step)") == 2
    assert not {"jit(_step)", "jit(_empty_folds)"} & {*then}


def test_what_is_wrong_with_a_measure_is_said_where_it_is_taken(tmp_path, monkeypatch):
    config = test_config.get_config()
    config.train.epochs = 1
    bench = workbench.prepare(config)

    def fail(*args, **options):
        raise UserError("measures: expected something else")

    monkeypatch.setattr(traversal, "_groups", fail)
    with ahead.compiling(bench):
        experiment.train(bench, tmp_path)
    with pytest.raises(UserError, match="something else"):
        measurement.measure(bench, tmp_path)
