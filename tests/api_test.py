"""One network, written in four ways, against the measures of the command on the same network."""

import dataclasses
import inspect
import itertools
import subprocess
import sys
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict

import llfc_jax
from llfc_jax import models
from llfc_jax.data.batches import batches
from llfc_jax.data.dataset import Split
from llfc_jax.errors import UserError
from llfc_jax.measures.llfc import baseline, join, llfc
from llfc_jax.measures.lmc import lmc
from llfc_jax.path.curves import Curve
from llfc_jax.path.interpolation import alpha_grid
from llfc_jax.path.traversal import Planned, measure_path
from llfc_jax.program.reading import read_features
from llfc_jax.types import Batch

IN, HIDDEN, CLASSES, EXAMPLES = 5, 7, 3, 50
LAYERS = ("dense1", "relu1", "dense2")
NETWORK = models.build({"name": "mlp", "hidden": (HIDDEN,)}, (IN,), CLASSES)
GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(EXAMPLES, IN)).astype(np.float32)
LABELS = GENERATOR.integers(0, CLASSES, EXAMPLES)
ALPHAS = (0.25, 0.5)


@cache
def ours(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jax.device_put(rng.normal(size=leaf.shape, scale=0.4).astype(leaf.dtype)),
        NETWORK.shapes(INPUTS[:1]),
    )


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(HIDDEN, name="dense1")(x))
        self.sow("intermediates", "relu1", x)
        return nn.Dense(CLASSES, name="dense2")(x)


def linen_features(variables, x):
    logits, state = Linen().apply(variables, x, capture_intermediates=True, mutable=["intermediates"])
    return logits, state["intermediates"]


class NNX(nnx.Module):
    def __init__(self):
        self.dense1 = nnx.Linear(IN, HIDDEN, rngs=nnx.Rngs(0))
        self.dense2 = nnx.Linear(HIDDEN, CLASSES, rngs=nnx.Rngs(0))

    def __call__(self, x):
        x = nnx.relu(self.dense1(x))
        self.sow(nnx.Intermediate, "relu1", x)
        return self.dense2(x)


@cache
def parts():
    """Its graph and its state."""
    return nnx.split(NNX())


def nnx_features(state, x):
    model = nnx.merge(parts()[0], state)
    return nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(x)


def nnx_state(seed):
    state = jax.tree.map(lambda leaf: leaf, parts()[1])
    nnx.replace_by_pure_dict(state, ours(seed)["params"])
    return state


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Equinox:
    """A pytree that is a network itself, in Equinox's manner: it sees one example."""

    params: dict

    def __call__(self, x):
        dense1 = x @ self.params["dense1"]["kernel"] + self.params["dense1"]["bias"]
        relu1 = jax.nn.relu(dense1)
        dense2 = relu1 @ self.params["dense2"]["kernel"] + self.params["dense2"]["bias"]
        return dense2, {"dense1": dense1, "relu1": relu1, "dense2": dense2}


KINDS = {
    "ours": (NETWORK.apply_with_features, ours),
    "linen": (linen_features, ours),
    "nnx": (nnx_features, nnx_state),
    "equinox": (lambda model, x: jax.vmap(model)(x), lambda seed: Equinox(ours(seed)["params"])),
}


@pytest.fixture(scope="module")
def reference():
    """The measures as the command takes them, on batches of one size."""
    layers = {stage.name: stage.kind for stage in NETWORK.stages if stage.is_feature}
    found = measure_path(
        read_features(NETWORK.apply_with_features, ours(1), INPUTS[:25]),
        Curve(ours(1), ours(2)),
        batches(Split(INPUTS, LABELS.astype(np.int32)), 25),
        {
            "lmc": Planned(lmc(), alpha_grid(5)),
            "llfc": Planned(llfc(layers), ALPHAS),
            "baseline": Planned(baseline(layers, ALPHAS), (0.0,)),
        },
    )
    return {**found["lmc"], "layers": join(found["llfc"], found["baseline"])}


def uneven_by(size):
    for start in range(0, EXAMPLES, size):
        yield INPUTS[start : start + size], LABELS[start : start + size]


