"""PyTorch modules against PyTorch itself, and the library on them."""

import copy
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("torchax") is None:  # it can't be imported by itself beside every torch
    pytest.skip("needs torchax", allow_module_level=True)

import torch_modules  # noqa: E402
from torch_line import as_jax, check_line, hooked  # noqa: E402
from torch_modules import MODULES, call, settled  # noqa: E402

import llfc_jax  # noqa: E402
from llfc_jax.errors import UserError  # noqa: E402
from llfc_jax.program.flat import flatten  # noqa: E402
from llfc_jax.symmetry import random_permutation  # noqa: E402

_READ = {}


def read(name):
    """A module of the list and its network; read once."""
    if name not in _READ:
        make, batch, options = MODULES[name]
        module = settled(make)
        _READ[name] = module, llfc_jax.from_torch(module, batch(), **options)
    return _READ[name]


def logits_of(name, module, inputs):
    outputs = call(module, inputs)
    return outputs[MODULES[name][2]["output"]] if isinstance(outputs, dict) else outputs


def relative(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected.detach(), np.float64)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("n", [1, 4, 9])
@pytest.mark.parametrize("name", MODULES)
def test_outputs_are_pytorchs_for_batches_of_any_size(name, n):
    (module, network), inputs = read(name), MODULES[name][1](n, seed=3)
    found = network.apply(network.variables, as_jax(inputs))
    assert relative(found, logits_of(name, module, inputs)) < 1e-5


@pytest.mark.parametrize("name", MODULES)
def test_features_are_what_submodules_return(name):
    (module, network), inputs = read(name), MODULES[name][1](5, seed=4)
    _, features = network.apply_with_features(network.variables, as_jax(inputs))
    _, expected = hooked(module, inputs)
    assert expected.keys() <= features.keys()
    for path, tensor in expected.items():
        assert relative(features[path], tensor) < 1e-5, path


@pytest.mark.parametrize("name", MODULES)
def test_every_permutation_of_the_spec_is_found_again_and_keeps_the_outputs(name):
    (_, network), inputs = read(name), as_jax(MODULES[name][1](5, seed=5))
    spec = llfc_jax.permutation_spec(network.apply, network.variables, inputs)
    assert spec.sizes
    drawn = random_permutation(jax.random.key(0), spec)
    moved = llfc_jax.apply_permutation(spec, drawn, network.variables)
    assert llfc_jax.check_equivalence(network.apply, network.variables, moved, inputs) < 1e-5
    found, _ = llfc_jax.weight_matching(jax.random.key(1), spec, network.variables, moved)
    back = llfc_jax.apply_permutation(spec, found, moved)
    jax.tree.map(np.testing.assert_array_equal, back, network.variables)


SLOW = ("convolutional", "transformer", "tied autoencoder", "tied language model", "lstm", "functional")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODULES]
)
def test_lmc_and_llfc_are_those_of_pytorch_in_float64(name):
    (module, network), (make, batch, _) = read(name), MODULES[name]

    def logits(outputs):
        return outputs[MODULES[name][2]["output"]] if isinstance(outputs, dict) else outputs

    check_line(network, module, settled(make, seed=1), batch(12, seed=6), logits)


@pytest.mark.parametrize("name", MODULES)
def test_a_state_dict_comes_back_bit_for_bit(name):
    (_, network), make = read(name), MODULES[name][0]
    other = settled(make, seed=2)
    expected = other.state_dict()
    found = network.state_dict(network.variables_of(expected))
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape), key
        assert torch.equal(found[key], tensor), key
    settled(make, seed=3).load_state_dict(found, strict=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept(dtype):
    module = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.Tanh()).to(dtype)
    inputs = torch_modules.vectors().to(dtype)
    network = llfc_jax.from_torch(module, inputs)
    assert network.variables["0.weight"].dtype == str(dtype).removeprefix("torch.")
    found = network.state_dict(network.variables)
    assert all(torch.equal(found[key], tensor) for key, tensor in module.state_dict().items())


def test_a_tensor_of_two_names_is_one_leaf():
    module, network = read("tied language model")
    assert list(network.variables) == ["embed.weight", "hidden.weight", "hidden.bias"]
    spec = llfc_jax.permutation_spec(network.apply, network.variables, torch_modules.ids().numpy())
    assert spec.leaves["['embed.weight']"].perms[1] is not None
    found = network.state_dict(network.variables)
    assert list(found) == list(module.state_dict())
    assert found["head.weight"] is found["embed.weight"]


def test_a_transposed_name_is_the_same_leaf():
    module, network = read("tied autoencoder")
    assert list(network.variables) == ["encoder.weight", "encoder.bias", "decoder.bias"]
    found = network.state_dict(network.variables)
    assert torch.equal(found["decoder.weight"], module.decoder.weight)


