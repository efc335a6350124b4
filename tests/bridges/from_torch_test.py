"""PyTorch modules against PyTorch itself, and the library on them."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("torchax") is None:  # it can't be imported by itself beside every torch
    pytest.skip("needs torchax", allow_module_level=True)

from torch_modules import MODULES, call, settled  # noqa: E402

import llfc_jax  # noqa: E402

_READ = {}


def read(name):
    """A module of the list and its network; read once."""
    if name not in _READ:
        make, batch, options = MODULES[name]
        module = settled(make)
        _READ[name] = module, llfc_jax.from_torch(module, batch(), **options)
    return _READ[name]


def as_jax(inputs):
    return jax.tree.map(lambda tensor: jnp.asarray(tensor.numpy()), inputs)


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


def hooked(module, inputs):
    """What submodules return, by PyTorch's own forward hooks."""
    found, hooks = {}, []
    for path, part in module.named_modules():

        def keep(_, __, output, path=path):
            if path and torch.is_tensor(output):
                found.setdefault(path, []).append(output.detach().clone())

        hooks.append(part.register_forward_hook(keep))
    outputs = call(module, inputs)
    for hook in hooks:
        hook.remove()
    return outputs, {
        f"{path}/{index}" if len(outputs) > 1 else path: output
        for path, outputs in found.items()
        for index, output in enumerate(outputs)
    }


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
    keys = jax.random.split(jax.random.key(0), len(spec.sizes))
    drawn = {
        perm: jax.random.permutation(key, size)
        for key, (perm, size) in zip(keys, spec.sizes.items(), strict=True)
    }
    moved = llfc_jax.apply_permutation(spec, drawn, network.variables)
    assert llfc_jax.check_equivalence(network.apply, network.variables, moved, inputs) < 1e-5
    found, _ = llfc_jax.weight_matching(jax.random.key(1), spec, network.variables, moved)
    back = llfc_jax.apply_permutation(spec, found, moved)
    jax.tree.map(np.testing.assert_array_equal, back, network.variables)
