"""From outside the package: a matcher, a correction, a model, a figure, a format: each one line."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import llfc_jax
from llfc_jax import models
from llfc_jax.corrections.correction import Correction
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats
from llfc_jax.interchange.format import Format
from llfc_jax.interchange.stored import File, in_memory
from llfc_jax.matching import MatchInfo, alignment
from llfc_jax.models import layers
from llfc_jax.models.network import Network, sequence
from llfc_jax.reporting.figures import FIGURES, FigureSpec
from llfc_jax.symmetry import random_permutation

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 3
BATCHES = {"test": [(X, Y)], "train": [(X[:20], Y[:20]), (X[20:], Y[20:])]}


def apply(weights, x):
    return jnp.tanh(x @ weights["first"]) @ weights["last"]


def network(seed):
    first, last = jax.random.split(jax.random.key(seed))
    return {"first": jax.random.normal(first, (6, 5)), "last": jax.random.normal(last, (5, 3))}


def by_chance(key, problem, options):
    """A matcher."""
    del options
    objective = jnp.zeros(1)
    found = MatchInfo(objective, jnp.int32(0), jnp.bool_(True), objective)
    return random_permutation(key, problem.spec), found


def bottleneck(input_shape, num_classes, *, width=1):
    """A model."""
    del input_shape
    steps = [("flatten", layers.Flatten()), ("in", nn.Dense(8 * width)), ("relu", layers.ReLU())]
    return Network(sequence([*steps, ("out", nn.Dense(num_classes))]))


def louder(factor):
    """A correction: all weights of the last layer times a factor."""

    def statistics(program, curve, alphas, batches):
        assert len(list(batches())) == 2
        return {alpha: jnp.float32(factor) for alpha in alphas}

    return Correction("louder", statistics, _mend)


def _mend(variables, factor):
    return {**variables, "last": factor * variables["last"]}


def draw_names(results):
    """A figure."""
    figure = Figure(figsize=(2, 1))
    figure.text(0, 0, results["model"]["name"])
    return figure


def recognises_lists(path, start):
    """A format: lists of numbers in JSON."""
    return start.startswith(b'{"')


def read_lists(path):
    stored = {name: in_memory(np.array(one)) for name, one in json.loads(path.read_text()).items()}
    return File(stored, "json", "", {}, True, {})


def write_lists(path, arrays):
    path.write_text(json.dumps({name: array.tolist() for name, array in arrays.items()}))


@pytest.fixture(scope="module")
def results():
    program = llfc_jax.read(apply, network(0), X[:2])
    return llfc_jax.measure(
        program,
        network(0),
        network(1),
        BATCHES,
        measures=("lmc",),
        num_alphas=3,
        alphas=(0.5,),
        corrections=(louder(2.0),),
    )


@pytest.mark.parametrize("registered", [False, True])
def test_a_matcher(registered, monkeypatch):
    monkeypatch.setitem(alignment.MATCHERS, "chance", by_chance)
    method = "chance" if registered else by_chance
    found = llfc_jax.align(apply, network(0), network(1), BATCHES["train"], method=method)
    assert found.summary["method"] == ("chance" if registered else "by_chance")
    np.testing.assert_allclose(apply(found.variables, X), apply(network(1), X), rtol=1e-4, atol=1e-5)


def test_an_unknown_matcher_or_option_is_one_line():
    with pytest.raises(UserError, match=r"^method: expected one of weight_matching, .*; found 'chance'$"):
        llfc_jax.align(apply, network(0), network(1), BATCHES["train"], method="chance")
    with pytest.raises(UserError, match=r"^options: expected names among restarts, .*; found 'restart'$"):
        llfc_jax.align(apply, network(0), network(1), BATCHES["train"], options={"restart": 1})
    with pytest.raises(UserError, match=r"^batches: expected some that can be read again"):
        llfc_jax.align(apply, network(0), network(1), iter(BATCHES["train"]))


def test_a_correction(results):
    def loss(weights):
        logits = np.float64(apply(weights, X))
        return np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(40), Y])

    middle = jax.tree.map(lambda a, b: (a + b) / 2, network(0), network(1))
    for key, factor in (("a-b", 1), ("a-b/louder", 2)):
        found = results["lmc"][key]["test"]["loss"][1]
        np.testing.assert_allclose(found, loss(_mend(middle, factor)), rtol=1e-5)


def test_a_figure_and_what_a_correction_is_called_are_on_the_page(results, monkeypatch, tmp_path):
    monkeypatch.setitem(FIGURES, "names", FigureSpec(draw_names, "The name", lambda results: "its name"))
    page = llfc_jax.report(results, tmp_path).read_text()
    assert (tmp_path / "figures" / "names.png").exists()
    assert "The name" in page
    assert "louder" in page


def test_a_model(monkeypatch):
    monkeypatch.setitem(models.MODELS, "bottleneck", bottleneck)
    built = models.build({"name": "bottleneck", "width": 2}, (2, 3, 1), num_classes=3)
    variables = built.init(jax.random.key(0), jnp.zeros((1, 2, 3, 1)))
    program = llfc_jax.read(built.apply, variables, X[:2].reshape(2, 2, 3, 1))
    assert [(node.name, node.shape) for node in program.nodes if node.weights] == [
        ("in", (2, 16)),
        ("out", (2, 3)),
    ]


def test_a_format(monkeypatch, tmp_path):
    lists = Format("JSON", recognises_lists, read_lists, write_lists, (".json",))
    monkeypatch.setitem(formats.FORMATS, "json", lists)
    arrays = {"last": np.arange(3.0), "first": np.eye(2)}
    formats.write(tmp_path / "a.json", arrays, "json")
    assert formats.holds(tmp_path / "a.json", arrays)
    assert list(formats.read(tmp_path).arrays) == ["last", "first"]
