from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.models.convolution import conv_general_dilated
from llfc_jax.models.network import INPUT

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)

SMALL = {
    "mlp": ({"name": "mlp", "hidden": (8, 8)}, (4, 4, 1)),
    "mlp with BatchNorm": ({"name": "mlp", "hidden": (8, 8), "norm": "batch"}, (4, 4, 1)),
    "lenet": ({"name": "lenet"}, MNIST),
    "vgg11": ({"name": "vgg11", "width": 0.25, "head": (64,)}, CIFAR),
    "vgg11 with BatchNorm": ({"name": "vgg11", "width": 1 / 16, "head": (), "norm": "batch"}, CIFAR),
    "resnet20 with pad shortcuts": ({"name": "resnet20", "width": 0.25}, (8, 8, 3)),
    "resnet20 with conv shortcuts": (
        {"name": "resnet20", "width": 0.25, "norm": "layer", "shortcut": "conv"},
        (8, 8, 3),
    ),
}


@cache
def build(name):
    """A network, weights and images of no special values."""
    config, shape = SMALL[name]
    network, rng = models.build(config, shape, 10), np.random.default_rng(0)
    images = rng.normal(size=(4, *shape)).astype(np.float32)

    def draw(path, leaf):
        spread = 0.3 if leaf.ndim < 2 else np.sqrt(2 / np.prod(leaf.shape[:-1]))
        drawn = rng.normal(path[-1].key in ("scale", "var"), spread, leaf.shape)
        return jax.device_put(np.float32(abs(drawn) if path[-1].key == "var" else drawn))

    return network, jax.tree.map_with_path(draw, network.shapes(images)), images


