import math

import numpy as np
import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.reporting import verdict
from llfc_jax.reporting.judgement import RESOLUTION, Answer, Criteria, band, barriers, llfc_shares

EXAMPLES = 10_000


def spawned(**limits):
    results = synthetic_results.spawned_mlp()
    results["config"]["verdict"] = limits
    return results


def first_layer(results, index):
    return results["llfc"]["a-b"]["layers"][index]


def test_a_connected_pair_is_said_to_be_connected():
    judged = verdict(spawned())
    assert (judged.connected, judged.linear) == (Answer.HOLDS, Answer.HOLDS)
    assert str(judged) == (
        "LMC holds: barrier 0.0012 nats and 0.05 % on test, 0.0011 nats and 0.05 % on train. LLFC holds: the "
        "median layer is at 0.12 of the nearer end's distance from the line, the worst at 0.14 (dense4)"
    )


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize(("quantity", "limit"), [("error", 0.02), ("loss", 0.02 * math.log(10))])
def test_every_split_and_quantity_can_break_lmc(split, quantity, limit):
    for value, answer in (
        (limit / 2, Answer.HOLDS),
        (limit - 1e-13, Answer.FAILS),  # 0.59 - 0.57 is 2 %, whatever float64 makes of it
        (3 * limit, Answer.FAILS),
        (None, Answer.UNDEFINED),
    ):
        results = spawned()
        results["lmc"]["a-b"][split][f"{quantity}_barrier"] = value
        judged = verdict(results)
        assert judged.connected is answer, value
        if answer is not Answer.HOLDS:
            assert f"{split} {quantity}" in str(judged)


def test_no_barrier_at_all_is_over_no_limit():
    results = spawned()
    results["data"]["num_classes"] = 1  # of which a guess has a loss of log(1) = 0
    for split in ("test", "train"):
        results["lmc"]["a-b"][split] |= {"loss_barrier": 0.0, "error_barrier": 0.0}
    assert verdict(results).connected is not Answer.FAILS
    assert "over the limit" not in str(verdict(results))


def test_a_barrier_below_its_limit_is_undecided_where_examples_are_too_few():
    results = spawned()
    results["lmc"]["a-b"]["test"]["examples"] = 20
    judged = verdict(results)
    assert judged.connected is Answer.OPEN
    assert "too few examples to exclude a test error up to 10.8 %" in str(judged)


def test_an_interval_is_that_of_a_mean_and_no_difference_at_all_is_not_certain():
    lmc = spawned()["lmc"]["a-b"]
    half = len(lmc["alphas"]) // 2
    lmc["test"]["loss_excess_std"][half] = 0.5
    z = 1.959964
    assert band(lmc, "test", "loss", 0.95)[half] == pytest.approx(z * 0.5 / 100, rel=1e-6)
    lmc["test"]["error_excess_std"][half] = 0
    assert band(lmc, "test", "error", 0.95)[half] == pytest.approx(z / EXAMPLES, rel=1e-6)
    assert band(lmc, "test", "error", 0.95)[0] == 0


def test_the_interval_covers_the_barrier_of_the_distribution_as_often_as_it_says():
    """Matched coins with a known excess: the interval of the excess covers it in about 95 % of 400 draws."""
    rng, covered, excess, n = np.random.default_rng(0), 0, 0.03, 500
    for _ in range(400):
        a, b, theta = rng.random((3, n)) < np.array([[0.1], [0.1], [0.1 + excess]])
        found = {
            "examples": n,
            "error": [a.mean(), theta.mean(), b.mean()],
            "error_excess_std": [0, np.std(theta - (a + 0.0 + b) / 2), 0],
        }
        half = band({"alphas": [0, 0.5, 1], "test": found}, "test", "error", 0.95)[1]
        covered += abs(theta.mean() - (a.mean() + b.mean()) / 2 - excess) <= half
    assert 0.92 * 400 <= covered <= 0.98 * 400


def test_llfc_holds_in_part_where_the_median_layer_is_linear_and_names_the_others():
    results = spawned()
    for share, answer in ((0.5, Answer.HOLDS), (0.51, Answer.IN_PART)):
        layer = first_layer(results, 2)
        layer["cosine_distance"]["mean"][1] = share * layer["end"]["mean"][1]
        assert verdict(results).linear is answer
    assert "6 of 7 layers within 0.5, not dense2" in str(verdict(results))
    for index in range(1, 5):
        layer = first_layer(results, index)
        layer["cosine_distance"]["mean"][1] = 2 * layer["end"]["mean"][1]
    judged = verdict(results)
    assert judged.linear is Answer.FAILS
    assert (judged.below, judged.layers, judged.worst) == (3, 7, 2)
    assert "not relu1, dense2, relu2 and 1 other" in str(judged)


