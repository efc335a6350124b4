"""REPAIR against its definition: moments of units in a forward pass in NumPy and double precision."""

from functools import cache

import flax.linen as nn
import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax import models
from llfc_jax.corrections.repair import _Mend, applied, repair
from llfc_jax.corrections.sites import sites
from llfc_jax.errors import UserError
from llfc_jax.models import Network, mlp
from llfc_jax.models.layers import Flatten, MaxPool, ReLU
from llfc_jax.models.network import INPUT, sequence
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import lerp
from llfc_jax.program.flat import arguments, run
from llfc_jax.program.reading import read
from llfc_jax.types import Batch

IMAGES = np.random.default_rng(0).normal(size=(120, 8, 8, 1)).astype(np.float32)
ALPHAS = (0.0, 0.3, 0.5, 1.0)

NETWORKS = {
    "mlp": mlp((8, 8, 1), 10, hidden=(20, 16)),
    "conv_layernorm": Network(
        sequence(
            [
                *[("conv1", nn.Conv(6, (3, 3))), ("norm1", nn.LayerNorm()), ("relu1", ReLU())],
                *[("pool", MaxPool()), ("conv2", nn.Conv(8, (3, 3))), ("relu2", ReLU())],
                *[("flatten", Flatten()), ("dense1", nn.Dense(12)), ("relu3", ReLU())],
                ("dense2", nn.Dense(10)),
            ]
        )
    ),
}
EACH_NETWORK = pytest.mark.parametrize("name", NETWORKS)


