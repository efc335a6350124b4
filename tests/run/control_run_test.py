"""A run with a control: an unconnected network beside a spawned pair, as the null of every figure."""

import json

import pytest

from llfc_jax.errors import UserError
from llfc_jax.reporting.judgement import verdict
from llfc_jax.run import configuration
from llfc_jax.run.experiment import run
from llfc_jax.run.validation import validate

pytestmark = pytest.mark.usefixtures("unrendered")


def configured(**fields):
    config = configuration.load("test", [])
    for field, value in ({"train.control": "True"} | fields).items():
        configuration.override(config, field, value)
    return config


def test_a_control_is_measured_beside_the_pair_and_called_so(tmp_path):
    config = configured(**{"measures": "lmc", "lmc.num_alphas": "3"})
    run(config, tmp_path / "run", "llfc_jax")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [*results["lmc"]] == [*results["weights"]] == ["a-b", "a-control"]
    assert [*results["endpoints"]] == ["a", "b", "control"]
    apart = {path: found["relative"] for path, found in results["weights"].items()}
    assert apart["a-control"] > 1.2 > apart["a-b"]  # orthogonal vectors of one length: the root of two
    assert "the control" in str(verdict(results, "a-control"))
    assert "the control" not in str(verdict(results, "a-b"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("train.pair", "independent"), ("train.spawn_sweep", "(0.0, 1.0)"), ("pair.a", "a.pt")],
)
def test_a_control_of_what_needs_none_or_has_no_training_is_one_line(field, value):
    both = {"pair.b": value} if field == "pair.a" else {}
    with pytest.raises(UserError, match=rf"^config.train.control doesn't go with config.{field}"):
        validate(configured(**{field: value, **both}))
