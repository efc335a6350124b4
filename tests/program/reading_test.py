"""Programs read off networks that nobody here declared, and off the zoo's, whose wiring is known."""

from functools import cache, partial

import foreign
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.measures.nodes import rerun
from llfc_jax.program.flat import arguments, output, run
from llfc_jax.program.kinds import Kind
from llfc_jax.program.nodes import INPUT
from llfc_jax.program.reading import fitting, read


@pytest.fixture(autouse=True, scope="module")
def _any_broadcasting():
    with jax.numpy_rank_promotion("allow"):
        yield


ones = partial(np.ones, dtype=np.float32)


@cache
def network_of(name):
    apply, variables, inputs = foreign.NETWORKS[name](jax.random.key(0))
    return name, apply, variables, inputs, read(apply, variables, inputs)


@pytest.fixture(scope="module", params=foreign.NETWORKS)
def network(request):
    return network_of(request.param)


def test_the_flat_program_computes_what_the_network_does_and_each_node_its_value(network):
    """Of the nodes before it."""
    _, apply, variables, inputs, program = network
    flat, nodes = program.flat, program.nodes

    def remade(node, values):
        hidden = {result for i in node.instructions for result in flat.instructions[i].results}
        others = {value: array for value, array in values.items() if value not in hidden}
        return rerun(flat, node, others, {entry: values[entry] for entry in node.entries})

    @jax.jit
    def computed(variables, inputs):
        values = run(flat, arguments(flat, variables, inputs))
        return values, [remade(node, values) for node in nodes], apply(variables, inputs)

    values, found, expected = computed(variables, inputs)
    np.testing.assert_allclose(output(flat, values)[0], expected, rtol=1e-4, atol=1e-5)
    for node, value in zip(nodes, found, strict=True):
        np.testing.assert_allclose(value, values[node.value], rtol=1e-5, atol=1e-6, err_msg=node.name)


def test_names_are_readable_each_once_and_every_weight_is_read_by_a_node(network):
    _, _, variables, _, program = network
    names = [node.name for node in program.nodes]
    assert len({*names}) == len(names)
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree.leaves_with_path(variables)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }
    assert {weight for node in program.nodes for weight in node.weights} >= paths - {
        path for path in paths if path.startswith("dropout")
    }


def test_batches_of_another_size_give_the_same_nodes(network):
    _, _, variables, inputs, program = network
    larger = jax.tree.map(lambda x: np.concatenate([x, x]), inputs)
    again = fitting(program, variables, larger)
    assert again.signature == program.signature
    assert [node.name for node in again.nodes] == [node.name for node in program.nodes]


@pytest.mark.parametrize(
    ("name", "kinds"),
    {
        "linen_resnet": {Kind.CONTRACTION: 5, Kind.NORMALIZATION: 4, Kind.NONLINEARITY: 3, Kind.SUM: 1},
        "nnx_cnn": {Kind.CONTRACTION: 4, Kind.NORMALIZATION: 1, Kind.NONLINEARITY: 3, Kind.POOLING: 2},
        "linen_transformer": {
            Kind.CONTRACTION: 7,
            Kind.NORMALIZATION: 3,
            Kind.NONLINEARITY: 1,
            Kind.ATTENTION: 1,
            Kind.PRODUCT: 2,
            Kind.SUM: 2,
            Kind.EMBEDDING: 1,
        },
        "scanned_transformer": {Kind.CONTRACTION: 13, Kind.NORMALIZATION: 4, Kind.ATTENTION: 2},
        "unet": {Kind.CONTRACTION: 5, Kind.NORMALIZATION: 1, Kind.NONLINEARITY: 3, Kind.CONCATENATION: 1},
        "llama": {Kind.CONTRACTION: 8, Kind.NORMALIZATION: 3, Kind.NONLINEARITY: 1, Kind.PRODUCT: 3},
        "gpt": {
            Kind.CONTRACTION: 5,
            Kind.NORMALIZATION: 3,
            Kind.NONLINEARITY: 1,
            Kind.ATTENTION: 1,
            Kind.PRODUCT: 2,
            Kind.SUM: 2,
        },
        "densenet": {Kind.CONTRACTION: 4, Kind.NONLINEARITY: 3, Kind.CONCATENATION: 2},
        "equinox_cnn": {Kind.CONTRACTION: 3, Kind.NONLINEARITY: 2, Kind.POOLING: 1},
    }.items(),
)
def test_what_each_network_is_made_of_is_found(name, kinds):
    program = network_of(name)[-1]
    assert {kind: len(program.of_kind(kind)) for kind in kinds} == kinds


