"""ResNets and VGG in torchvision's structure, and the ViT: counts, symmetries, accounts in float64."""

import math
from collections import Counter
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted import some_permutation
from scipy.special import erf

from llfc_jax import models, symmetry
from llfc_jax.errors import UserError
from llfc_jax.models.layers import AdaptiveMeanPool, MaxPool
from llfc_jax.models.resnet_imagenet import BLOCKS

IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)


def shapes(config, image, classes):
    """A network, the shapes of its variables and of one batch; nothing is computed."""
    network = models.build(config, image, classes)
    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    return network, network.shapes(images), images


def randomised(config, image, classes=10):
    """A small network whose variables break accidental symmetries: no zero bias, no unit variance."""
    network, like, _ = shapes(config, image, classes)
    generator = np.random.default_rng(0)

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        if "var" in name or "scale" in name:
            values = generator.uniform(0.5, 1.5, leaf.shape)
        else:
            fan_in = math.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 4
            values = generator.normal(size=leaf.shape) / math.sqrt(fan_in)
        return jax.device_put(np.float32(values))

    images = generator.normal(size=(2, *image)).astype(np.float32)
    return network, jax.tree_util.tree_map_with_path(fill, like), jax.device_put(images)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        ({"name": "resnet18"}, 11_689_512),
        ({"name": "resnet34"}, 21_797_672),
        ({"name": "resnet50"}, 25_557_032),
        ({"name": "vgg16", "pool": 7}, 138_357_544),
        ({"name": "vgg19", "pool": 7, "norm": "batch"}, 143_678_248),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_parameter_counts_on_imagenet_are_torchvisions(config, published):
    _, variables, _ = shapes(config, IMAGENET, 1000)
    assert models.count_parameters(variables["params"]) == published


def stream_and_inner(blocks, inner, expansion):
    """Sizes of a residual network's permutations: a stream per group, the inner channels of each block."""
    sizes = Counter()
    for group, count in enumerate(blocks):
        sizes[64 * 2**group * expansion] += 1
        sizes[64 * 2**group] += inner * count
    return sizes


