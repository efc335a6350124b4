"""Against PyTorch itself: the same logits, and state dicts that come back as they were."""

import argparse
import collections
from pathlib import Path

import cases
import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_networks  # noqa: E402

from llfc_jax import models  # noqa: E402
from llfc_jax.errors import UserError  # noqa: E402
from llfc_jax.interchange import formats, load_variables, source_arrays  # noqa: E402

WRAPPED = {
    "DataParallel": lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": tensor for key, tensor in state.items()},
    "with the optimizer": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state},
    "parameters that want gradients": lambda state: {
        key: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor
        for key, tensor in state.items()
    },
}


def build(name):
    case = cases.CASES[name]
    return models.build(case.config, case.shape, 10), case.shape


def assert_same_state(found, expected):
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", cases.CASES)
def test_logits_are_those_of_pytorch_and_the_state_dict_comes_back(name, tmp_path):
    theirs, (ours, shape) = torch_networks.make(name), build(name)
    torch.save(theirs.state_dict(), tmp_path / "network.pt")
    variables, source = load_variables(tmp_path / "network.pt", ours, shape)
    assert source["matched_by"].startswith("names of ")
    images = cases.some_images(shape)
    expected = torch_networks.logits(theirs, images)
    assert cases.relative_error(jax.jit(ours.apply)(variables, images), expected) < 1e-4

    formats.write(tmp_path / "again.pth", source_arrays(variables, source), "pt")
    state = torch.load(tmp_path / "again.pth", weights_only=True)
    assert_same_state(state, theirs.state_dict())
    torch_networks.make(name, seed=2).load_state_dict(state, strict=True)


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_training_scripts_wrap_around_a_state_dict_is_taken_off(wrapper, tmp_path):
    network, shape = build("resnet20")
    state = torch_networks.make("resnet20").state_dict()
    torch.save(state, tmp_path / "bare.pt")
    torch.save(WRAPPED[wrapper](state), tmp_path / "wrapped.pt")
    (bare, _), (found, source) = (
        load_variables(tmp_path / f"{name}.pt", network, shape) for name in ("bare", "wrapped")
    )
    jax.tree.map(np.testing.assert_array_equal, found, bare)
    prefix = next((p for p in ("module.", "_orig_mod.") if p in next(iter(source["arrays"]))), "")
    assert list(source_arrays(found, source)) == [f"{prefix}{key}" for key in state]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_half_precision_comes_back_bit_for_bit(dtype, format, tmp_path):
    network, shape = build("vgg16_bn")
    state = torch_networks.make("vgg16_bn").to(dtype).state_dict()
    torch.save(state, tmp_path / "half.pt")
    variables, source = load_variables(tmp_path / "half.pt", network, shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    out = tmp_path / f"again.{format}"
    formats.write(out, source_arrays(variables, source), format)
    found, source = load_variables(out, network, shape)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    formats.write(tmp_path / "third.pt", source_arrays(found, source), "pt")
    third = torch.load(tmp_path / "third.pt", weights_only=True)
    assert_same_state({key: third[key] for key in state}, state)


def test_names_that_are_in_no_table_are_matched_by_shape(tmp_path):
    network, shape = build("lenet")
    state = torch_networks.make("lenet").state_dict()
    torch.save(state, tmp_path / "known.pt")
    renamed = {"conv1": "stem", "conv2": "body", "fc1": "z", "fc2": "y", "fc3": "x"}
    unknown = collections.OrderedDict()
    for key, tensor in state.items():
        module, _, array = key.partition(".")
        unknown[f"{renamed[module]}.{array}"] = tensor
    torch.save(unknown, tmp_path / "unknown.pt")
    (known, _), (found, source) = (
        load_variables(tmp_path / f"{name}.pt", network, shape) for name in ("known", "unknown")
    )
    assert source["matched_by"] == "shapes"
    jax.tree.map(np.testing.assert_array_equal, found, known)
    assert_same_state({k: torch.from_numpy(v) for k, v in source_arrays(found, source).items()}, unknown)


WITH = {
    "numbers of NumPy": lambda state: {"net": state, "accuracy": np.float64(93), "epochs": np.arange(3)},
    "the arguments": lambda state: {"args": argparse.Namespace(lr=0.1), "out": Path("x"), "model": state},
    "itself": lambda state: cyclic({"model": state}),
    "the state of Adam": lambda state: {"model": state, "optimizer": adam(state)},
    "another network": lambda state: {"network": state, "other": {"w.weight": torch.zeros(3, 4)}},
    "a tensor of terabytes": lambda state: {"net": state | {"junk": torch.zeros(1).expand(2**30, 2**10)}},
    "a sparse tensor": lambda state: {"net": state, "graph": torch.eye(3).to_sparse()},
}


def cyclic(content):
    return content | {"all": [content, content]}


def adam(state):
    return {"state": {i: {"exp_avg": x, "exp_avg_sq": x} for i, x in enumerate(state.values())}}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("case", WITH)
def test_a_state_dict_is_read_beside_whatever_is_saved_with_it(case, legacy, tmp_path):
    network, shape = build("lenet")
    state = dict(torch_networks.make("lenet").state_dict())
    torch.save(state, tmp_path / "bare.pt")
    torch.save(WITH[case](state), tmp_path / "x.pth.tar", _use_new_zipfile_serialization=not legacy)
    (bare, _), (found, source) = (
        load_variables(tmp_path / name, network, shape) for name in ("bare.pt", "x.pth.tar")
    )
    jax.tree.map(np.testing.assert_array_equal, found, bare)
    assert_same_state({k: torch.from_numpy(v) for k, v in source_arrays(found, source).items()}, state)


def test_the_average_of_weights_comes_back_with_its_counters(tmp_path):
    network, shape = build("resnet20")
    averaged = torch.optim.swa_utils.AveragedModel(torch_networks.make("resnet20"))
    state = averaged.state_dict()
    for key in state:
        if key.endswith("num_batches_tracked"):
            state[key] = state[key].reshape(1)
    torch.save(state, tmp_path / "x.ckpt")
    found, source = load_variables(tmp_path / "x.ckpt", network, shape)
    formats.write(tmp_path / "again.pt", source_arrays(found, source), "pt")
    assert_same_state(torch.load(tmp_path / "again.pt", weights_only=True), state)


def test_an_expanded_tensor_is_refused_where_the_network_wants_it(tmp_path):
    network, shape = build("lenet")
    state = torch_networks.make("lenet").state_dict()
    torch.save(state | {"fc2.weight": torch.zeros(1).expand(2**31, 2**10)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"'fc2.weight' is 2147483648x1024 \(expected 21x30\)"):
        load_variables(tmp_path / "x.pt", network, shape)


@pytest.mark.parametrize("key", [1, None, (1, 2)])
def test_keys_that_are_no_strings_are_read_as_such(key, tmp_path):
    network, shape = build("lenet")
    state = dict(torch_networks.make("lenet").state_dict())
    torch.save(state | {key: torch.zeros(1)}, tmp_path / "x.pt")
    _, source = load_variables(tmp_path / "x.pt", network, shape)
    assert source["notes"] == [f"no part of it: {key}"]


@pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning", "ignore::DeprecationWarning")
def test_a_program_is_called_one(tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    traced.save(str(tmp_path / "x.pt"))
    with pytest.raises(UserError, match=r"x.pt is a TorchScript archive, .* save model.state_dict\(\)$"):
        formats.read(tmp_path / "x.pt")


class Bomb:
    """Its pickle, if it is run, leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (lambda path: Bomb(path), "expected tensors alone, as torch.save.* which was not run"),
        (lambda path: {"state_dict": {"w": Bomb(path)}}, "expected tensors alone"),
        (lambda path: torch.nn.Linear(2, 2), "expected tensors alone"),
        (lambda path: {"epoch": 3}, "expected a state dict, bare or under a key; found epoch"),
        (lambda path: [torch.zeros(1)], r"does not fit the model: nothing in it fits 'dense1'"),
        (lambda path: torch.zeros(1), "expected a state dict; found Tensor"),
        (lambda path: {}, "expected a state dict, bare or under a key; found nothing"),
    ],
    ids=["code", "code in a state dict", "a whole module", "no weights", "a list", "a tensor", "nothing"],
)
def test_a_file_that_is_no_state_dict_is_one_line_and_runs_nothing(content, line, tmp_path):
    network, shape = build("mlp")
    torch.save(content(tmp_path / "executed"), tmp_path / "bad.pt")
    with pytest.raises(UserError, match=f"^{tmp_path / 'bad.pt'}:? {line}") as caught:
        load_variables(tmp_path / "bad.pt", network, shape)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