def uneven():
    """A stream of batches of many sizes, the largest first: all are filled up to it."""
    return cut_at(27, 37, 38)


def cut_at(*places):
    for start, stop in itertools.pairwise((0, *places, EXAMPLES)):
        yield INPUTS[start:stop], LABELS[start:stop]


def assert_close(found, expected):
    for (path, x), (_, y) in zip(*map(jax.tree.leaves_with_path, (found, expected)), strict=True):
        assert x == y if isinstance(x, str) else x == pytest.approx(y, rel=1e-4, abs=1e-6, nan_ok=True), path


@pytest.mark.parametrize("kind", KINDS)
def test_the_path_is_that_of_the_command_in_every_framework(kind, reference):
    apply_with_features, variables = KINDS[kind]
    found = llfc_jax.evaluate_path(
        lambda v, x: apply_with_features(v, x)[0], variables(1), variables(2), uneven(), num_alphas=5
    )
    assert found["alphas"] == alpha_grid(5)
    for name in ("loss", "error", "loss_barrier", "error_barrier", "loss_midpoint_gap", "error_midpoint_gap"):
        assert_close(found[name], reference[name])


@pytest.mark.parametrize("kind", KINDS)
def test_the_features_are_those_of_the_command_in_every_framework(kind, reference):
    apply_with_features, variables = KINDS[kind]
    found = llfc_jax.measure_features(apply_with_features, variables(1), variables(2), uneven(), ALPHAS)
    assert found["alphas"] == ALPHAS
    assert [layer["layer"] for layer in found["layers"] if layer["layer"] in LAYERS] == list(LAYERS)
    layers = {layer["layer"]: layer | {"kind": ""} for layer in found["layers"]}
    for layer in reference["layers"]:
        assert_close(layers[layer["layer"]], layer | {"kind": ""})


@pytest.mark.parametrize(
    "stream",
    [
        [{"image": INPUTS, "label": LABELS}],
        ([INPUTS[i : i + 20], LABELS[i : i + 20]] for i in range(0, EXAMPLES, 20)),
        batches(Split(INPUTS, LABELS.astype(np.int32)), 15),
        [jax.device_put((INPUTS, LABELS))],
        cut_at(10, 37, 38),
    ],
    ids=["TFDS's dicts", "a generator of lists", "our own masked batches", "arrays of JAX", "ever larger"],
)
def test_batches_come_in_many_forms(stream, reference):
    found = llfc_jax.evaluate_path(NETWORK.apply, ours(1), ours(2), stream, 5)
    assert_close(found["loss"], reference["loss"])
    assert_close(found["error"], reference["error"])


def test_inputs_may_be_a_pytree():
    def apply(w, x):
        return x["left"] @ w["left"] + x["right"] @ w["right"]

    a, b = ({"left": np.eye(2, dtype=np.float32) * i, "right": np.ones((3, 2), np.float32)} for i in (1, 2))
    inputs = {"left": np.eye(2, dtype=np.float32), "right": np.ones((2, 3), np.float32)}
    found = llfc_jax.evaluate_path(apply, a, b, [(inputs, np.arange(2))], 3)
    np.testing.assert_allclose(found["loss"], np.log1p(np.exp([-1, -1.5, -2])), rtol=1e-5)


