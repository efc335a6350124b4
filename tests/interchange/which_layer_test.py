"""Which layer is which: told by shapes, numbers and blocks in the names, a trustworthy order, or refused."""

import jax
import pytest
from foreign_networks import (
    IMAGES,
    SHAPE,
    ResNet,
    in_float64,
    mlp_logits,
    mlp_state,
    randomised,
    relative_error,
)

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, load_variables

MLP = models.build({"name": "mlp", "hidden": (32, 32, 32)}, SHAPE, 10)


def load(state, format, network, tmp_path):
    path = tmp_path / f"x.{format}"
    formats.write(path, state, format)
    return load_variables(path, network, SHAPE)


NUMBERED = ("fc1", "fc2", "fc3", "fc4"), ("net.0", "net.2", "net.4", "net.10"), ("l", "l_1", "l_2", "l_10")


@pytest.mark.parametrize("format", ["npz", "safetensors"])
@pytest.mark.parametrize("names", NUMBERED, ids=" ".join)
def test_numbers_in_the_names_say_the_order_whatever_that_of_the_file_is(names, format, tmp_path):
    state = mlp_state(names, order=names[::-1])
    variables, source = load(state, format, MLP, tmp_path)
    assert source["matched_by"] == "shapes and names"
    assert relative_error(jax.jit(MLP.apply)(variables, IMAGES), mlp_logits(state, names)) < 1e-5


def test_shapes_alone_tell_layers_whose_names_say_nothing(tmp_path):
    names, network = ("z", "a"), models.build({"name": "mlp", "hidden": (32,)}, SHAPE, 10)
    state = mlp_state(names)
    variables, source = load(state, "safetensors", network, tmp_path)
    assert source["matched_by"] == "shapes"
    assert source["pairing"] == [["dense1", "z"], ["dense2", "a"]]
    assert relative_error(jax.jit(network.apply)(variables, IMAGES), mlp_logits(state, names)) < 1e-5


def test_a_file_that_keeps_its_order_tells_layers_of_one_shape(tmp_path):
    names = ("embed", "right", "left", "readout")
    state = mlp_state(names)
    variables, source = load(state, "npz", MLP, tmp_path)
    assert source["matched_by"] == "shapes and order"
    assert relative_error(jax.jit(MLP.apply)(variables, IMAGES), mlp_logits(state, names)) < 1e-5


@pytest.mark.parametrize(
    ("names", "order", "format", "why"),
    [
        (("embed", "right", "left", "readout"), (0, 1, 2, 3), "safetensors", "the format keeps no order"),
        (("embed", "right", "left", "readout"), (0, 1, 2, 3), "orbax", "the format keeps no order"),
        (
            ("embed", "right", "left", "readout"),
            (3, 1, 2, 0),
            "npz",
            "the file isn't in the order of computation: 'right' comes before 'embed'",
        ),
        (
            ("embed", "mid_one", "mid_two", "readout"),
            (0, 2, 1, 3),
            "npz",
            "the file's order isn't that of its names: 'mid_two' comes before 'mid_one'",
        ),
        (
            ("l_a", "l_b", "l_c", "l_d"),
            (0, 2, 1, 3),
            "npz",
            "the file's order isn't that of its names: 'l_c' comes before 'l_b'",
        ),
        (
            ("stem", "alpha", "beta", "readout"),
            (0, 2, 1, 3),
            "npz",
            "the file's order isn't that of its names: 'beta' comes before 'alpha'",
        ),
        (
            ("stem", "early", "late", "readout"),
            (0, 2, 1, 3),
            "npz",
            "the file's order isn't that of its names: 'late' comes before 'early'",
        ),
    ],
)
def test_what_neither_names_nor_order_tell_is_refused_with_the_candidates(
    names, order, format, why, tmp_path
):
    state = mlp_state(names, order=[names[index] for index in order])
    if format == "orbax":
        state = {key.replace(".", "/"): array for key, array in state.items()}
    with pytest.raises(UserError) as caught:
        load(state, format, MLP, tmp_path)
    line = str(caught.value)
    assert all(name in line for name in names[1:3])
    assert "is which of dense2, dense3: they have one shape" in line
    assert line.endswith(why)


RESNET = {"name": "resnet20", "width": 1 / 8, "norm": "layer", "padding": "same", "epsilon": 1e-6}


@pytest.mark.parametrize("format", ["orbax", "safetensors", "npz"])
def test_the_blocks_of_a_resnet_are_told_by_their_names_and_not_by_their_order(format, tmp_path):
    network = models.build(RESNET | {"shortcut": "conv"}, SHAPE, 10)
    theirs = ResNet()
    variables = randomised(jax.eval_shape(theirs.init, jax.random.key(0), IMAGES))
    arrays = formats.flatten(variables)
    if format != "orbax":
        arrays = {name.removeprefix("params/").replace("/", "."): array for name, array in arrays.items()}
    found, source = load(arrays, format, network, tmp_path)
    assert source["matched_by"] == "shapes and names"
    assert ["block2_1.shortcut_norm", "ResNetBlock_3.norm_proj"] in source["pairing"]
    assert ["norm0", "bn_init"] in source["pairing"]
    expected = in_float64(theirs.apply, variables, IMAGES)
    assert relative_error(in_float64(network.apply, found, IMAGES), expected) < 1e-9


@pytest.mark.parametrize("format", ["orbax", "npz"])
def test_a_preactivation_resnet_is_none_though_its_arrays_have_the_same_shapes(format, tmp_path):
    network = models.build(RESNET | {"shortcut": "pad"}, SHAPE, 10)
    variables = randomised(jax.eval_shape(ResNet(preactivation=True).init, jax.random.key(0), IMAGES))
    shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(variables)) == sorted(
        leaf.shape for leaf in jax.tree.leaves(shapes)
    )
    line = (
        "ResNetBlock_0.* are put together in the file and are no block of the model; .* pre-activation ResNet"
    )
    with pytest.raises(UserError, match=line):
        load(formats.flatten(variables), format, network, tmp_path)


@pytest.mark.parametrize("other", ["gn1", "GroupNorm_0", "rms_norm"])
def test_another_norm_with_the_arrays_of_a_layernorm_is_none(other, tmp_path):
    network = models.build({"name": "mlp", "hidden": (32,), "norm": "layer"}, SHAPE, 10)
    state = mlp_state(("fc1", "fc2")) | {
        f"{other}.weight": IMAGES.ravel()[:32],
        f"{other}.bias": IMAGES.ravel()[:32],
    }
    with pytest.raises(UserError, match="nothing in it fits 'norm1'"):
        load(state, "npz", network, tmp_path)