def random_variables(network, seed):
    """No bias is 0 and no scale 1, and the two networks of a pair have units of different sizes."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES[:1])

    def draw(leaf):
        values = rng.normal(size=leaf.shape) / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return jax.device_put(np.float32(values * rng.uniform(0.5, 2, leaf.shape[-1])))

    return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module")
def pairs():
    return {
        name: tuple(random_variables(network, seed) for seed in (1, 2)) for name, network in NETWORKS.items()
    }


def in_batches(size):
    return lambda: (
        Batch(*jax.device_put((images, np.zeros(len(images), np.int32), np.ones(len(images), np.float32))))
        for images in np.split(IMAGES, len(IMAGES) // size)
    )


def corrections_of(name, pair, batch_size=120, alphas=ALPHAS):
    program = program_of(name)
    return repair(program).statistics(program, Curve(*pair), alphas, in_batches(batch_size))


@cache
def program_of(name):
    network = NETWORKS[name]
    shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES[:1])
    return read(network.apply, shapes, IMAGES[:3], features=network.apply_with_features)


@cache
def mend_of(name):
    return jax.jit(repair(program_of(name)).mend)


def corrected(name, variables, correction):
    return mend_of(name)(variables, correction)


def in_numpy(network, variables):
    """Outputs of all stages, in double precision."""
    values = {INPUT: IMAGES.astype(np.float64)}
    for stage in network.stages:
        own = {
            name: np.asarray(leaf, np.float64)
            for name, leaf in variables["params"].get(stage.name, {}).items()
        }
        x = values[stage.inputs[0]]
        match stage.kind:
            case "dense":
                x = x @ own["kernel"] + own["bias"]
            case "conv":
                patches = np.lib.stride_tricks.sliding_window_view(
                    np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), (1, 2)
                )
                x = np.einsum("nxycij,ijco->nxyo", patches, own["kernel"]) + own["bias"]
            case "norm":
                x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + stage.layer.epsilon)
                x = x * own["scale"] + own["bias"]
            case "relu":
                x = np.maximum(x, 0)
            case "pool":
                n, height, width, c = x.shape
                x = x.reshape(n, height // 2, 2, width // 2, 2, c).max((2, 4))
            case "flatten":
                x = x.reshape(len(x), -1)
        values[stage.name] = x
    return values


def moments(name, variables):
    """Site -> mean and standard deviation of each of its units."""
    values = in_numpy(NETWORKS[name], variables)
    found = [site.node.name for site in sites(program_of(name))]
    flat = {site: values[site].reshape(-1, values[site].shape[-1]) for site in found}
    return {name: np.stack([x.mean(0), x.std(0)]) for name, x in flat.items()}


@EACH_NETWORK
def test_units_get_the_interpolated_mean_and_standard_deviation(name, pairs):
    pair = pairs[name]
    a, b = (moments(name, variables) for variables in pair)
    for alpha, correction in corrections_of(name, pair).items():
        found = moments(name, corrected(name, lerp(*pair, alpha), correction))
        left = moments(name, lerp(*pair, alpha))
        for site in a:
            wanted = (1 - alpha) * a[site] + alpha * b[site]
            np.testing.assert_allclose(found[site], wanted, rtol=2e-3, atol=1e-4)
            if 0 < alpha < 1:
                assert np.abs(left[site] - wanted).max() > 0.05  # there was something to mend


@EACH_NETWORK
def test_a_stream_of_batches_gives_nearly_what_all_data_at_once_gives(name, pairs):
    """Later sites see each batch mended by its own statistics, as with BatchNorm; the first is exact."""
    pair = pairs[name]
    a, b = (moments(name, variables) for variables in pair)
    (correction,) = corrections_of(name, pair, batch_size=40, alphas=(0.5,)).values()
    found = moments(name, corrected(name, lerp(*pair, 0.5), correction))
    for index, site in enumerate(a):
        wanted = (a[site] + b[site]) / 2
        np.testing.assert_allclose(found[site][1], wanted[1], rtol=0.1 if index else 2e-3)


@EACH_NETWORK
def test_the_ends_of_the_path_stay_as_they_are(name, pairs):
    corrections = corrections_of(name, pairs[name])
    for alpha, variables in zip((0.0, 1.0), pairs[name], strict=True):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
            corrected(name, variables, corrections[alpha]),
            variables,
        )


def test_units_that_hardly_vary_are_not_blown_up(pairs):
    a, b = (jax.tree.map(jnp.copy, variables) for variables in pairs["mlp"])
    for variables in (a, b):
        kernel = variables["params"]["dense1"]["kernel"]
        variables["params"]["dense1"]["kernel"] = kernel.at[:, 0].set(0).at[:, 1].multiply(1e-6)
    b["params"]["dense1"]["kernel"] = (
        b["params"]["dense1"]["kernel"]
        .at[:, 2]
        .set(
            -a["params"]["dense1"]["kernel"][:, 2]  # cancels at the midpoint
        )
    )
    correction = corrections_of("mlp", (a, b))[0.5]["dense1"]
    np.testing.assert_allclose(correction["scale"][:2], 1, rtol=1e-5)
    assert jnp.isfinite(correction["scale"]).all()


@EACH_NETWORK
def test_folding_a_correction_scales_and_shifts_the_outputs_of_its_stages(name, pairs):
    network, (a, b) = NETWORKS[name], pairs[name]
    correction = corrections_of(name, pairs[name], alphas=(0.5,))[0.5]
    variables = lerp(a, b, 0.5)

    @jax.jit
    def mended_on_the_way(variables):
        values = {INPUT: IMAGES}
        for stage in network.stages:
            values = network.run(variables, values, [stage])
            if own := correction.get(stage.name):
                x = values[stage.name]
                scale, shift = (own[part].reshape(*[1] * (x.ndim - 1), -1) for part in ("scale", "shift"))
                values[stage.name] = scale * x + shift
        return values[network.stages[-1].name]

    folded = jax.jit(network.apply)(corrected(name, variables, correction), IMAGES)
    np.testing.assert_allclose(folded, mended_on_the_way(variables), rtol=1e-4, atol=1e-5)


def site_names(**config):
    image = (28, 28, 1) if config["name"] == "lenet" else (32, 32, 3)
    network = models.build(config, image, 10)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *image)))
    program = read(
        network.apply,
        shapes,
        jax.ShapeDtypeStruct((2, *image), jnp.float32),
        features=network.apply_with_features,
    )
    return [site.node.name for site in sites(program)]


def test_sites_are_the_linear_layers_where_there_is_no_normalisation():
    assert site_names(name="mlp", hidden=(8, 8)) == ["dense1", "dense2"]
    assert site_names(name="mlp", hidden=()) == []
    assert site_names(name="lenet") == ["conv1", "conv2", "dense3", "dense4"]
    convolutions = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2"]
    assert site_names(name="vgg11") == [*convolutions, "dense6", "dense7"]


def test_sites_are_the_normalisations_and_the_layers_they_do_not_follow():
    assert site_names(name="mlp", hidden=(8, 8), norm="layer") == ["norm1", "norm2"]
    norms = ["norm1_1", "norm2_1", "norm3_1", "norm3_2", "norm4_1", "norm4_2", "norm5_1", "norm5_2"]
    assert site_names(name="vgg11", norm="layer") == [*norms, "dense6", "dense7"]
    assert site_names(name="vgg11", norm="layer", head=()) == norms
    blocks = [f"block{group}_{index}." for group in (1, 2, 3) for index in (1, 2, 3)]
    expected = ["norm0"]
    for block in blocks:
        expected += [f"{block}norm1", f"{block}norm2"]
        expected += [f"{block}shortcut_norm"] if block in ("block2_1.", "block3_1.") else []
    assert site_names(name="resnet20", norm="layer", shortcut="conv") == expected


def test_without_a_bias_there_is_no_site():
    assert site_names(name="resnet20", norm="none") == []


@pytest.mark.parametrize("name", ["llama", "linen_transformer", "unet", "densenet"])
def test_folding_scales_and_shifts_the_units_of_networks_that_nobody_declared(name):
    with jax.numpy_rank_promotion("allow"):
        apply, variables, inputs = foreign.NETWORKS[name](jax.random.key(0))
        program = read(apply, variables, inputs)
    found = sites(program)

    def units(variables, site):
        return run(program.flat, arguments(program.flat, variables, inputs))[site.node.value]

    def folded_and_applied(variables, own, site):
        mended = _Mend(program.flat, (site,))(variables, {site.node.name: own})
        return units(mended, site), applied(own, units(variables, site), site.axis)

    @jax.jit
    def at_all_sites(variables, corrections):
        return [folded_and_applied(variables, corrections[site.node.name], site) for site in found]

    rng = np.random.default_rng(0)
    corrections = {
        site.node.name: {
            part: np.float32(rng.uniform(0.5, 2, site.node.shape[site.axis])) for part in ("scale", "shift")
        }
        for site in found
    }
    for after, mended in at_all_sites(variables, corrections):
        np.testing.assert_allclose(after, mended, rtol=1e-4, atol=1e-4)
    assert len(found) == {"llama": 0, "linen_transformer": 6, "unet": 4, "densenet": 0}[name]


def test_a_network_without_sites_is_refused():
    with pytest.raises(UserError, match="REPAIR: expected a layer whose units have a scale and a bias"):
        repair(
            read(
                lambda w, x: jnp.tanh(x @ w[0]) @ w[1], [jnp.ones((3, 4)), jnp.ones((4, 2))], jnp.ones((2, 3))
            )
        )
