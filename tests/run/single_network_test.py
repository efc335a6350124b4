"""Networks of one trunk that differ in optimizer, data or heads; and the sums of their task vectors."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.path.interpolation import lerp
from llfc_jax.run import configuration
from llfc_jax.run.curves import add_tasks, all_pairs
from llfc_jax.run.experiment import train
from llfc_jax.run.validation import validate
from llfc_jax.run.workbench import prepare
from llfc_jax.storage import checkpoint
from llfc_jax.training import optimizers
from llfc_jax.training.step import Recipe, init_state, taken_over
from tests.training.loop_test import OPT


def configured(**fields):
    config = configuration.load("test", [("train.epochs", "2"), ("model.hidden", "(8,)")])
    for field, value in fields.items():
        configuration.override(config, field, value)
    validate(config)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Fields -> the workbench, and the networks by name."""

    def run(**fields):
        directory = tmp_path_factory.mktemp("run")
        bench = prepare(configured(**fields))
        train(bench, directory)
        add_tasks(bench, directory)
        return bench, {one.name: checkpoint.restore(one).variables["params"] for one in directory.iterdir()}

    return run


@pytest.fixture(scope="module")
def plain(trained):
    return trained()[1]


def equal(left, right):
    return all(map(np.array_equal, jax.tree.leaves(left), jax.tree.leaves(right)))


def test_one_network_differs_in_its_own_fields_and_the_other_is_as_it_would_be(trained, plain):
    _, found = trained(**{"only.b.opt.weight_decay": "0.5"})
    assert equal(found["a"], plain["a"])
    assert not equal(found["b"], plain["b"])


def test_twins_whose_own_fields_say_what_all_have_are_one_network_bit_for_bit(trained):
    same = {"only.b.opt.weight_decay": "1e-4", "only.b.data.train_split": "train[:256]"}
    _, found = trained(**{"train.pair": "twins", "train.noise": "0", **same})
    assert equal(found["a"], found["b"])
    assert not equal(found["a"], found["trunk"])


def test_each_sees_the_classes_and_the_part_of_the_data_that_it_is_given():
    halves = {"only.a.data.train_split": "train[:96]", "only.b.data.train_split": "train[96:256]"}
    bench = prepare(configured(**halves, **{"only.b.data.classes": "(3, 4, 7)"}))
    own = {name: single.dataset for name, single in bench.only.items()}
    np.testing.assert_array_equal(own["a"].train.labels, bench.dataset.train.labels[:96])
    assert {*own["b"].train.labels.tolist()} == {3, 4, 7}
    for one in own.values():
        assert (one.mean, one.std, one.test) == (bench.dataset.mean, bench.dataset.std, bench.dataset.test)


def test_halfway_between_task_vectors_twice_as_long_lies_their_sum_of_shared_layers(trained):
    bench, found = trained(
        **{"path.tasks": "(1.0, -0.5)", "train.fresh": "dense2", "only.b.opt.name": "adam"}
    )
    assert ("taska", "taskb") in all_pairs(bench, Path("nowhere"))
    middle, trunk = lerp(found["taska"], found["taskb"], 0.5), found["trunk"]
    tau_a, tau_b = (jax.tree.map(jnp.subtract, found[name], trunk) for name in "ab")
    expected = jax.tree.map(lambda origin, a, b: origin + a - 0.5 * b, trunk, tau_a, tau_b)
    np.testing.assert_allclose(middle["dense1"]["kernel"], expected["dense1"]["kernel"], atol=1e-6)
    assert equal(found["taska"]["dense2"], found["a"]["dense2"])
    assert equal(found["taskb"]["dense2"], found["b"]["dense2"])


def test_layers_begun_anew_are_others_in_each_child_and_not_the_trunks(trained):
    _, found = trained(**{"train.fresh": "dense2", "train.spawn_epochs": "2"})
    heads = [found[name]["dense2"]["kernel"] for name in ("trunk", "a", "b")]
    assert equal(found["a"]["dense1"], found["trunk"]["dense1"])
    apart = [np.linalg.norm(one - other) for one, other in zip(heads, heads[1:] + heads[:1], strict=True)]
    assert min(apart) > 1


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimizer_of_another_kind_begins_anew_at_the_same_step_of_its_schedule(kind):
    params = {"w": jnp.ones(3)}

    class Params:
        parameters = staticmethod(lambda variables: variables)

    before, _ = optimizers.build(OPT | {"warmup": 0.0}, 10)
    after, schedule = optimizers.build(OPT | {"warmup": 0.0, "name": kind, "beta2": 0.9}, 10)
    state = init_state(Recipe(Params, before, None), params)
    for _ in range(6):
        updates, opt_state = before.update(params, state.opt_state, params)
        state = state._replace(step=state.step + 1, opt_state=opt_state)
    taken = taken_over(Recipe(Params, after, None), state)
    if kind == "sgd":
        assert equal(taken, state)
    else:
        updates, _ = after.update({"w": jnp.ones(3)}, taken.opt_state, {"w": jnp.zeros(3)})
        np.testing.assert_allclose(
            updates["w"], -schedule(6), rtol=1e-5
        )  # Adam's first step is of that length


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"only.c.opt.name": "adam"}, "config.only: expected fields of networks, of a, b; found 'c'"),
        ({"only.b.opt.nmae": "adam"}, "config.opt has no field 'nmae': did you mean 'name'"),
        ({"only.b.opt.name": "adamm"}, "config.only.b.opt.name: expected one of sgd"),
        ({"only.b.opt.weight_decay": "x"}, "config.only.b.opt.weight_decay: expected a number; found 'x'"),
        ({"only.b.opt.weight_decay": "-1"}, "config.only.b.opt.weight_decay: expected a number, 0 at least"),
        ({"only.b.model.width": "2"}, "config.only.b.model.width: expected a field of opt, or"),
        ({"only.b": "2"}, "config has no field ''"),
        ({"only.a.opt.clip": "1", "pair.a": "x", "pair.b": "y"}, "config.only doesn't go with config.pair.a"),
        ({"path.tasks": "(1,)"}, "config.path.tasks: expected 2, one for each network"),
        ({"path.tasks": "(1,1)", "train.pair": "independent"}, "config.path.tasks doesn't go with"),
        ({"train.fresh": "head", "train.pair": "independent"}, "config.train.fresh doesn't go with"),
    ],
)
def test_what_a_network_cannot_have_of_its_own_is_one_line(fields, line):
    with pytest.raises(UserError) as caught:
        configured(**fields)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        (
            "train.fresh",
            "dense9",
            "config.train.fresh: expected layers of the network, such as in dense1.bias",
        ),
        ("only.b.data.classes", "(10,)", "config.only.b.data.classes: expected labels below 10; found 10"),
        ("only.b.data.train_split", "train[:5]", "config.only.b.data: expected train.batch_size=32 examples"),
    ],
)
def test_layers_and_data_that_are_not_there_are_one_line_before_any_training(field, value, line):
    with pytest.raises(UserError) as caught:
        prepare(configured(**{field: value}))
    assert str(caught.value).startswith(line)
