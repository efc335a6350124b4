import pytest
import synthetic_results

from llfc_jax.errors import UserError
from llfc_jax.report import verdict
from llfc_jax.report.judgement import MAX_BASELINE_SHARE, MAX_ERROR_BARRIER, RESOLUTION, baseline_shares


def test_a_connected_pair_is_said_to_be_connected():
    judged = verdict(synthetic_results.spawned_mlp())
    assert judged.connected
    assert judged.linear
    assert str(judged) == (
        "barrier 0.0012 nats (error 0.05 %): linearly mode connected; "
        "LLFC distance at most 3.6 % of the A–B baseline (dense4)"
    )


def test_a_failure_names_the_worst_layer_and_counts_the_failing_ones():
    results = synthetic_results.unconnected_mlp()
    results["llfc"]["a-b"]["layers"][4]["cosine_distance"]["mean"][1] = 1.9
    results["llfc"]["a-b"]["layers"][4]["baseline"]["mean"] = 1.0
    judged = verdict(results)
    assert not judged.connected
    assert not judged.linear
    assert (judged.worst_layer, judged.worst_share, judged.failing, judged.layers) == ("dense3", 1.9, 6, 7)
    assert "not linearly mode connected" in str(judged)
    assert "LLFC does not hold: distance reaches 190.0 % of the A–B baseline in dense3" in str(judged)


@pytest.mark.parametrize(
    ("barrier", "connected"), [(MAX_ERROR_BARRIER - 1e-6, True), (MAX_ERROR_BARRIER, False), (None, False)]
)
def test_connectivity_is_an_error_barrier_below_two_percent(barrier, connected):
    results = synthetic_results.spawned_mlp()
    results["lmc"]["a-b"]["test"]["error_barrier"] = barrier
    assert verdict(results).connected is connected


def test_a_single_layer_above_the_share_breaks_llfc():
    results = synthetic_results.spawned_mlp()
    layer = results["llfc"]["a-b"]["layers"][2]
    for share, holds in ((MAX_BASELINE_SHARE, True), (1.01 * MAX_BASELINE_SHARE, False)):
        layer["baseline"]["mean"] = 1.0
        layer["cosine_distance"]["mean"][1] = share
        assert verdict(results).linear is holds


def test_dead_layers_are_named_and_do_not_decide():
    judged = verdict(synthetic_results.wounded_mlp())
    assert judged.linear
    assert judged.layers == 6
    assert str(judged).endswith("1 dead and not judged (relu2)")


def test_identical_features_count_as_linear_and_a_deviation_from_them_does_not():
    entry = synthetic_results.llfc_entry(synthetic_results.MLP[:2], 0.01)
    entry["layers"][1]["baseline"]["mean"] = 0.0
    entry["layers"][1]["cosine_distance"]["mean"][1] = RESOLUTION / 2
    assert baseline_shares(entry).tolist() == [0.0, 0.0]
    entry["layers"][1]["cosine_distance"]["mean"][1] = 1e-3
    assert baseline_shares(entry)[1] > 1


def test_untrained_ends_are_called_so():
    results = synthetic_results.spawned_mlp()
    results["endpoints"]["a"]["test"]["error"] = 0.89
    assert "no better than chance" in str(verdict(results))


def test_a_network_compared_with_itself_is_called_so():
    results = synthetic_results.spawned_mlp()
    assert "one network" not in str(verdict(results))
    for layer in results["llfc"]["a-b"]["layers"]:
        layer["baseline"]["mean"] = 0.0
    assert str(verdict(results)).endswith("but the two are one network, so this says nothing")


def test_without_alpha_one_half_the_nearest_is_named():
    results = synthetic_results.spawned_mlp()
    results["llfc"]["a-b"]["alphas"] = [0.2, 0.4, 0.9]
    assert "LLFC distance at α = 0.4 at most" in str(verdict(results))


def test_each_measure_is_optional_but_an_unknown_path_is_an_error():
    results = synthetic_results.spawned_mlp()
    del results["llfc"]
    assert verdict(results).linear is None
    del results["lmc"]
    with pytest.raises(UserError, match="path: expected one of none, found 'a-b'"):
        verdict(results)
