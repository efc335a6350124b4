"""From seeds to a page, in a notebook: train_pair, align, measure, report."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.run.configuration import load

FIELDS = {"train.epochs": 2, "train.pair": "independent", "lmc.num_alphas": 3}


def own_init(key, inputs):
    first, last = jax.random.split(key)
    width = inputs[0].size
    return {
        "first": jax.random.normal(first, (width, 8)) / width**0.5,
        "last": jax.random.normal(last, (8, 10)),
    }


def own_apply(weights, inputs):
    return jnp.tanh(inputs.reshape(len(inputs), -1) @ weights["first"]) @ weights["last"]


@pytest.fixture(scope="module")
def pair():
    return llfc_jax.train_pair("test", FIELDS)


def test_four_lines_lead_from_seeds_to_a_page(pair, tmp_path):
    b = llfc_jax.align(pair.program, pair.a, pair.b, pair.batches["train"]).variables
    results = llfc_jax.measure(
        pair.program, pair.a, b, pair.batches, measures=("lmc", "llfc"), num_alphas=3, alphas=(0.5,)
    )
    page = llfc_jax.report(results, tmp_path)
    assert "barrier" in page.read_text()
    assert results["lmc"]["a-b"]["test"]["error"][0] < 0.85  # a guess has 0.9


def test_networks_are_those_that_the_command_trains(pair, tmp_path):
    from llfc_jax.run import experiment
    from llfc_jax.run.workbench import prepare
    from llfc_jax.storage import checkpoint

    config = load("test", [(field, str(value)) for field, value in FIELDS.items()])
    experiment.train(prepare(config), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, pair.b, checkpoint.restore(tmp_path / "b").variables)


def test_a_network_of_ones_own_is_trained_in_place_of_the_model():
    own = llfc_jax.train_pair("test", FIELDS, network=(own_init, own_apply))
    assert own.a.keys() == {"first", "last"}
    assert [node.name for node in own.program.nodes] == ["first", "tanh1", "last"]
    found = llfc_jax.measure(own.program, own.a, own.b, own.batches, measures=("lmc",), num_alphas=3)
    assert found["lmc"]["a-b"]["train"]["error"][0] < 0.85


def test_a_network_for_texts_is_given_whole_numbers_from_the_first(tmp_path):
    (tmp_path / "abc.txt").write_text("abcdefgh" * 60)

    def init(key, inputs):
        assert jnp.issubdtype(inputs.dtype, jnp.integer)
        return {"table": jax.random.normal(key, (256, 256)) / 16}

    fields = {"data.name": str(tmp_path / "abc.txt"), "data.block": 4, "train.batch_size": 8}
    fields |= {"data.train_split": "train", "data.test_split": "test"}
    own = llfc_jax.train_pair("test", fields, network=(init, lambda weights, ids: weights["table"][ids]))
    found = llfc_jax.measure(own.program, own.a, own.b, own.batches, measures=("lmc",), num_alphas=3)
    assert found["lmc"]["a-b"]["test"]["perplexity"][0] < 256


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.epoch": 2}, "no field .epoch."),
        ({"pair.a": "x.npz"}, r"^config.pair.a: expected a pair to train"),
    ],
)
def test_what_can_not_be_trained_is_said(fields, message):
    with pytest.raises(UserError, match=message):
        llfc_jax.train_pair("test", fields)
