"""What no file holds follows the program that wrote it: padding, epsilon, what gelu is."""

import warnings

import jax
import numpy as np
import pytest
from foreign_networks import IMAGES, SHAPE, ResNet, in_float64, mlp_state, randomised, relative_error

from llfc_jax import models
from llfc_jax.configs import test as test_config
from llfc_jax.errors import UserError
from llfc_jax.interchange import conventions, formats, load_variables
from llfc_jax.run import pair
from llfc_jax.storage import checkpoint

RESNET = {"name": "resnet20", "width": 1 / 8, "norm": "layer", "shortcut": "conv"}


@pytest.fixture(scope="module")
def flax_resnet(tmp_path_factory):
    """A file of a ResNet in Linen that pads as Linen does, and its logits."""
    network = ResNet()
    variables = randomised(jax.eval_shape(network.init, jax.random.key(0), IMAGES))
    path = tmp_path_factory.mktemp("flax") / "x.safetensors"
    formats.write(path, formats.flatten(variables), "safetensors")
    return path, in_float64(network.apply, variables, IMAGES)


def config_of(a, b, **model):
    config = test_config.get_config()
    config.model.hidden = None
    config.pair.a, config.pair.b = str(a), str(b)
    config.model.update(model)
    return config


def load_pair(config):
    network = models.make(config.model, SHAPE, 10)
    return pair.load(config, pair.files(config), network, SHAPE, 10)


def test_a_run_pads_as_the_program_that_wrote_its_files(flax_resnet):
    path, expected = flax_resnet
    network, given = load_pair(config_of(path, path, **RESNET))
    assert conventions.described(network) == {"padding": "same", "epsilon": 1e-6, "activation": "relu"}
    variables, source = given["a"]
    assert source["framework"] == "Flax"
    assert relative_error(in_float64(network.apply, variables, IMAGES), expected) < 1e-9
    assert "padding=same, epsilon=1e-06, activation=relu" in [*pair.describe(network, source)][-1]


def test_a_field_that_is_set_says_more_than_the_convention(flax_resnet):
    network, _ = load_pair(config_of(flax_resnet[0], flax_resnet[0], **RESNET, padding="torch", epsilon=0.1))
    assert conventions.described(network) == {"padding": "torch", "epsilon": 0.1, "activation": "relu"}


def test_the_library_refuses_a_network_that_pads_otherwise(flax_resnet):
    with pytest.raises(UserError, match=r"from Flax, which pads .* as 'same' where this network has 'torch'"):
        load_variables(flax_resnet[0], models.build(RESNET, SHAPE, 10), SHAPE)


def test_on_maps_of_odd_sides_both_paddings_are_one(tmp_path):
    """Where SAME puts as much before as after; a map of side 9 is halved to 5, 3."""
    shape = (9, 9, 1)
    torch, same = (models.build(RESNET | {"padding": padding}, shape, 10) for padding in ("torch", "same"))
    variables = randomised(jax.eval_shape(torch.init, jax.random.key(0), np.zeros((1, *shape))))
    images = jax.device_put(np.float32(np.random.default_rng(0).normal(size=(2, *shape))))
    np.testing.assert_array_equal(
        jax.jit(torch.apply)(variables, images), jax.jit(same.apply)(variables, images)
    )
    assert "padding" not in conventions.expected("Flax", torch, shape)
    assert "padding" in conventions.expected("Flax", torch, (8, 8, 1))


def layernorm_state(small=0.01):
    """Pre-activations so small that epsilon counts."""
    norm = {"norm.weight": np.ones(32, np.float32), "norm.bias": np.zeros(32, np.float32)}
    state = mlp_state(("fc1", "fc2"))
    return {key: array * small if key.startswith("fc1") else array for key, array in state.items()} | norm


def in_flax_names(state):
    """The same as PyTorch's state dict, with kernels."""
    names = {"fc1.weight": "Dense_0.kernel", "fc2.weight": "Dense_1.kernel", "norm.weight": "Norm_0.scale"}
    names |= {"fc1.bias": "Dense_0.bias", "fc2.bias": "Dense_1.bias", "norm.bias": "Norm_0.bias"}
    return {names[key]: array.T for key, array in state.items()}


@pytest.mark.parametrize(("program", "epsilon"), [("PyTorch", 1e-5), ("Flax", 1e-6)])
def test_layernorm_has_the_epsilon_of_its_program(program, epsilon, tmp_path):
    state = layernorm_state()
    formats.write(tmp_path / "x.npz", in_flax_names(state) if program == "Flax" else state, "npz")
    config = config_of(tmp_path / "x.npz", tmp_path / "x.npz", name="mlp", hidden=(32,), norm="layer")
    network, given = load_pair(config)
    x = IMAGES.reshape(len(IMAGES), -1) @ state["fc1.weight"].T.astype(float) + state["fc1.bias"]
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + epsilon)
    expected = np.maximum(x, 0) @ state["fc2.weight"].T + state["fc2.bias"]
    assert relative_error(jax.jit(network.apply)(given["a"][0], IMAGES), expected) < 1e-5


def test_two_programs_that_differ_are_one_line_and_a_field_decides(tmp_path):
    formats.write(tmp_path / "a.npz", in_flax_names(layernorm_state()), "npz")
    formats.write(tmp_path / "b.npz", layernorm_state(), "npz")
    files = tmp_path / "a.npz", tmp_path / "b.npz"
    mlp = {"name": "mlp", "hidden": (32,), "norm": "layer"}
    with pytest.raises(UserError, match=r"^config.model.epsilon: a is from Flax \(1e-06\), b from PyTorch"):
        load_pair(config_of(*files, **mlp))
    network, _ = load_pair(config_of(*files, **mlp, epsilon=1e-5))
    assert conventions.described(network)["epsilon"] == 1e-5


def test_the_library_warns_of_another_epsilon(tmp_path):
    formats.write(tmp_path / "a.npz", in_flax_names(layernorm_state()), "npz")
    build = {"name": "mlp", "hidden": (32,), "norm": "layer"}
    with pytest.warns(UserWarning, match="is from Flax: build the network with epsilon=1e-06"):
        load_variables(tmp_path / "a.npz", models.build(build, SHAPE, 10), SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_variables(tmp_path / "a.npz", models.build(build | {"epsilon": 1e-6}, SHAPE, 10), SHAPE)


def test_a_checkpoint_remembers_what_its_run_was_told(tmp_path):
    network = models.build({"name": "mlp", "hidden": (32,), "norm": "layer", "epsilon": 0.1}, SHAPE, 10)
    variables = randomised(jax.eval_shape(network.init, jax.random.key(0), IMAGES))
    checkpoint.save(tmp_path / "a", 0, variables, {"config": {"model": {"epsilon": 0.1}}})
    config = config_of(tmp_path / "a", tmp_path / "a", name="mlp", hidden=(32,), norm="layer")
    found, given = load_pair(config)
    assert given["a"][1]["framework"] == "llfc_jax"
    assert conventions.described(found)["epsilon"] == 0.1


def test_gelu_is_the_one_of_the_program(tmp_path):
    network = models.build({"name": "mlp", "hidden": (32,), "activation": "gelu"}, SHAPE, 10)
    assert conventions.expected("PyTorch", network, SHAPE) == {"activation": "gelu"}
    assert conventions.expected("Flax", network, SHAPE) == {"activation": "gelu_tanh"}
    assert conventions.expected("llfc_jax", network, SHAPE) == {}
