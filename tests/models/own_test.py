"""Networks in files of the user's: made, run and trained as their frameworks do, and refused in one line."""

import importlib.util
import json
import re
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_files
import pytest

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.models.own import network as own
from llfc_jax.path.curves import Curve
from llfc_jax.types import Batch

SHAPE, CLASSES = (8, 8, 1), 10
HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "torchax"))
WITH_TORCH = pytest.mark.skipif(not HAS_TORCH, reason="needs torch and torchax, of the extra [torch]")
NAMES = ["jax_nets.py:Linen", "jax_nets.py:Nnx", "jax_nets.py:functions"]
ALL = [*NAMES, pytest.param("torch_nets.py:Net", marks=WITH_TORCH)]
IMAGES = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The files, with the path of Python put back afterwards."""
    directory, path = tmp_path_factory.mktemp("own"), [*sys.path]
    (directory / "jax_nets.py").write_text(own_files.FLAX)
    (directory / "torch_nets.py").write_text(own_files.TORCH)
    yield directory
    sys.path[:] = path


def make(directory, name, **arguments):
    return models.make({"name": f"{directory / name}", "args": arguments}, SHAPE, CLASSES)


@pytest.fixture(scope="module", params=ALL)
def made(request, directory):
    return make(directory, request.param)


@pytest.fixture(scope="module")
def variables(made):
    return made.draw(jax.random.key(0), IMAGES)


def same(one, other):
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def test_what_is_drawn_is_a_function_of_the_key(made, variables):
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), made.shapes())
    assert same(variables, made.draw(jax.random.key(0), IMAGES))
    assert not same(variables, made.draw(jax.random.key(1), IMAGES))


def test_parameters_and_what_changes_are_apart_and_together_everything(made, variables):
    params = made.parameters(variables)
    _, changes = made.apply_train(variables, IMAGES, None)
    assert params.keys().isdisjoint(changes)
    assert {*params, *changes} == {*own.by_path(variables)}
    moved = made.updated(variables, {path: leaf + 1 for path, leaf in params.items()}, changes)
    assert all(np.array_equal(made.parameters(moved)[path], leaf + 1) for path, leaf in params.items())
    assert jax.tree.structure(moved) == jax.tree.structure(variables)


def test_dropout_is_keyed_and_there_is_none_without_a_key(made, variables):
    def train(key):
        return np.asarray(made.apply_train(variables, IMAGES, key)[0])

    np.testing.assert_array_equal(train(None), train(None))
    np.testing.assert_array_equal(train(jax.random.key(3)), train(jax.random.key(3)))
    drops = "functions" not in made.origin.written
    assert (train(jax.random.key(3)) != train(jax.random.key(4))).any() == drops
    assert (train(jax.random.key(3)) != train(None)).any() == drops


def test_training_moves_the_statistics_to_those_of_the_batch(made, variables):
    """With their own momentum; a mean of many updates by one batch is the batch's."""
    _, first = made.apply_train(variables, IMAGES, None)
    means = [path for path in first if "mean" in path]
    assert len(means) == ("functions" not in made.origin.written)
    assert (made.recompute(lambda images: images) is None) == (not means)
    for path in means:
        state = variables
        for _ in range(2):
            state = made.updated(state, {}, made.apply_train(state, IMAGES, None)[1])
        once, twice = first[path], own.by_path(state)[path]
        momentum = np.asarray((twice - once) / once)  # m1 = (1-c) b, m2 = c m1 + (1-c) b
        np.testing.assert_allclose(momentum, momentum[0], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("jax_nets.py:Idle", "norm"),
        ("jax_nets.py:Frozen", "batch_stats/norm"),
        pytest.param("torch_nets.py:Idle", "norm", marks=WITH_TORCH),
    ],
)
def test_statistics_that_training_leaves_alone_are_named_and_not_recomputed(name, module, directory):
    made = make(directory, name)
    assert made.unmoved_statistics[0].startswith(module)
    assert made.recompute(lambda images: images) is None


