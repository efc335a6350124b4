"""What can't be read of a PyTorch module: one line that names the place, and a module left as it was."""

import importlib.util
import random
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("torchax") is None:  # it can't be imported by itself beside every torch
    pytest.skip("needs torchax", allow_module_level=True)

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

import llfc_jax  # noqa: E402
from llfc_jax.bridges import torch_import  # noqa: E402
from llfc_jax.errors import UserError  # noqa: E402

X = torch.linspace(-1, 1, 48).view(4, 12)


class Inner(nn.Module):
    """Does with a linear layer's output what it is told."""

    def __init__(self, then):
        super().__init__()
        self.linear, self.then = nn.Linear(12, 12), then
        self.calls, self.seen = 0, []
        self.register_buffer("total", torch.zeros(12))
        self.register_buffer("hidden", torch.zeros(12), persistent=False)
        self.table = torch.zeros(12)

    def forward(self, x):
        return self.then(self, self.linear(x))


def module(then):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 12), Inner(then))


def branch(self, x):
    return x if x.sum() > 0 else -x


def python_number(self, x):
    return x * x.max().item()


def boolean_mask(self, x):
    return x + x[x > 0].sum()


def noise(self, x):
    return x + torch.randn(12)


def dropout(self, x):
    return functional.dropout(x, 0.5)


def numpy_noise(self, x):
    return x * float(np.random.rand())  # noqa: NPY002


def python_noise(self, x):
    return x * random.random()


def counter(self, x):
    self.calls += 1
    return x


def log(self, x):
    self.seen.append(1)
    return x


def buffer_in_place(self, x):
    self.total.add_(x.mean(0))
    return x


def buffer_anew(self, x):
    self.total = self.total + x.mean(0)
    return x


def unsaved_buffer(self, x):
    self.hidden.mul_(2)
    return x


def own_tensor(self, x):
    self.table += 1
    return x


def lost_operator(self, x):
    return functional.adaptive_max_pool1d(x, 5)


def other_meaning(self, x):
    x.view(-1).add_(1)
    return x


def wrong_shape(self, x):
    return self.linear(x[:, :3])


def no_arrays(self, x):
    return None


@pytest.mark.parametrize(
    ("then", "line"),
    [
        *(
            (then, r"the module's 1 \(from_torch_refusals_test.py:\d+: .*\) branches on data, or has shapes")
            for then in (branch, python_number, boolean_mask)
        ),
        *(
            (then, r"the module's 1 \(from_torch_refusals_test.py:\d+: return .*\) draws random numbers$")
            for then in (noise, dropout)
        ),
        (numpy_noise, r"the module draws random numbers from numpy.random$"),
        (python_noise, r"the module draws random numbers from Python's random$"),
        (counter, r"the module writes its attribute 1.calls when it is called$"),
        (log, r"the module writes its attribute 1.seen when it is called$"),
        (own_tensor, r"the module writes its attribute 1.table when it is called$"),
        (buffer_in_place, r"the module writes its own 1.total when it is called$"),
        (buffer_anew, r"the module writes its own 1.total when it is called$"),
        (unsaved_buffer, r"the module writes its own 1.hidden when it is called$"),
        (lost_operator, r"the module's 1 \(.*\): torchax [\d.]+ has no aten::adaptive_max_pool.* in JAX$"),
        (other_meaning, r"output differs from PyTorch's by .* of its largest entry: torchax gives"),
        (wrong_shape, r"the module's 1.linear \(.*return self.linear\(x\[:, :3\]\)\) fails: "),
        (no_arrays, r"output: expected a module that returns arrays; found none"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_module_that_is_no_pure_function_is_one_line(then, line):
    read = module(then)
    state = {name: tensor.clone() for name, tensor in read.state_dict().items()}
    random_states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with pytest.raises(UserError, match=f"^from_torch: {line}") as caught:
        llfc_jax.from_torch(read, X)
    assert "\n" not in str(caught.value)
    assert (read[1].calls, read[1].seen, read[1].table.sum(), read[1].hidden.sum()) == (0, [], 0, 0)
    assert all(torch.equal(state[name], tensor) for name, tensor in read.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], random_states[1])  # noqa: NPY002
    assert random.getstate() == random_states[2]


def test_a_module_that_draws_in_training_alone_is_read_and_not_trained():
    def stochastic_depth(self, x):
        return x * (torch.rand(len(x), 1) > 0.5) if self.training else x

    network = llfc_jax.from_torch(module(stochastic_depth), X)
    assert network.apply(network.variables, X.numpy()).shape == (4, 12)
    with pytest.raises(UserError, match=r"^apply_train: the module's 1 .* draws random numbers$"):
        network.apply_train(network.variables, X.numpy())


def test_a_program_that_changes_with_the_batch_is_kept_for_that_of_the_example():
    def one_by_one(self, x):
        return torch.stack([row * 2 for row in x])

    read = module(one_by_one).eval()
    network = llfc_jax.from_torch(read, X)
    np.testing.assert_allclose(network.apply(network.variables, X), read(X).detach(), rtol=1e-5)
    expected = (
        r"inputs: expected shape \(4, 12\); found \(3, 12\) \(the module's program changes with the batch"
    )
    with pytest.raises(UserError, match=expected):
        network.apply(network.variables, X[:3])


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (np.zeros((2, 11), np.float32), r"inputs: expected shape \(n, 12\); found \(2, 11\)"),
        (np.zeros((2, 12), np.int32), r"inputs: expected float32, as in the example; found int32"),
        ({"x": np.zeros((2, 12), np.float32)}, r"inputs: expected inputs, as in the example; found inputs x"),
    ],
    ids=["shape", "kind", "structure"],
)
def test_other_inputs_than_the_examples_are_one_line(inputs, line):
    network = llfc_jax.from_torch(nn.Linear(12, 3), X)
    with pytest.raises(UserError, match=f"^{line}"):
        network.apply(network.variables, inputs)