@pytest.mark.parametrize(
    ("config", "shape", "published"),
    [
        ({"name": "mlp"}, MNIST, 932_362),
        ({"name": "lenet"}, MNIST, 61_706),
        ({"name": "vgg16"}, CIFAR, 33_638_218),
        ({"name": "vgg16", "norm": "batch"}, CIFAR, 33_646_666),
        ({"name": "resnet20"}, CIFAR, 269_722),
        ({"name": "resnet32"}, CIFAR, 464_154),
        ({"name": "resnet44"}, CIFAR, 658_586),
        ({"name": "resnet56"}, CIFAR, 853_018),
        ({"name": "resnet110"}, CIFAR, 1_727_962),
        ({"name": "wideresnet16", "width": 4}, CIFAR, 2_748_890),
        ({"name": "wideresnet28", "width": 10}, CIFAR, 36_479_194),
        ({"name": "wideresnet40", "width": 4}, CIFAR, 8_949_210),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_parameter_counts_are_the_published_ones(config, shape, published):
    network = models.build(config, shape, 10)
    variables = network.shapes(jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert models.count_parameters(variables["params"]) == published


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_builds_and_ends_in_the_classes(name):
    shape = (16,) if name in models.OF_TEXT else MNIST if name in ("mlp", "lenet") else CIFAR
    network = models.build({"name": name}, shape, 10)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    assert jax.eval_shape(network.apply, network.shapes(images), images).shape == (
        (2, 16, 10) if name in models.OF_TEXT else (2, 10)
    )


def test_width_multiplies_hidden_layers_only():
    shapes = [
        jax.eval_shape(
            models.build({"name": "resnet20", "width": width}, CIFAR, 10).init,
            jax.random.key(0),
            jnp.zeros((1, *CIFAR)),
        )["params"]
        for width in (1, 4)
    ]
    for name, leaf in shapes[1]["conv0"].items():
        assert leaf.shape == (3, 3, 3, 64), name
    assert shapes[1]["dense"]["kernel"].shape == (256, 10)
    assert shapes[0]["dense"]["kernel"].shape == (64, 10)


@pytest.mark.parametrize("name", SMALL)
def test_features_are_all_stages_the_last_is_the_logits_and_a_prefix_feeds_the_suffix_at_every_stage(name):
    network, variables, images = build(name)

    def in_two_parts(variables, images, cut):
        values = network.run(variables, {INPUT: images}, network.stages[:cut])
        return network.run(variables, values, network.stages[cut:])[network.steps[-1]]

    @jax.jit
    def everything(variables, images):
        logits, features = network.apply_with_features(variables, images)
        parts = [in_two_parts(variables, images, cut) for cut in range(0, len(network.stages), 9)]
        return network.apply(variables, images), logits, features, parts

    applied, logits, features, parts = everything(variables, images)
    assert set(features) == {INPUT, *network.steps}
    np.testing.assert_array_equal(features[network.steps[-1]], logits)
    for one in (applied, *parts):
        np.testing.assert_allclose(one, logits, rtol=1e-4, atol=1e-5)


def test_training_statistics_are_those_of_the_batch():
    network, variables, images = build("mlp with BatchNorm")
    train = jax.jit(lambda variables: network.apply_train(variables, images, None, momentum=0.0))
    _, statistics = train(variables)
    before = images.reshape(4, -1) @ np.asarray(variables["params"]["dense1"]["kernel"])
    before = before + np.asarray(variables["params"]["dense1"]["bias"])
    np.testing.assert_allclose(statistics["norm1"]["mean"], before.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics["norm1"]["var"], before.var(0), rtol=1e-4, atol=1e-6)


def test_layers_that_are_alike_are_written_once_in_a_program():
    def convolutions(depth):
        network = models.build({"name": f"resnet{depth}", "width": 0.25}, CIFAR, 10)
        images = jax.ShapeDtypeStruct((2, *CIFAR), jnp.float32)
        variables = jax.eval_shape(network.init, jax.random.key(0), images)

        def loss(params, rest, images):
            return network.apply_train({**rest, "params": params}, images, jax.random.key(0))[0].sum()

        rest = {name: tree for name, tree in variables.items() if name != "params"}
        lowered = jax.jit(jax.grad(loss)).lower(variables["params"], rest, images)
        return lowered.as_text().count("stablehlo.convolution")

    assert convolutions(32) == convolutions(20) > 0


def test_dropout_acts_in_training_only_and_by_its_key():
    network, variables, images = build("vgg11")
    train = jax.jit(lambda seed: network.apply_train(variables, images, jax.random.key(seed))[0])
    np.testing.assert_array_equal(train(0), train(0))
    assert not np.array_equal(train(0), train(1))
    evaluated = jax.jit(network.apply)
    np.testing.assert_array_equal(evaluated(variables, images), evaluated(variables, images))


@pytest.mark.parametrize(
    ("name", "stage", "gain", "fan"),
    [
        ("resnet20", "block1_1.conv1", 2, 9 * 16),
        ("vgg16", "conv2_1", 2, 9 * 128),
        ("mlp", "dense2", 1 / 3, 512),
    ],
)
def test_initial_kernels_have_the_variance_of_the_papers_code(name, stage, gain, fan):
    shape = MNIST if name == "mlp" else CIFAR
    network = models.build({"name": name}, shape, 10)
    index = [one.name for one in network.stages].index(stage)
    layer, width = network.stages[index].layer, {"resnet20": 16, "vgg16": 64, "mlp": 512}[name]
    inputs = jnp.zeros((1, 8, 8, width)) if name != "mlp" else jnp.zeros((1, width))
    kernel = layer.init(jax.random.key(0), inputs)["params"]["kernel"]
    np.testing.assert_allclose(kernel.var(), gain / fan, rtol=0.1)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_tiny_maps_by_matmul_equal_the_convolution(size, kernel):
    rng = np.random.default_rng(0)
    shapes = (3, size, size, 4), (kernel, kernel, 4, 5), (3, size, size, 5)
    x, w, cotangent = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    convolve = partial(jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def pulled(convolution, x, w):
        value, pull = jax.vjp(lambda x, w: convolution(x, w, (1, 1), "SAME"), x, w)
        return value, pull(cotangent)

    both = jax.jit(lambda *given: [pulled(one, *given) for one in (convolve, conv_general_dilated)])
    (expected, references), (found, gradients) = both(x, w)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for gradient, reference in zip(gradients, references, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "shape", "line"),
    [
        ({"name": "resnet21"}, CIFAR, "model.name: expected one of mlp, lenet, vgg11.*found 'resnet21'"),
        ({"name": "mlp", "shortcut": "pad"}, MNIST, "model.shortcut: model.name='mlp' has no such option"),
        ({"name": "resnet20", "norm": "group"}, CIFAR, "model.norm: expected one of none, batch, layer"),
        ({"name": "mlp", "width": 0}, MNIST, "model.width: expected a positive number; found 0"),
        ({"name": "vgg16"}, (8, 8, 1), "model.name='vgg16' can't take images of 8x8x1"),
        ({"name": "lenet"}, (8, 8, 1), "model.name='lenet' can't take images of 8x8x1"),
    ],
)
def test_bad_requests_are_one_line(config, shape, line):
    with pytest.raises(UserError, match=line) as caught:
        models.build(config, shape, 10)
    assert "\n" not in str(caught.value)