class WithState(nnx.Module):
    """Its state has a random key, a counter and running statistics beside the weights."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.hidden = nnx.Linear(IN, HIDDEN, rngs=rngs)
        self.norm = nnx.BatchNorm(HIDDEN, use_running_average=True, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.out = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def with_statistics(state, seed):
    """The same state with other running statistics."""
    mean = jax.device_put(100 * np.random.default_rng(seed).normal(size=HIDDEN).astype(np.float32))
    state = jax.tree.map(lambda leaf: leaf, state)
    state["norm"]["mean"] = nnx.BatchStat(mean)
    return state


def test_random_state_stays_and_b_is_aligned_around_it():
    graph, a = nnx.split(WithState(0))
    _, b = nnx.split(WithState(1))

    def apply(state, x):
        return nnx.merge(graph, state)(x)

    spec = llfc_jax.permutation_spec(apply, a, INPUTS[:2])
    assert list(spec.sizes.values()) == [HIDDEN]
    permutation, info = llfc_jax.weight_matching(jax.random.key(0), spec, a, b)
    assert info.converged
    moved, _ = llfc_jax.weight_matching(jax.random.key(0), spec, a, with_statistics(b, seed=2))
    jax.tree.map(np.testing.assert_array_equal, moved, permutation)  # running statistics have no say
    aligned = llfc_jax.apply_permutation(spec, permutation, b)
    naive, matched = (llfc_jax.evaluate_path(apply, a, end, uneven(), 5) for end in (b, aligned))
    assert_close(matched["loss"][-1], naive["loss"][-1])
    middle = llfc_jax.lerp(a, aligned, 0.5)
    assert nnx.to_pure_dict(middle)["dropout"] == nnx.to_pure_dict(a)["dropout"]


def test_nothing_is_traced_again_for_the_same_function_and_layers():
    traces = []

    def apply(variables, x):
        traces.append(None)
        return NETWORK.apply_with_features(variables, x)

    first = llfc_jax.measure_features(apply, ours(1), ours(2), [(INPUTS, LABELS)])
    assert traces
    traces.clear()
    assert_close(llfc_jax.measure_features(apply, ours(1), ours(2), [(INPUTS, LABELS)]), first)
    assert not traces


def test_activation_matching_takes_the_same_batches_as_the_rest_and_leaves_padding_out():
    spec = llfc_jax.permutation_spec(NETWORK.apply, ours(1), INPUTS[:2])
    half = EXAMPLES // 2
    padded = Batch(INPUTS, LABELS, np.arange(EXAMPLES) < half)
    streams = [(INPUTS[:half], LABELS[:half])], [{"image": INPUTS[:half], "label": LABELS[:half]}], [padded]
    found = [
        llfc_jax.activation_matching(
            jax.random.key(0), spec, ours(1), ours(2), apply=NETWORK.apply, batches=stream
        )
        for stream in streams
    ]
    for permutation, info in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, (permutation, info), found[0])


def test_padding_may_have_labels_that_are_none():
    kept = np.arange(EXAMPLES) < EXAMPLES // 2
    padded = Batch(INPUTS, np.where(kept, LABELS, -1), kept)
    assert_close(evaluated(stream=[padded]), evaluated(stream=[(INPUTS[kept], LABELS[kept])]))


def test_features_and_activations_need_no_labels():
    labelled, alone = [(INPUTS, LABELS)], [INPUTS[:30], INPUTS[30:]]
    assert_close(measured(stream=alone), measured(stream=labelled))
    spec = llfc_jax.permutation_spec(NETWORK.apply, ours(1), INPUTS[:2])
    found, expected = (
        llfc_jax.activation_matching(
            jax.random.key(0), spec, ours(1), ours(2), apply=NETWORK.apply, batches=stream
        )[0]
        for stream in (alone, labelled)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_every_function_takes_the_batches_of_pytorch():
    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(torch.from_numpy(INPUTS), torch.from_numpy(LABELS))
    loader = torch.utils.data.DataLoader(tensors, batch_size=20)
    spec = llfc_jax.permutation_spec(NETWORK.apply, ours(1), INPUTS[:2])

    def loss(variables, batch):
        logits, (_, labels) = NETWORK.apply(variables, batch[0]), batch
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def found(stream):
        given = jax.random.key(0), spec, ours(1), ours(2)
        return (
            evaluated(stream=stream),
            llfc_jax.activation_matching(*given, apply=NETWORK.apply, batches=stream),
            llfc_jax.straight_through(
                *given, loss_fn=loss, batches=stream, optimizer=optax.adam(0.1), epochs=1
            ),
        )

    assert_close(*jax.device_get((found(loader), found(list(uneven_by(20))))))


def test_the_public_names_are_there_and_documented():
    for name in llfc_jax.__all__:
        assert inspect.getdoc(getattr(llfc_jax, name)), name
        assert name in llfc_jax.__doc__
        assert name in dir(llfc_jax)
    with pytest.raises(AttributeError, match="has no attribute 'lerpp'"):
        _ = llfc_jax.lerpp


def test_importing_the_package_does_not_import_jax_nor_a_run_what_takes_long_and_training_does_not_need():
    unneeded = {"flax.nnx", "matplotlib", "scipy", "sklearn", "tensorflow_datasets"}
    code = "import sys, llfc_jax; assert 'jax' not in sys.modules; llfc_jax.lerp; assert 'jax' in sys.modules"
    code += f"\nimport llfc_jax.run.experiment; assert not {unneeded} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def evaluated(stream=((INPUTS, LABELS),), apply=NETWORK.apply):
    return llfc_jax.evaluate_path(apply, ours(1), ours(2), stream, num_alphas=3)


def measured(a=None, b=None, stream=((INPUTS, LABELS),), alphas=(0.5,), apply=NETWORK.apply_with_features):
    return llfc_jax.measure_features(apply, a or ours(1), b or ours(2), stream, alphas)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"b": {"params": {}}}, "the networks differ at params/dense1/bias"),
        ({"stream": ()}, "batches: expected one at least; found none"),
        ({"stream": [{"x": INPUTS, "y": LABELS}]}, "batches: .* found the keys x, y"),
        (
            {"b": jax.tree.map(lambda x: np.full_like(x, np.nan), ours(2))},
            "expected finite numbers, found NaN .* in B",
        ),
        ({"b": FrozenDict(ours(2))}, "the networks differ: .* containers; found FrozenDict and dict"),
        (
            {"apply": lambda v, x: (NETWORK.apply(v, x), {"sign": jnp.int32(x)})},
            "features: expected one at least; found none .sign: .* floating-point numbers; found int32",
        ),
        ({"stream": [INPUTS[:0]]}, r"inputs: expected \(n, ...\), n > 0; found"),
        ({"alphas": (0.5, 1.5)}, r"alphas: expected numbers in \[0, 1\]; found 1.5"),
        ({"alphas": ()}, "alphas: expected one at least; found none"),
        ({"apply": lambda v, x: (NETWORK.apply(v, x), {})}, "features: expected one at least; found none"),
        (
            {"apply": lambda v, x: (NETWORK.apply(v, x), {"norm": NETWORK.apply(v, x).sum()})},
            r"features: expected one at least; found none .norm: expected one row for each sample",
        ),
        (
            {"apply": lambda v, x: (NETWORK.apply(v, x).sum(1), {"x": x})},
            r"features: expected one at least; found none .x: expected what depends on weights and inputs",
        ),
        ({"apply": NETWORK.apply}, r"apply_with_features: expected .logits, features.; found an array of"),
        ({"apply": lambda v, x: (None, {"x": x})}, "apply: expected an array of logits; found None"),
    ],
)
def test_bad_input_is_one_line(arguments, line):
    with pytest.raises(UserError, match=line) as caught:
        measured(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"stream": [INPUTS]}, r"batches: expected .inputs, labels. or a dict .*; found an array"),
        ({"stream": [(INPUTS, np.eye(EXAMPLES))]}, r"labels: expected .n,. integers; found float32 of shape"),
        ({"stream": [(INPUTS, LABELS - 1)]}, f"labels: expected 0 to {CLASSES - 1}, .* logits; found -1 to"),
        ({"stream": [(INPUTS, LABELS + 1)]}, f"labels: expected 0 to .*; found 1 to {CLASSES}"),
        ({"apply": lambda v, x: (NETWORK.apply(v, x), x)}, "apply: expected an array of .* a tuple of 2"),
        ({"apply": lambda v, x: {"logits": NETWORK.apply(v, x)}}, "apply: expected an array .* a dict"),
        (
            {"apply": lambda v, x: NETWORK.apply(v, x).sum(1)},
            r"apply: expected logits \(50, ..., classes\); found shape \(50,\)",
        ),
        ({"apply": lambda v, x: NETWORK.apply(v, x) + 1j}, "apply: expected real logits; found complex64"),
    ],
)
def test_what_has_no_loss_is_refused_in_one_line(arguments, line):
    with pytest.raises(UserError, match=line) as caught:
        evaluated(**arguments)
    assert "\n" not in str(caught.value)
