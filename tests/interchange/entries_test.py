"""The network is found wherever it lies in a file, and what lies beside it is named and brought back."""

import jax
import numpy as np
import pytest
from flax import serialization
from foreign_networks import IMAGES, SHAPE, mlp_logits, mlp_state, relative_error

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, load_variables, source_arrays

NAMES = ("fc1", "fc2", "fc3")
NETWORK = models.build({"name": "mlp", "hidden": (32, 32)}, SHAPE, 10)
STATE, OTHER = mlp_state(NAMES), mlp_state(NAMES, seed=1)


def prefixed(prefix, state=STATE):
    return {prefix + key: array for key, array in state.items()}


def tree(state=STATE):
    return {name: {role: state[f"{name}.{role}"] for role in ("weight", "bias")} for name in NAMES}


def is_flat(content):
    return all(isinstance(value, np.ndarray) for value in content.values())


def load(content, tmp_path, entry=None):
    """From an `.npz` where the content is flat, else from msgpack; the name says nothing."""
    path = tmp_path / "network"
    if is_flat(content):
        np.savez(tmp_path / "x.npz", **content)
        (tmp_path / "x.npz").rename(path)
    else:
        path.write_bytes(serialization.msgpack_serialize(content))
    return load_variables(path, NETWORK, SHAPE, entry=entry)


def assert_is(variables, state):
    found = jax.jit(NETWORK.apply)(variables, IMAGES)
    assert relative_error(found, mlp_logits(state, NAMES)) < 1e-5


BESIDE = {
    "a wrapper": (prefixed("module._orig_mod."), []),
    "a counter of averages": (
        prefixed("module.") | {"n_averaged": np.array(3)},
        ["n_averaged"],
    ),
    "loss weights and metrics": (
        prefixed("model.")
        | {"criterion.weight": np.ones(10, np.float32), "acc.total": np.array(3), "loss.pos": np.ones(10)},
        ["criterion", "acc", "loss"],
    ),
    "buffers of other types": (
        STATE | {"mask": np.ones(3, bool), "fc1.index": np.arange(3), "scale_factor": np.float32([2])},
        ["mask", "fc1.index", "scale_factor"],
    ),
    "another network": (
        STATE | {"projector.0.weight": np.ones((16, 32)), "projector.1.bias": np.ones(16)},
        ["projector.0.weight", "projector.1.bias"],
    ),
    "the state of an optimizer": (
        {"step": np.array(7), "params": tree(), "opt_state": {"0": {"mu": tree(), "nu": tree(OTHER)}}},
        ["step", "opt_state"],
    ),
    "a train state in a tree": (
        {"data": [IMAGES], "model": {"params": tree(), "opt_state": {"mu": tree()}}, "dims": np.arange(2)},
        ["data", "model.opt_state", "dims"],
    ),
    "any key at the top": ({"network_weights": STATE, "epoch": np.array(1)}, ["epoch"]),
}


@pytest.mark.parametrize("case", BESIDE)
def test_what_lies_beside_the_network_is_named_in_one_line(case, tmp_path):
    content, beside = BESIDE[case]
    variables, source = load(content, tmp_path)
    assert_is(variables, STATE)
    lines = [line for line in source["notes"] if line.startswith("no part of it: ")]
    found = lines[0].removeprefix("no part of it: ").split(", ") if lines else []
    assert sorted(found) == sorted(beside)


@pytest.mark.parametrize("case", [name for name, (content, _) in BESIDE.items() if is_flat(content)])
def test_a_flat_file_comes_back_whole(case, tmp_path):
    content, _ = BESIDE[case]
    variables, source = load(content, tmp_path)
    found = source_arrays(variables, source)
    assert list(found) == list(content)
    for key, array in content.items():
        assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape), key
        assert found[key].tobytes() == array.tobytes(), key


def test_a_running_average_gives_way_to_the_network_and_can_be_chosen(tmp_path):
    content = {"state_dict": STATE, "state_dict_ema": OTHER}
    variables, source = load(content, tmp_path)
    assert_is(variables, STATE)
    assert "its average lies in state_dict_ema (config.pair.entry)" in source["notes"]
    variables, _ = load(content, tmp_path, entry="state_dict_ema")
    assert_is(variables, OTHER)
    variables, _ = load({"ema": OTHER, "epoch": np.array(1)}, tmp_path)
    assert_is(variables, OTHER)