def pair(self, x):
    return x, (x + 1, None)


def test_which_of_several_outputs_is_the_logits_is_asked_for():
    several = r"0 float32\[4, 12\], 1.0 float32\[4, 12\]"
    with pytest.raises(UserError, match=rf"^from_torch: output: .* returns several: {several}; found none$"):
        llfc_jax.from_torch(module(pair), X)
    with pytest.raises(UserError, match=r"output: expected one of 0 .*, 1.0 .*; found 2$"):
        llfc_jax.from_torch(module(pair), X, output=2)
    first, second = (llfc_jax.from_torch(module(pair), X, output=output) for output in (0, "1.0"))
    expected = first.apply(first.variables, X.numpy()) + 1
    np.testing.assert_allclose(second.apply(second.variables, X.numpy()), expected, rtol=1e-6)


def test_the_entry_called_logits_is_taken():
    network = llfc_jax.from_torch(module(lambda self, x: {"loss": x.sum(), "logits": x}), X)
    assert network.apply(network.variables, X.numpy()).shape == (4, 12)


class Overlapping(nn.Module):
    def __init__(self):
        super().__init__()
        rows = torch.zeros(4, 12)
        self.upper, self.lower = nn.Parameter(rows[:3]), nn.Parameter(rows[1:])

    def forward(self, x):
        return x @ self.upper.T + x @ self.lower.T


def test_an_embedding_bag_that_rewrites_its_table_is_one_line():
    bag = nn.EmbeddingBag(5, 3, max_norm=1.0)
    with pytest.raises(
        UserError, match=r"^from_torch: the module calls embedding_bag with offsets, or on a ta"
    ):
        llfc_jax.from_torch(bag, np.zeros((4, 2), np.int32))


@pytest.mark.parametrize(
    ("read", "line"),
    [
        (lambda: 3, r"expected a torch.nn.Module in Python; found int"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), r"0.weight has no shape yet"),
        (lambda: nn.Linear(12, 3, device="meta"), r"weight has no values"),
        (Overlapping, r"upper and lower share a part of their memory"),
    ],
    ids=["no module", "lazy", "meta", "overlapping"],
)
def test_what_is_no_module_with_weights_is_one_line(read, line):
    with pytest.raises(UserError, match=f"^from_torch: {line}"):
        llfc_jax.from_torch(read(), X)


def test_numbers_that_jax_would_cut_are_refused():
    with pytest.raises(UserError, match=r"weight: expected at most 32-bit floats; found float64"):
        llfc_jax.from_torch(nn.Linear(12, 3).double(), X)


@pytest.mark.parametrize(
    ("name", "version", "line"),
    [
        ("torch", None, "expected PyTorch and torchax .*; found no torch"),
        ("torchax", None, "expected PyTorch and torchax .*; found no torchax"),
        ("torch", "1.13.1+cu117", "expected torch 2.6 or newer; found 1.13.1"),
        ("torchax", "0.0.4", "expected torchax 0.0.13 or newer; found 0.0.4"),
    ],
)
def test_missing_or_old_libraries_are_one_line(name, version, line, monkeypatch):
    torch_import.import_torch()
    if version is None:
        monkeypatch.setitem(sys.modules, name, None)
    else:
        monkeypatch.setattr(sys.modules[name], "__version__", version)
    with pytest.raises(UserError, match=f"^from_torch: {line}"):
        torch_import.import_torch()


def test_importing_the_library_imports_neither_torch_nor_jax():
    code = (
        "import sys, llfc_jax; assert not {'jax', 'torch', 'torchax'} & sys.modules.keys(); llfc_jax.__all__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
