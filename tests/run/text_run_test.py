"""The command on a text: a language model is trained, measured by its tokens, and writes in the report."""

import json

import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.run import configuration, experiment

pytestmark = pytest.mark.usefixtures("unrendered")

SMALL = {
    "data.block": 8,
    "model.width": 1 / 64,
    "model.blocks": 1,
    "model.heads": 1,
    "opt.ema": 0.5,
    "train.epochs": 2,
    "train.batch_size": 64,
    "eval.batch_size": 64,
    "eval.train_examples": 32,
    "measures": ("lmc",),
    "lmc.num_alphas": 3,
    "align.method": "straight_through",
    "align.examples": 64,
    "align.epochs": 1,
    "sample.length": 20,
    "sample.prompt": "a",
}


def configured(path, **changes):
    config = configuration.load("text_gpt_permutation", [])
    config.update_from_flattened_dict(SMALL | {"data.name": str(path)} | changes)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of a text that repeats itself."""
    directory = tmp_path_factory.mktemp("text")
    (directory / "abc.txt").write_text("abcdef gh\n" * 700)
    config = configured(directory / "abc.txt")
    page = experiment.run(config, directory / "run", "command")
    return json.loads((directory / "run" / "results.json").read_text()), page.read_text()


def test_losses_are_means_over_tokens_and_perplexities_their_exponentials(run):
    results, page = run
    ends = results["endpoints"]
    assert set(ends) == {"a", "b", "b_aligned"}
    for split in ("test", "train"):
        assert 0 < ends["a"][split]["loss"] < np.log(256)
        np.testing.assert_allclose(ends["b_aligned"][split]["loss"], ends["b"][split]["loss"], rtol=1e-4)
        curve = results["lmc"]["a-b"][split]["loss"]
        np.testing.assert_allclose(curve[0], ends["a"][split]["loss"], rtol=1e-5)
        np.testing.assert_allclose(curve[-1], ends["b"][split]["loss"], rtol=1e-5)
    assert "perplexity" in page


def test_what_the_networks_write_is_in_the_report_by_path(run):
    results, page = run
    assert results["samples"].keys() == {"a-b", "a-b_aligned"}
    for found in results["samples"].values():
        assert (found["alphas"], found["prompt"], found["temperature"]) == ([0, 0.5, 1], "a", 0.8)
        assert all(0 < len(text) <= 20 for text in found["texts"])
    plain, aligned = results["samples"]["a-b"]["texts"], results["samples"]["a-b_aligned"]["texts"]
    assert (plain[0], plain[2]) == (aligned[0], aligned[2])
    assert "What they write" in page
    assert "<td>θ½</td>" in page


def test_a_model_that_takes_no_text_is_refused(tmp_path):
    (tmp_path / "abc.txt").write_text("abcdef gh\n" * 700)
    config = configured(tmp_path / "abc.txt", **{"model.name": "mlp", "model.blocks": None})
    config.model.heads = None
    with pytest.raises(UserError, match=r"model.name='mlp': expected images for data; found text"):
        experiment.run(config, tmp_path / "run", "command")