def test_of_two_networks_one_must_be_chosen(tmp_path):
    content = prefixed("teacher.") | prefixed("student.", OTHER)
    with pytest.raises(UserError, match=r"2 networks that fit; .*config.pair.entry=…: teacher, student$"):
        load(content, tmp_path)
    variables, _ = load(content, tmp_path, entry="student")
    assert_is(variables, OTHER)
    with pytest.raises(UserError, match=r"pair.entry=pupil: it has no such part; it has teacher, student$"):
        load(content, tmp_path, entry="pupil")


def test_one_layer_more_is_another_network(tmp_path):
    more = {"fc4.weight": np.ones((10, 10), np.float32), "fc4.bias": np.ones(10, np.float32)}
    with pytest.raises(UserError, match=r"'fc4' \(weight 10x10, bias 10\) fits no layer$"):
        load(STATE | more, tmp_path)


def test_a_layer_without_bias_has_one_of_zero_and_goes_out_without(tmp_path):
    state = mlp_state(NAMES, bias=False)
    variables, source = load(state, tmp_path)
    assert_is(variables, state)
    assert (
        "not in the file, taken for 0 (scales: 1): dense1/bias, dense2/bias, dense3/bias" in source["notes"]
    )
    found = source_arrays(variables, source)
    assert found.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(found[key], array)
    variables["params"]["dense1"]["bias"] += 1
    with pytest.raises(UserError, match="'params/dense1/bias' has no place in the names of"):
        source_arrays(variables, source)


@pytest.mark.parametrize(
    "counter",
    [
        np.int64([7]),
        np.array(7, np.int32),
        np.float64(np.inf),
        np.zeros(0),
        np.array("seven"),
        np.complex64(1j),
    ],
    ids=lambda counter: f"{counter.dtype}{counter.shape}",
)
def test_counters_of_any_kind_come_back_bit_for_bit(counter, tmp_path):
    network = models.build({"name": "mlp", "hidden": (32,), "norm": "batch"}, SHAPE, 10)
    norm = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}
    norm = {f"bn.{name}": np.full(32, value, np.float32) for name, value in norm.items()}
    state = mlp_state(("l1", "l2")) | norm | {"bn.num_batches_tracked": np.asarray(counter)}
    formats.write(tmp_path / "x.npz", state, "npz")
    variables, source = load_variables(tmp_path / "x.npz", network, SHAPE)
    formats.write(tmp_path / "y.npz", source_arrays(variables, source), "npz")
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


def test_a_negative_variance_is_refused(tmp_path):
    network = models.build({"name": "mlp", "hidden": (32,), "norm": "batch"}, SHAPE, 10)
    norm = {
        f"bn.{name}": -np.ones(32, np.float32) for name in ("weight", "bias", "running_mean", "running_var")
    }
    formats.write(tmp_path / "x.npz", mlp_state(("l1", "l2")) | norm, "npz")
    with pytest.raises(
        UserError, match=r"'bn.running_var': expected variances; found -1, which is negative$"
    ):
        load_variables(tmp_path / "x.npz", network, SHAPE)


@pytest.mark.parametrize("prefix", ["", "model.", "a.b."])
def test_the_nearest_architecture_is_right_whatever_prefix_the_names_have(prefix, tmp_path):
    fewer = prefixed(prefix, {key.replace("fc", "layers."): array for key, array in STATE.items()})
    names = {"layers.1": "layers.0", "layers.3": "layers.4"}
    fewer = {
        next((key.replace(old, new) for old, new in names.items() if old in key), key): array
        for key, array in fewer.items()
    }
    lenet = models.build({"name": "lenet"}, (28, 28, 1), 10)
    formats.write(tmp_path / "x.npz", fewer, "npz")
    line = "nearest known architecture: model.name=mlp model.norm=none in the names of the LLFC authors' MLP$"
    with pytest.raises(UserError, match=line):
        load_variables(tmp_path / "x.npz", lenet, (28, 28, 1))


def test_an_architecture_that_is_none_of_the_known_is_not_guessed(tmp_path):
    formats.write(tmp_path / "x.npz", mlp_state(NAMES, hidden=31), "npz")
    with pytest.raises(UserError) as caught:
        load_variables(tmp_path / "x.npz", NETWORK, SHAPE)
    assert "nearest" not in str(caught.value)
