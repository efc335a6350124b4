"""Files in and out without PyTorch: recorded networks of it, our own formats, and files that are wrong."""

import itertools
from functools import cache
from pathlib import Path

import cases
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, load_variables, source_arrays
from llfc_jax.storage import checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
RECORDED = ("mlp on colour", "lenet", "vgg16_bn", "vgg16 of torchvision", "resnet20")
FORMATS = ("npz", "safetensors", "orbax")


@cache
def recorded(name):
    """State dict and logits of a network of PyTorch."""
    with np.load(FIXTURES / f"{name.replace(' ', '_')}.npz") as file:
        arrays = dict(file.items())
    logits = arrays.pop("logits")
    return {key.removeprefix("state/"): array for key, array in arrays.items()}, logits


@cache
def build(name):
    case = cases.CASES[name]
    return models.build(case.config, case.shape, 10)


@cache
def drawn(name):
    """Random variables of a network of ours."""
    shapes = jax.eval_shape(build(name).init, jax.random.key(0), np.zeros((1, *cases.CASES[name].shape)))
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes)


def load(path, name):
    return load_variables(path, build(name), cases.CASES[name].shape)


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("name", RECORDED)
def test_logits_are_those_that_pytorch_recorded(name, tmp_path):
    state, logits = recorded(name)
    formats.write(tmp_path / "network.npz", state, "npz")
    variables, source = load(tmp_path / "network.npz", name)
    assert source["matched_by"].startswith("names of ")
    found = jax.jit(build(name).apply)(variables, cases.some_images(cases.CASES[name].shape))
    assert cases.relative_error(found, logits) < 1e-4


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_a_state_dict_comes_back_bit_for_bit(format, name, tmp_path):
    state, _ = recorded(name)
    formats.write(tmp_path / f"in.{format}", state, format)
    variables, source = load(tmp_path / f"in.{format}", name)
    formats.write(tmp_path / f"out.{format}", source_arrays(variables, source), format)
    assert (tmp_path / f"in.{format}").read_bytes() == (tmp_path / f"out.{format}").read_bytes()
    found = formats.read(tmp_path / f"out.{format}").arrays
    assert found.keys() == state.keys()
    for key, array in state.items():
        assert (found[key].dtype, found[key].tobytes()) == (array.dtype, array.tobytes()), key


@pytest.mark.parametrize("name", ["mlp", "resnet20"])
@pytest.mark.parametrize("format", FORMATS)
def test_our_own_names_load_from_every_format(format, name, tmp_path):
    variables = drawn(name)
    formats.write(tmp_path / f"x.{format}", formats.flatten(variables), format)
    found, source = load(tmp_path / f"x.{format}", name)
    assert_same(found, variables)
    assert formats.holds(tmp_path / f"x.{format}", source_arrays(found, source))


def test_parameters_alone_load_without_the_name_of_their_collection(tmp_path):
    variables = drawn("mlp")
    formats.write(tmp_path / "x.npz", formats.flatten(variables["params"]), "npz")
    found, source = load(tmp_path / "x.npz", "mlp")
    assert_same(found, variables)
    assert source_arrays(found, source).keys() == formats.flatten(variables["params"]).keys()


def test_our_checkpoints_load_and_remember_where_they_came_from(tmp_path):
    state, _ = recorded("lenet")
    formats.write(tmp_path / "lenet.npz", state, "npz")
    variables, source = load(tmp_path / "lenet.npz", "lenet")
    checkpoint.save(tmp_path / "a", 0, variables, {"source": source})
    found, again = load(tmp_path / "a", "lenet")
    assert_same(found, variables)
    assert (again["format"], again["file"]) == ("orbax", str(tmp_path / "a"))
    assert source_arrays(found, again).keys() == state.keys()


def test_a_pytree_of_linens_own_names_is_matched_by_their_numbers(tmp_path):
    """As orbax saves a train state whose parameters were made by a compact module with 12 linear layers."""
    network = models.build({"name": "mlp", "hidden": (5,) * 11}, (2, 2, 1), 10)
    variables = network.init(jax.random.key(0), np.zeros((1, 2, 2, 1)))
    layers = {f"Dense_{index - 1}": variables["params"][f"dense{index}"] for index in range(1, 13)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "x", {"params": layers, "step": np.int32(7), "opt_state": [np.zeros(3)]})
    found, source = load_variables(tmp_path / "x", network, (2, 2, 1))
    assert source["matched_by"] == "shapes and names"
    assert_same(found, variables)