@pytest.mark.parametrize(
    ("config", "image", "sizes"),
    [
        # the first group of basic blocks adds to the stem's channels; that of bottlenecks has its own stream
        ({"name": "resnet18"}, IMAGENET, stream_and_inner((2, 2, 2, 2), 1, 1)),
        ({"name": "resnet34", "stem": "cifar"}, CIFAR, stream_and_inner((3, 4, 6, 3), 1, 1)),
        ({"name": "resnet50"}, IMAGENET, stream_and_inner((3, 4, 6, 3), 2, 4) + Counter({64: 1})),
        ({"name": "vgg16", "pool": 7}, IMAGENET, Counter({64: 2, 128: 2, 256: 3, 512: 6, 4096: 2})),
        # a stream for each group, which begins with its shortcut, the stem, and the inner channels of blocks
        ({"name": "wideresnet16", "width": 2}, CIFAR, Counter({16: 1, 32: 3, 64: 3, 128: 3})),
        # the stream, and in each block the heads, the two inner axes of the heads and the hidden units
        ({"name": "vit"}, CIFAR, Counter({192: 1, 3: 6, 64: 12, 768: 6})),
        ({"name": "vit", "readout": "token"}, CIFAR, Counter({192: 1, 3: 6, 64: 12, 768: 6})),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_symmetries_are_found_in_full(config, image, sizes):
    network, variables, images = shapes(config, image, 1000)
    spec = symmetry.permutation_spec(network.apply, variables, images)
    assert Counter(spec.sizes.values()) == sizes
    if config["name"] == "resnet50":
        assert len(spec.sizes) == 37


@pytest.mark.parametrize(
    ("config", "image"),
    [
        ({"name": "resnet18", "width": 1 / 16, "stem": "cifar", "norm": "layer"}, (8, 8, 3)),
        ({"name": "resnet50", "width": 1 / 16}, CIFAR),
        ({"name": "vgg11", "width": 1 / 16, "pool": 2}, (64, 64, 3)),
        ({"name": "vit", "width": 1 / 8, "blocks": 2, "readout": "token"}, (8, 8, 3)),
        ({"name": "vit", "width": 1 / 8, "blocks": 1}, (8, 12, 1)),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_permuted_networks_compute_the_same(config, image, monkeypatch):
    for depth in (18, 50):  # the others are like the first of its group
        monkeypatch.setitem(BLOCKS, depth, (2, 1, 1, 1))
    network, variables, images = randomised(config, image)
    apply = jax.jit(network.apply)
    spec = symmetry.permutation_spec(apply, variables, images)
    permuted = symmetry.apply_permutation(spec, some_permutation(0, spec), variables)
    assert symmetry.check_equivalence(apply, variables, permuted, images) < 1e-4


def stages(name, **options):
    return {stage.name: stage for stage in models.build({"name": name, **options}, IMAGENET, 1000).stages}


def test_a_bottleneck_strides_in_its_3x3_convolution_and_projects_its_shortcut():
    found = stages("resnet50")
    layers = [found[f"block2_1.{name}"].layer for name in ("conv1", "conv2", "conv3", "shortcut")]
    assert [layer.kernel_size for layer in layers] == [(1, 1), (3, 3), (1, 1), (1, 1)]
    assert [layer.strides for layer in layers] == [(1, 1), (2, 2), (1, 1), (2, 2)]
    assert [layer.features for layer in layers] == [128, 128, 512, 512]
    assert found["block2_1.add"].inputs == ("block2_1.norm3", "block2_1.shortcut_norm")
    assert found["block2_2.add"].inputs == ("block2_2.norm3", "block2_1.relu3")


def test_the_first_group_projects_its_shortcut_for_bottlenecks_only():
    assert "block1_1.shortcut" in stages("resnet50")
    assert "block1_1.shortcut" not in stages("resnet18")
    assert "block2_1.shortcut" in stages("resnet18")


def test_pre_activation_networks_are_wide_ones_of_width_1_by_another_count_of_layers():
    narrow = models.build({"name": "preresnet20"}, CIFAR, 10)
    assert narrow == models.build({"name": "wideresnet22"}, CIFAR, 10)
    doubled, wide = stages("preresnet20", width=2), stages("wideresnet22", width=2)
    differing = {name for name in wide if doubled.get(name) != wide[name]}
    # 32 channels from the first convolution on, which need no shortcut
    assert differing == {"conv0", "block1_1.shortcut", "block1_1.add"}


def test_norms_and_nonlinearities_come_before_convolutions_and_the_shortcut_after_them():
    found = stages("wideresnet10", width=2)
    assert found["block2_1.norm1"].inputs == ("block1_1.add",)
    assert found["block2_1.conv1"].inputs == found["block2_1.shortcut"].inputs == ("block2_1.relu1",)
    assert found["block2_1.add"].inputs == ("block2_1.conv2", "block2_1.shortcut")
    assert found["mean"].inputs == ("relu",)


def test_stems_reduce_the_image_by_4_or_not_at_all():
    for stem, side in (("imagenet", 56), ("cifar", 224)):
        network, variables, images = shapes({"name": "resnet18", "stem": stem}, IMAGENET, 10)
        _, features = jax.eval_shape(network.apply_with_features, variables, images)
        assert features["block1_1.relu2"].shape == (1, side, side, 64)
        assert ("pool0" in features) == (stem == "imagenet")


@pytest.mark.parametrize("window", [2, 3])
def test_max_pooling_without_overlap_and_its_gradient_are_flax_s(window):
    rng = np.random.default_rng(0)
    x, weights = (
        rng.normal(size=(2, *shape, 3)).astype(np.float32) for shape in ((7, 8), (7 // window, 8 // window))
    )

    def pooled(pool):
        value, pull = jax.vjp(pool, x)
        return value, pull(weights)[0]

    reference = partial(nn.max_pool, window_shape=(window, window), strides=(window, window))
    found, expected = jax.jit(lambda: (pooled(MaxPool(window)), pooled(reference)))()
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_padded_max_pooling_is_the_largest_of_each_window_that_lies_in_the_image():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32) - 5  # padding by 0 would win
    found = jax.jit(MaxPool(3, stride=2, padding=((1, 1), (1, 1))))(x)
    windows = [[slice(max(2 * i - 1, 0), 2 * i + 2) for i in range(count)] for count in (4, 3)]
    expected = [[x[:, rows, columns].max((1, 2)) for columns in windows[1]] for rows in windows[0]]
    np.testing.assert_array_equal(found, np.moveaxis(np.array(expected), (0, 1), (1, 2)))


@pytest.mark.parametrize("side", [1, 3, 7, 8, 14])
def test_adaptive_pooling_is_pytorchs(side):
    """`adaptive_avg_pool2d`: window i of n runs from floor(i side / n) to ceil((i + 1) side / n)."""
    x = np.random.default_rng(0).normal(size=(2, side, 5, 3)).astype(np.float32)
    found = jax.jit(AdaptiveMeanPool(7))(x)
    rows, columns = (
        [slice(i * length // 7, -(-(i + 1) * length // 7)) for i in range(7)] for length in (side, 5)
    )
    expected = [[x[:, r, c].mean((1, 2)) for c in columns] for r in rows]
    np.testing.assert_allclose(found, np.moveaxis(np.array(expected), (0, 1), (1, 2)), rtol=1e-5, atol=1e-6)


def test_adaptive_pooling_leaves_a_map_of_its_size_as_it_is():
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 5)).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(AdaptiveMeanPool(7))(x), x)


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attention(x, p):
    query, key, value = (
        np.einsum("ntd,dhe->nhte", x, p[name]["kernel"]) + p[name]["bias"][None, :, None]
        for name in ("query", "key", "value")
    )
    scores = np.einsum("nhqe,nhke->nhqk", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    read = np.einsum("nhqk,nhke->nqhe", weights, value)
    return np.einsum("nqhe,hed->nqd", read, p["out"]["kernel"]) + p["out"]["bias"]


def linear(x, p):
    return x @ p["kernel"] + p["bias"]


@pytest.mark.parametrize("readout", ["mean", "token"])
def test_the_vit_agrees_with_a_float64_account(readout):
    config = {"name": "vit", "width": 1 / 8, "blocks": 2, "readout": readout}
    network, variables, images = randomised(config, (8, 12, 3))
    p = jax.tree.map(np.float64, variables["params"])
    x = np.float64(images).reshape(2, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 48)
    x = linear(x, {"kernel": p["patches"]["kernel"].reshape(48, -1), "bias": p["patches"]["bias"]})
    if readout == "token":
        x = np.concatenate([np.tile(p["class_token"]["token"], (2, 1, 1)), x], 1)
    x = x + p["position"]["embedding"]
    for block in ("block1", "block2"):
        x = x + attention(layer_norm(x, p[f"{block}.norm1"]), p[f"{block}.attention"])
        hidden = linear(layer_norm(x, p[f"{block}.norm2"]), p[f"{block}.dense1"])
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = x + linear(hidden, p[f"{block}.dense2"])
    x = layer_norm(x, p["norm"])
    expected = linear(x[:, 0] if readout == "token" else x.mean(1), p["dense"])
    found = jax.jit(network.apply)(variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_step_of_the_vit_is_a_named_stage():
    network = models.build({"name": "vit", "blocks": 1, "readout": "token"}, CIFAR, 10)
    names = "patches tokens class_token position block1.norm1 block1.attention block1.add1 block1.norm2"
    names += " block1.dense1 block1.gelu block1.dense2 block1.add2 norm token dense"
    assert [stage.name for stage in network.stages] == names.split()
    kinds = "conv flatten token position norm attention add norm dense gelu dense add norm pool dense"
    assert [stage.kind for stage in network.stages] == kinds.split()


@pytest.mark.parametrize(
    ("config", "image", "line"),
    [
        ({"name": "resnet50", "stem": "mnist"}, CIFAR, "model.stem: expected one of imagenet, cifar"),
        ({"name": "resnet50", "shortcut": "pad"}, CIFAR, "model.shortcut: .* has no such option"),
        ({"name": "vit", "patch": 5}, CIFAR, "model.patch: expected a divisor .* images of 32x32; found 5"),
        ({"name": "vit", "heads": 5}, CIFAR, "model.heads: expected a divisor of the dimension 192; found 5"),
        ({"name": "vit", "readout": "max"}, CIFAR, "model.readout: expected one of mean, token"),
        (
            {"name": "mlp", "width": 5e-4},
            CIFAR,
            "model.width: expected to make 1 to .* of 512; found 0.0005",
        ),
        ({"name": "resnet20", "width": 0.01}, CIFAR, "model.width: .* 1 to .* units of .*; found 0.01"),
    ],
)
def test_bad_requests_are_one_line(config, image, line):
    with pytest.raises(UserError, match=line) as caught:
        models.build(config, image, 10)
    assert "\n" not in str(caught.value)


def test_activation_and_pooling_are_what_the_fields_say():
    network, variables, images = randomised(
        {"name": "lenet", "width": 1 / 2, "activation": "tanh", "pooling": "mean"}, (28, 28, 1)
    )
    _, features = jax.jit(network.apply_with_features)(variables, images)
    np.testing.assert_allclose(features["tanh1"], np.tanh(features["conv1"]), rtol=1e-4, atol=1e-6)
    windows = np.asarray(features["tanh1"]).reshape(2, 14, 2, 14, 2, 3)
    np.testing.assert_allclose(features["pool1"], windows.mean((2, 4)), rtol=1e-4, atol=1e-6)