def test_one_name_of_a_tied_tensor_will_do_and_two_that_differ_are_refused():
    module, network = read("tied autoencoder")
    state = dict(module.state_dict())
    leaf = state.pop("encoder.weight")
    np.testing.assert_array_equal(network.variables_of(state)["encoder.weight"], leaf.numpy())
    with pytest.raises(UserError, match=r"^state dict: encoder.weight and decoder.weight are one tensor"):
        network.variables_of({**state, "encoder.weight": leaf + 1})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda state: {**state, "head.weight": torch.zeros(6, 8)},
            r"state dict: head.weight: expected shape \(5, 8\); found \(6, 8\)",
        ),
        (
            lambda state: {key: value for key, value in state.items() if key != "norm1.running_var"},
            r"state dict: norm1.running_var: expected shape \(6,\); found no such entry",
        ),
        (
            lambda state: {**state, "extra.bias": torch.zeros(3)},
            r"state dict: extra.bias: expected no such entry; found shape \(3,\)",
        ),
        (
            lambda state: {**state, "conv1.weight": state["conv1.weight"].long()},
            r"state dict: conv1.weight: expected torch.float32; found torch.int64",
        ),
    ],
    ids=["shape", "missing", "unexpected", "kind"],
)
def test_the_state_dict_of_another_module_is_one_line(change, line):
    module, network = read("convolutional")
    with pytest.raises(UserError, match=f"^{line}$"):
        network.variables_of(change(module.state_dict()))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_wrapped_modules_are_taken_off(prefix):
    module, network = read("convolutional")
    state = {f"{prefix}{key}": tensor for key, tensor in module.state_dict().items()}
    jax.tree.map(np.testing.assert_array_equal, network.variables_of(state), network.variables)


def test_training_mode_updates_buffers_as_pytorch_does_without_dropout():
    (module, network), inputs = read("convolutional"), torch_modules.images(6, seed=7)
    found, updated = network.apply_train(network.variables, as_jax(inputs))
    expected = copy.deepcopy(module).train()
    expected.dropout.eval()
    assert relative(found, expected(inputs)) < 1e-5
    for name, tensor in expected.state_dict().items():
        np.testing.assert_allclose(updated[name], tensor.numpy(), rtol=1e-5, atol=1e-6)
    assert updated["norm1.num_batches_tracked"] == 18
    np.testing.assert_array_equal(network.variables["norm1.num_batches_tracked"], 17)


@pytest.mark.parametrize("name", ["convolutional", "transformer", "lstm"])
def test_dropout_is_drawn_from_a_key_and_left_out_without_one(name):
    (_, network), inputs = read(name), as_jax(MODULES[name][1](7, seed=7))

    def train(key):
        return np.asarray(network.apply_train(network.variables, inputs, key)[0])

    first, again, other = (train(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != train(None)).any()


def test_dropout_drops_its_part_and_keeps_the_mean():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4000), torch.nn.Dropout(0.3))
    network = llfc_jax.from_torch(module, torch.ones(2, 3))
    inputs = jnp.ones((5, 3))
    found, _ = network.apply_train(network.variables, inputs, jax.random.key(0))
    plain = network.apply(network.variables, inputs)
    kept = found != 0
    np.testing.assert_allclose(found[kept], plain[kept] / 0.7, rtol=1e-5)
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.02)


def test_what_jax_prints_of_a_network_when_it_traces_is_short():
    assert len(repr(read("convolutional")[1].apply)) < 200


CONVOLUTIONS = {
    "grouped, dilated, strided": (
        lambda: torch.nn.Conv2d(4, 8, 3, groups=2, dilation=2, padding=1, stride=2),
        (4, 9, 9),
    ),
    "padded alike": (lambda: torch.nn.Conv2d(4, 8, (2, 3), padding="same"), (4, 9, 8)),
    "over sequences": (lambda: torch.nn.Conv1d(4, 6, 3), (4, 9)),
    "over volumes": (lambda: torch.nn.Conv3d(2, 3, 2), (2, 4, 4, 4)),
    "transposed": (lambda: torch.nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_convolution_is_pytorchs(name):
    make, shape = CONVOLUTIONS[name]
    module, inputs = settled(make), torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    network = llfc_jax.from_torch(module, inputs)
    assert relative(network.apply(network.variables, as_jax(inputs)), module(inputs)) < 1e-5


def test_images_are_convolved_with_channels_last():
    """As XLA:CPU wants them in a loop."""
    _, network = read("convolutional")
    features_fn, inputs = network.apply_with_features, as_jax(torch_modules.images())
    found = flatten(features_fn, network.variables, inputs).instructions
    specs = [one.eqn.params["dimension_numbers"] for one in found if "conv" in one.primitive]
    assert [spec.lhs_spec for spec in specs] == [(0, 3, 1, 2)] * 2


def test_no_code_of_the_module_is_run_after_it_has_been_read(monkeypatch):
    name = "convolutional"
    make, batch, _ = MODULES[name]
    network = llfc_jax.from_torch(settled(make), batch())

    def forbidden(*_):
        raise AssertionError("the module was called")

    monkeypatch.setattr(make, "forward", forbidden)
    monkeypatch.setattr(torch.nn.Module, "__call__", forbidden)
    for n in (4, 7):
        inputs = as_jax(batch(n))
        network.apply(network.variables, inputs)
        network.apply_with_features(network.variables, inputs)
        network.apply_train(network.variables, inputs)


def test_methods_are_one_function_for_jit():
    (_, network), inputs = read("sequential"), as_jax(torch_modules.vectors())
    assert network.apply == network.apply
    assert hash(network.apply) == hash(network.apply)
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(apply, variables, inputs):
        traces.append(apply)
        return apply(variables, inputs)

    for _ in range(3):
        run(network.apply, network.variables, inputs)
    assert len(traces) == 1


def test_the_module_and_torch_are_left_as_they_were():
    module = torch_modules.Convolutional().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    generator = torch.get_rng_state()
    llfc_jax.from_torch(module, torch_modules.images())
    assert torch.equal(torch.get_rng_state(), generator)
    assert module.training
    assert all(part.training for part in module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.get_default_device().type == "cpu"
    assert type(torch.zeros(1) + module.head.weight.sum()) is torch.Tensor
    assert torch.nn.DataParallel(torch.nn.Linear(2, 2)).module.weight.device.type == "cpu"