def test_the_bias_of_a_layer_before_a_norm_is_its_own_in_every_framework():
    for name, layer, norm in (("nnx_cnn", "conv1", "batch_norm1"), ("unet", "Conv_0", "GroupNorm_0")):
        program = network_of(name)[-1]
        assert [node.name for node in program.nodes[:2]] == [layer, norm]
        assert not any(layer in weight for weight in program[norm].weights)


def test_a_clamp_inside_a_normalisation_is_no_nonlinearity():
    program = network_of("linen_transformer")[-1]
    assert {node.label for node in program.of_kind(Kind.NONLINEARITY)} == {"gelu"}


@pytest.mark.parametrize(
    ("name", "image"),
    [("mlp", (4, 4, 1)), ("lenet", (28, 28, 1)), ("vgg11", (32, 32, 3)), ("resnet20", (8, 8, 3))],
)
def test_the_wiring_of_the_zoo_is_found(name, image):
    network = models.MODELS[name](image, 10)
    variables = network.shapes(jax.ShapeDtypeStruct((1, *image), jnp.float32))
    inputs = jax.ShapeDtypeStruct((3, *image), jnp.float32)
    program = read(network.apply, variables, inputs, features=network.apply_with_features)
    moved = {stage.name: stage.inputs[0] for stage in network.stages if stage.kind == "dropout"}
    wired = {
        stage.name: {moved.get(entry, entry) for entry in stage.inputs}
        for stage in network.stages
        if stage.name not in moved
    }
    assert {"flatten"} >= wired.keys() - {node.name for node in program.nodes}
    for node in program.nodes:
        before = {
            INPUT if entry not in {n.name for n in program.nodes} else entry for entry in wired[node.name]
        }
        assert {*node.inputs} == before, node.name


def test_checkpoint_names_are_names():
    def apply(w, x):
        hidden = checkpoint_name(jnp.tanh(x @ w[0]), "first")
        return jax.checkpoint(lambda h: jnp.tanh(h @ w[1]))(hidden)

    weights = [ones((3, 4)), ones((4, 2))]
    program = read(apply, weights, ones((2, 3)))
    assert [(node.name, node.label) for node in program.nodes] == [
        ("0", "dense"),
        ("first", "tanh"),
        ("1", "dense"),
        ("tanh1", "tanh"),
    ]


@pytest.mark.parametrize(
    ("nonlinearity", "label"),
    [
        (jax.nn.relu, "relu"),
        (lambda x: jnp.where(x > 0, x, 0), "relu"),
        (jax.nn.gelu, "gelu"),
        (lambda x: jax.nn.gelu(x, approximate=False), "gelu"),
        (jax.nn.silu, "silu"),
        (jnp.tanh, "tanh"),
        (jax.nn.sigmoid, "sigmoid"),
        (jax.nn.softplus, "softplus"),
        (jax.nn.relu6, "min"),
        (lambda x: jnp.square(jax.nn.relu(x)), "square"),
        (jax.nn.hard_swish, "nonlinearity"),
    ],
)
def test_a_nonlinearity_is_one_node_however_many_primitives_it_takes(nonlinearity, label):
    program = read(lambda w, x: nonlinearity(x @ w), ones((3, 4)), ones((2, 3)))
    assert [(node.kind, node.label) for node in program.nodes][1:] == [(Kind.NONLINEARITY, label)]


def test_samples_and_units_are_known_wherever_they_lie():
    def apply(w, x):  # (n, c, t), time first inside, channels first outside
        moved = jnp.transpose(x, (2, 0, 1))
        hidden = jax.nn.relu(moved @ w[0])
        return jnp.transpose(hidden, (1, 2, 0)).sum(-1) @ w[1]

    program = read(apply, [ones((3, 4)), ones((4, 2))], ones((5, 3, 6)))
    found = [(node.name, node.sample_axis, node.unit_axis) for node in program.nodes]
    assert found == [("0", 1, 2), ("relu1", 1, 2), ("pool1", 0, 1), ("1", 0, 1)]


RANDOM = np.random.default_rng(0)


def dropped(w, x):
    kept = jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)
    return jnp.where(kept, x, 0) @ w