def test_double_precision_is_rounded_and_goes_out_as_double(tmp_path):
    state = {key: array.astype(np.float64) for key, array in recorded("lenet")[0].items()}
    formats.write(tmp_path / "x.npz", state, "npz")
    found, source = load(tmp_path / "x.npz", "lenet")
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found))
    assert all(array.dtype == np.float64 for array in source_arrays(found, source).values())


# Files of other networks.


def test_an_mlp_of_unknown_names_and_another_width_is_told_by_its_shapes(tmp_path):
    network = models.build({"name": "mlp", "hidden": (5, 6)}, (2, 2, 1), 3)
    sizes = (4, 5, 7, 3)
    state = {}
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        state |= {f"{2 * index}.weight": np.zeros((fan_out, fan_in), np.float32)}
        state |= {f"{2 * index}.bias": np.zeros(fan_out, np.float32)}
    formats.write(tmp_path / "x.npz", state, "npz")
    line = (
        r"nothing in it fits 'dense2' \(kernel 5x6, bias 6\), 1 more like it; "
        r"'2' \(weight 7x5, bias 7\) fits no layer, 1 more like it$"
    )
    with pytest.raises(UserError, match=line):
        load_variables(tmp_path / "x.npz", network, (2, 2, 1))


def changed(**changes):
    """The recorded LeNet with some arrays replaced (by None: removed); `__` stands for a dot."""
    state = recorded("lenet")[0] | {key.replace("__", "."): array for key, array in changes.items()}
    return {key: array for key, array in state.items() if array is not None}


WRONG = {
    "another width": (
        changed(fc2__weight=np.zeros((20, 30), np.float32)),
        r"'fc2.weight' is 20x30 \(expected 21x30\); nearest .* model.name=lenet in the names of the LLFC .*",
    ),
    "a missing array": (
        changed(fc2__weight=None),
        r"'fc2.weight' \(21x30\) is missing; nearest known architecture: model.name=lenet .*",
    ),
    "arrays left over": (
        changed(fc4__bias=np.zeros(3, np.float32), fc4__weight=np.zeros((3, 10), np.float32)),
        r"'fc4.bias' \(3\) is left over, 1 more like it",
    ),
    "another architecture": (
        recorded("vgg16_bn")[0],
        r"nothing in it fits 'conv1' .*, . more like it; '.*' \(.*\) fits no layer, .* more like it; "
        r"nearest known architecture: model.name=vgg16 model.norm=batch in the names of .*'s VGG",
    ),
    "nothing known": (
        {"w": np.zeros((3, 4), np.float32)},
        r"nothing in it fits 'conv1' .*, 4 more like it; .*",
    ),
    "no numbers": (
        changed(fc2__bias=np.full(21, np.nan, np.float32)),
        r"'fc2.bias': expected finite numbers of float32; found NaN or infinity",
    ),
    "our names of another architecture": (
        {
            "params/dense1/kernel": np.zeros((64, 3), np.float32),
            "params/dense1/bias": np.zeros(3, np.float32),
        },
        r"nothing in it fits 'conv1' .*; nearest .* model.name=mlp .* names of llfc_jax",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_of_another_network_is_one_line(wrong, tmp_path):
    arrays, line = WRONG[wrong]
    formats.write(tmp_path / "x.npz", arrays, "npz")
    with pytest.raises(UserError, match=f"^{tmp_path}/x.npz(?: does not fit the model)?: {line}$") as caught:
        load(tmp_path / "x.npz", "lenet")
    assert "\n" not in str(caught.value)


def test_integers_are_no_weights(tmp_path):
    formats.write(tmp_path / "x.npz", changed(fc2__weight=np.zeros((21, 30), np.int8)), "npz")
    with pytest.raises(UserError, match=r"x.npz: 'fc2.weight': expected floating point; found int8$"):
        load(tmp_path / "x.npz", "lenet")
