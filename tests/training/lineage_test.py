import pytest

from llfc_jax.errors import UserError
from llfc_jax.reporting import reading
from llfc_jax.training.lineage import TRUNK, families, network_names, plan

TRAIN = {"pair": "spawn", "networks": 2, "epochs": 6, "spawn_epochs": 2.0, "spawn_steps": None}
TRAIN |= {"spawn_sweep": (), "control": False, "fresh": ()}


def stretches(**changes):
    return [(one.name, one.parent, one.first_step, one.last_step) for one in plan(TRAIN | changes, 10)]


@pytest.mark.parametrize(
    ("changes", "spawn"),
    [
        ({}, 20),
        ({"spawn_epochs": 0.25}, 2),
        ({"spawn_epochs": 0.0}, 0),
        ({"spawn_steps": 7}, 7),
        ({"spawn_steps": 0}, 0),
        ({"spawn_epochs": 6}, 60),
    ],
    ids=["epochs", "part of an epoch", "at initialisation", "steps", "step 0", "the very end"],
)
def test_children_take_over_where_the_trunk_ends(changes, spawn):
    assert stretches(**changes) == [
        (TRUNK, None, 0, spawn),
        ("a", TRUNK, spawn, 60),
        ("b", TRUNK, spawn, 60),
    ]


def test_independent_networks_have_no_parent_and_all_of_training():
    assert stretches(pair="independent", networks=3) == [(name, None, 0, 60) for name in "abc"]


def test_children_share_an_initialisation_and_nothing_else():
    children = plan(TRAIN | {"networks": 5}, 10)
    assert len({one.stream for one in children}) == 6
    assert len({one.init_stream for one in children}) == 1


def test_twins_share_all_but_the_noise_that_the_first_has_none_of():
    _, *twins = plan(TRAIN | {"pair": "twins", "networks": 3, "noise": 0.1}, 10)
    assert len({(one.stream, one.init_stream, one.parent) for one in twins}) == 1
    assert [one.noise for one in twins] == [0.0, 0.1, 0.1]
    assert len({one.own_stream for one in twins}) == 3


def test_independent_networks_share_nothing():
    networks = plan(TRAIN | {"pair": "independent", "networks": 5}, 10)
    assert len({one.stream for one in networks}) == len({one.init_stream for one in networks}) == 5


def test_a_control_shares_nothing_with_the_pair_beside_it():
    *pair, control = plan(TRAIN | {"control": True}, 10)
    assert tuple(pair) == plan(TRAIN, 10)
    assert (control.name, control.parent, control.first_step, control.last_step) == ("control", None, 0, 60)
    assert control.stream not in {one.stream for one in pair}
    assert control.init_stream not in {one.init_stream for one in pair}


def test_a_sweep_spawns_children_along_one_trunk_that_is_trained_once():
    assert stretches(spawn_sweep=(2.0, 0.0, 0.5)) == [
        ("trunk@0", None, 0, 0),
        ("a@0", "trunk@0", 0, 60),
        ("b@0", "trunk@0", 0, 60),
        ("trunk@0.5", "trunk@0", 0, 5),
        ("a@0.5", "trunk@0.5", 5, 60),
        ("b@0.5", "trunk@0.5", 5, 60),
        ("trunk@2", "trunk@0.5", 5, 20),
        ("a@2", "trunk@2", 20, 60),
        ("b@2", "trunk@2", 20, 60),
    ]
    assert families(TRAIN | {"spawn_sweep": (0.0, 2.0)}) == (("a@0", "b@0"), ("a@2", "b@2"))
    assert families(TRAIN) == (("a", "b"),)
    twins = plan(TRAIN | {"pair": "twins", "noise": 0.1, "spawn_sweep": (0.0, 2.0)}, 10)
    assert [(one.name, one.noise) for one in twins if one.noise] == [("b@0", 0.1), ("b@2", 0.1)]


def test_epochs_in_names_have_no_exponent_whose_dash_would_part_a_path():
    epochs = (1e-5, 1.0, 1.0000001)
    names = families(TRAIN | {"spawn_sweep": epochs})
    assert [reading.spawn_epoch("-".join(pair)) for pair in names] == list(epochs)


def test_a_trunk_longer_than_training_is_refused():
    with pytest.raises(UserError, match=r"^config.train.spawn_steps: expected 60 .* found 61$"):
        plan(TRAIN | {"spawn_steps": 61}, 10)


def test_networks_are_called_by_letters_as_far_as_they_go():
    assert network_names(3) == ("a", "b", "c")
    assert network_names(26)[-1] == "z"
    with pytest.raises(UserError, match=r"^config.train.networks: expected 26 at most; found 27$"):
        network_names(27)