def test_statistics_that_training_moves_are_recomputed_beside_others(directory):
    made = make(directory, "jax_nets.py:Idle", runs="norm")
    variables = made.draw(jax.random.key(0), IMAGES)
    assert made.unmoved_statistics == ("other",)
    correction = made.recompute(lambda images: images)
    batch = Batch(IMAGES, np.zeros(len(IMAGES), np.int32), np.ones(len(IMAGES), np.float32))
    found = correction.statistics(None, Curve(variables, variables), (0.0,), lambda: [batch])[0.0]
    first = jax.tree.map(np.float64, variables["first"])
    hidden = IMAGES.reshape(len(IMAGES), -1) @ first["kernel"] + first["bias"]
    np.testing.assert_allclose(found["norm"]["mean"], hidden.mean(0), rtol=1e-4, atol=1e-6)
    mended = correction.mend(variables, found)
    assert same(mended["other"], variables["other"])
    assert not same(mended["norm"], variables["norm"])


@WITH_TORCH
def test_a_module_of_pytorch_sees_channels_first_and_computes_what_it_does(directory):
    import torch

    made = make(directory, "torch_nets.py:Net", hidden=5)
    module = sys.modules[made.definition._make.func.__module__].Net(hidden=5).eval()
    variables = {name: jnp.asarray(tensor.numpy()) for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        expected = module(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(made.apply(variables, IMAGES), expected, rtol=1e-4, atol=1e-6)


def test_a_linen_module_is_told_of_its_mode(directory):
    made = make(directory, "jax_nets.py:Linen", hidden=4)
    variables = made.draw(jax.random.key(0), IMAGES)
    module = made.definition._module
    assert (module.hidden, module.num_classes) == (4, CLASSES)
    with nn.intercept_methods(lambda call, args, kwargs, context: call(*args, **kwargs)):
        expected = module.apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(made.apply(variables, IMAGES), expected)


def test_an_argument_takes_the_type_of_its_default(directory):
    made = make(directory, "jax_nets.py:functions", scale=2)
    plain = make(directory, "jax_nets.py:functions")
    twice, once = (one.draw(jax.random.key(0), IMAGES)["first"] for one in (made, plain))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_a_file_is_run_once_with_its_directory_on_the_path(directory, tmp_path, monkeypatch):
    (tmp_path / "beside_it.py").write_text("HIDDEN = 3\n")
    (tmp_path / "counted.py").write_text(
        "import pathlib\nfrom beside_it import HIDDEN\n"
        f"with pathlib.Path({json.dumps(str(tmp_path / 'runs'))}).open('a') as file: file.write('x')\n"
        + own_files.FLAX.replace("hidden=8", "hidden=HIDDEN")
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    for _ in range(2):
        made = make(tmp_path, "counted.py:functions")
    assert made.shapes()["first"].shape == (64, 3)
    assert (tmp_path / "runs").read_text() == "x"


FAULTS = {
    "no file": ("none.py:Net", {}, r"config.model.name: .*/none.py: No such file or directory"),
    "no name": (
        "jax_nets.py:Nett",
        {},
        r"config.model.name: .* has no Nett; expected one of Linen, Nnx, Idle, Frozen, functions",
    ),
    "nothing named": ("jax_nets.py", {}, r"config.model.name: expected FILE.py:NAME; found .*/jax_nets.py"),
    "a syntax error": ("wrong.py:Net", {}, r".*wrong.py:Net: wrong.py:2: SyntaxError: .*"),
    "an error when it is run": (
        "raising.py:Net",
        {},
        r".*: raising.py:2: ZeroDivisionError: division by zero",
    ),
    "an exit": ("leaving.py:Net", {}, r".*: it ends the process, by sys.exit\(3\)"),
    "no module": ("other.py:number", {}, r".*: expected a class of PyTorch, Linen or NNX .*; found an int"),
    "another return": ("other.py:nothing", {}, r".*; found one that returns None"),
    "an error when it is made": ("other.py:failing", {}, r".*: other.py:4: KeyError: 'depth'"),
    "an error when it is applied": ("other.py:misshapen", {}, r".*: other.py:7: TypeError: .*"),
    "no logits": ("other.py:nameless", {}, r".*: expected logits \(2, 10\), .*; found None"),
    "no name of the logits": (
        "other.py:several",
        {},
        r"config.model.output: expected the name of one, as the module returns several: "
        r"0 float32\[2, 8, 8, 1\], 1.out float32\[2, 10\]; found none",
    ),
    "other classes": ("jax_nets.py:functions", {"num_classes": 7}, r".*found an array of shape \(2, 7\)"),
    "an unknown argument": (
        "jax_nets.py:functions",
        {"hiden": 3},
        r"config.model.args.hiden: functions has no such argument; did you mean 'hidden'\? .*",
    ),
    "an argument of another kind": (
        "jax_nets.py:functions",
        {"hidden": "wide"},
        r"config.model.args.hidden: expected a whole number, as 8 is; found 'wide'",
    ),
    "an argument left out": (
        "other.py:asking",
        {},
        r"config.model.args.depth: expected a value, for which asking has no default; .*",
    ),
}
OTHER = """import jax
number = 3
nothing = lambda: None
def failing(): return {}["depth"]
def misshapen():
    def apply(variables, x):
        return x.reshape(len(x), -1) @ variables
    return lambda key, x: jax.numpy.ones((3, 10)), apply
def nameless():
    return lambda key, x: jax.numpy.ones(()), lambda variables, x: None
def several():
    def apply(variables, x):
        return x, {"out": x.reshape(len(x), -1) @ variables}
    return lambda key, x: jax.numpy.ones((64, 10)), apply
def asking(depth): ...
"""


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(name, directory):
    for file, source in {
        "wrong.py": "x = 1\nclass Net(:\n",
        "raising.py": "x = 0\n1 / x\n",
        "leaving.py": "import sys\nsys.exit(3)\n",
        "other.py": OTHER,
    }.items():
        (directory / file).write_text(source)
    written, arguments, line = FAULTS[name]
    with pytest.raises(UserError) as caught:
        make(directory, written, **arguments)
    assert re.fullmatch(line, str(caught.value)), str(caught.value)


def test_the_logits_are_the_output_that_is_asked_for(directory):
    (directory / "several.py").write_text(OTHER)
    config = {"name": f"{directory / 'several.py'}:several", "args": {}, "output": "1.out"}
    made = models.make(config, SHAPE, CLASSES)
    logits = made.apply(jnp.ones((64, CLASSES)), IMAGES)
    np.testing.assert_allclose(logits, np.repeat(IMAGES.reshape(6, -1).sum(-1)[:, None], 10, 1), rtol=1e-5)
    with pytest.raises(
        UserError, match=r"^config.model.output: expected one of 0 .*, 1.out .*; found logits"
    ):
        models.make({**config, "output": "logits"}, SHAPE, CLASSES)


@WITH_TORCH
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Branching", r".*: the module \(torch_nets.py:\d+: .*\) branches on data, .*"),
        ("made", r".*: expected a class of PyTorch, .*; found a Plain"),
    ],
)
def test_a_module_that_cannot_be_read_or_drawn_is_refused(name, line, directory):
    with pytest.raises(UserError) as caught:
        make(directory, f"torch_nets.py:{name}")
    assert re.fullmatch(line, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"name": "net.py:Net", "hidden": (3,)},
            r"model.hidden: net.py:Net takes its arguments from model.args;.*",
        ),
        ({"name": "mlp", "args": {"hidden": 3}}, r"model.args: expected none for model.name='mlp', .*"),
    ],
)
def test_options_of_the_zoo_and_arguments_of_files_are_not_mixed_up(config, line):
    with pytest.raises(UserError, match=f"^{line}"):
        models.options_of(config)
