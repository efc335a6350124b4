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