def test_limits_are_those_of_the_configuration():
    assert verdict(spawned(max_llfc=0.13)).linear is Answer.IN_PART
    assert verdict(spawned(max_llfc=0.01)).linear is Answer.FAILS
    assert verdict(spawned(max_error_barrier=0.0004)).connected is Answer.FAILS
    assert verdict(spawned(max_loss_barrier=0.0004)).connected is Answer.FAILS
    assert Criteria().loss_limit(10) == pytest.approx(0.046, abs=1e-3)


def test_layers_that_are_dead_at_the_ends_are_named_and_do_not_decide():
    judged = verdict(synthetic_results.wounded_mlp())
    assert judged.linear is Answer.HOLDS
    assert judged.layers == 6
    assert str(judged).endswith("dead at the ends and not judged: relu2")


def test_features_that_vanish_between_living_ends_break_llfc():
    results = spawned()
    first_layer(results, 3)["dead"] = [EXAMPLES] * 3
    first_layer(results, 3)["cosine_distance"]["mean"] = [None] * 3
    judged = verdict(results)
    assert judged.linear is Answer.IN_PART
    assert judged.worst == math.inf
    assert "the worst at ∞ (relu2)" in str(judged)


@pytest.mark.parametrize("entry", ["cosine_distance", "end"])
def test_a_layer_whose_numbers_are_none_makes_llfc_undefined_and_is_named(entry):
    results = spawned()
    first_layer(results, 3)[entry]["mean"][1] = None
    judged = verdict(results)
    assert judged.linear is Answer.UNDEFINED
    assert "LLFC is undefined: not a number in relu2" in str(judged)


def test_where_the_ends_agree_staying_counts_as_linear_and_leaving_is_not_divided_by_nothing():
    entry = synthetic_results.llfc_entry(synthetic_results.MLP[:2], 0.01)
    entry["layers"][1]["end"]["mean"][1] = 0.0
    entry["layers"][1]["cosine_distance"]["mean"][1] = RESOLUTION / 2
    assert llfc_shares(entry, EXAMPLES).tolist() == [0.0, 0.0]
    entry["layers"][1]["cosine_distance"]["mean"][1] = 1e-3
    assert llfc_shares(entry, EXAMPLES)[1] == math.inf


def test_nothing_is_green_where_an_end_has_learnt_nothing():
    results = spawned()
    results["lmc"]["a-b"]["test"]["error"][0] = 0.89
    judged = verdict(results)
    assert (judged.connected, judged.linear) == (Answer.TRIVIAL, Answer.TRIVIAL)
    assert str(judged).endswith("An end is no better than chance, so this says nothing")
    results["lmc"]["a-b"]["test"]["error_barrier"] = 0.05
    assert verdict(results).connected is Answer.FAILS


@pytest.mark.parametrize("measures", [("lmc", "llfc"), ("lmc",), ("llfc",)])
def test_nothing_is_green_where_the_two_are_one_network(measures):
    results = spawned()
    for measure in {"lmc", "llfc"} - {*measures}:
        del results[measure]
    assert "one network" not in str(verdict(results))
    results["weights"]["a-b"]["relative"] = 0.0
    judged = verdict(results)
    assert {judged.connected, judged.linear} <= {Answer.TRIVIAL, None}
    assert str(judged).endswith("The two are one network, so this says nothing")


def test_a_coefficient_far_from_one_is_mentioned():
    results = spawned()
    assert "times" not in str(verdict(results))
    first_layer(results, 6)["coefficient"]["mean"][1] = 0.66
    assert "features are shorter than on the line, 0.66 times in dense4" in str(verdict(results))


def test_without_alpha_one_half_the_nearest_is_named():
    results = spawned()
    results["llfc"]["a-b"]["alphas"] = [0.2, 0.4, 0.9]
    assert "LLFC holds at α = 0.4" in str(verdict(results))


def test_each_measure_is_optional_but_an_unknown_path_is_an_error():
    results = spawned()
    assert len(barriers(results, "a-b")) == 4
    del results["llfc"]
    assert verdict(results).linear is None
    del results["lmc"]
    with pytest.raises(UserError, match="path: expected one of none, found 'a-b'"):
        verdict(results)