@pytest.mark.parametrize(
    ("apply", "line"),
    [
        (lambda w, x: x, "apply: expected an output that depends on the weights and the inputs; found none"),
        (lambda w, x: w, "apply: expected an output that depends on the weights and the inputs; found none"),
        (lambda w, x: None, "apply: expected an array of logits; found None"),
        (dropped, "apply: expected no random numbers; found some drawn: switch off dropout and the like"),
        (
            lambda w, x: x @ w + float(RANDOM.normal()),
            "apply: expected a pure function; found other numbers in it each time it is called",
        ),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(apply, line):
    with pytest.raises(UserError) as caught:
        read(apply, ones((3, 2)), ones((2, 3)))
    assert str(caught.value) == line


def test_what_is_no_value_of_the_program_and_what_nothing_reads_is_said():
    def features(w, x):
        hidden = jnp.tanh(x @ w["in"])
        return hidden @ w["out"], {"hidden": hidden, "image": x, "norm": w["in"] ** 2}

    weights = {"in": ones((3, 4)), "out": ones((4, 2)), "head": {"bias": ones(2)}}
    program = read(lambda w, x: features(w, x)[0], weights, ones((2, 3)), features)
    assert str(program).splitlines()[-3:] == [
        "skipped image: expected what depends on weights and inputs; found inputs alone",
        "skipped norm: expected what depends on weights and inputs; found weights alone",
        "nothing reads head/bias",
    ]
    with pytest.raises(UserError, match="node: expected one of in, hidden, out; found 'hiden'"):
        program["hiden"]


def test_a_mean_over_samples_is_no_impurity():
    program = read(lambda w, x: (x - x.mean(0, keepdims=True)) @ w, ones((3, 2)), ones((2, 3)))
    assert [node.label for node in program.nodes] == ["dense"]


def test_layers_are_named_by_what_their_weights_share():
    def normalised(x, scale, bias):
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    def apply(w, x):
        hidden = normalised(x @ w["up_kernel"] + w["up_bias"], w["ln_scale"], w["ln_bias"])
        return jax.nn.relu(hidden) @ w["down_w"] + w["shift"]

    shapes = {"up_kernel": (3, 4), "up_bias": (4,), "ln_scale": (4,), "ln_bias": (4,), "down_w": (4, 2)}
    weights = {name: ones(shape) for name, shape in (shapes | {"shift": (2,)}).items()}
    program = read(apply, weights, ones((2, 3)))
    assert [node.name for node in program.nodes] == ["up", "ln", "relu1", "down"]


def test_a_kernel_multiplied_with_patches_is_a_convolution():
    def apply(w, x):
        patches = jnp.concatenate([x[:, :-1], x[:, 1:]], -1)  # 2 x 1 windows
        return (patches @ w["kernel"].reshape(-1, 5)).mean((1, 2)) @ w["head"]

    weights = {"kernel": ones((2, 1, 3, 5)), "head": ones((5, 2))}
    program = read(apply, weights, ones((2, 4, 4, 3)))
    assert [node.label for node in program.nodes] == ["conv", "pool", "dense"]


def test_a_weight_added_is_a_shift_unless_it_is_made_of_weights_by_what_is_not_linear():
    for made, kind in ((lambda w: 2 * w, Kind.SHIFT), (jnp.exp, Kind.AFFINE)):
        program = read(
            lambda w, x, made=made: jnp.tanh(jnp.tanh(x @ w[0]) + made(w[1])),
            [ones((3, 4)), ones(4)],
            ones((2, 3)),
        )
        assert [node.kind for node in program.nodes] == [
            Kind.CONTRACTION,
            Kind.NONLINEARITY,
            kind,
            Kind.NONLINEARITY,
        ]


def test_a_loop_over_time_is_one_node_and_says_so():
    def apply(w, x):
        step = lambda state, now: (jnp.tanh(state @ w["state"] + now @ w["now"]), None)  # noqa: E731
        state, _ = jax.lax.scan(step, jnp.zeros((len(x), 4)), jnp.moveaxis(x, 1, 0))
        return state @ w["out"]

    weights = {"state": ones((4, 4)), "now": ones((3, 4)), "out": ones((4, 2))}
    program = read(apply, weights, ones((2, 5, 3)))
    assert [node.label for node in program.nodes] == ["scan", "dense"]
    assert f"{program.nodes[0].name} is one node for all steps of a loop" in str(program)
