"""Bent curves: where they lie, how they are trained, and that everything is measured along them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.path.curves import BENT, Curve
from llfc_jax.path.interpolation import lerp

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 5)).astype(np.float32), RNG.integers(0, 3, 40)
BATCHES = {"test": [(X[:20], Y[:20]), (X[20:], Y[20:])], "train": [(X[20:], Y[20:])]}


def apply(weights, x):
    return jax.nn.relu(x @ weights["in"] + weights["bias"][None]) @ weights["out"]


def network(seed):
    rng = np.random.default_rng(seed)
    shapes = {"in": (5, 6), "bias": (6,), "out": (6, 3)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def program():
    return llfc_jax.read(apply, network(0), X[:20])


@pytest.fixture(scope="module")
def bent():
    """A curve of each kind with a bend of its own."""
    return {kind: Curve(network(0), network(1), bend=network(2), kind=kind) for kind in BENT}


def close(x, y, rtol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), x, y)


@pytest.mark.parametrize("kind", BENT)
def test_curves_end_at_the_networks_bit_for_bit(kind, bent):
    for alpha, end in ((0.0, network(0)), (1.0, network(1))):
        jax.tree.map(np.testing.assert_array_equal, bent[kind].at(jnp.float32(alpha)), end)


def test_points_are_those_of_the_definitions(bent):
    a, b, c = network(0), network(1), network(2)
    for t in (0.2, 0.5, 0.7):
        quadratic = jax.tree.map(
            lambda a, c, b, t=t: (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b, a, c, b
        )
        close(bent["bezier"].at(t), quadratic)
        chain = lerp(a, c, 2 * t) if t < 0.5 else lerp(c, b, 2 * t - 1)
        close(bent["polygon"].at(t), chain)


@pytest.mark.parametrize("kind", BENT)
def test_a_curve_bent_to_the_middle_of_the_line_is_the_line_in_every_measure(kind, program):
    a, b = network(0), network(1)
    curve = Curve(a, b, bend=lerp(a, b, 0.5), kind=kind)
    found = llfc_jax.measure(program, a, b, BATCHES, num_alphas=5, curve=curve)
    for measure in llfc_jax.measures.STANDARD:
        line, along = (
            {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(entry)}
            for entry in (found[measure]["a-b"], found[measure][f"a-b/{kind}"])
        )
        assert line.keys() == along.keys()
        numbers = [path for path, value in line.items() if isinstance(value, float)]
        near = [np.isclose(line[path], along[path], rtol=1e-3, atol=1e-5, equal_nan=True) for path in numbers]
        assert len(numbers) > 3
        assert all(near), [path for path, ok in zip(numbers, near, strict=True) if not ok][:5]


def test_measures_along_a_curve_are_those_of_its_networks(program, bent):
    curve = bent["bezier"]
    # All measures, as above: they are compiled.
    found = llfc_jax.measure(program, curve.a, curve.b, BATCHES, num_alphas=5, curve=curve)
    lmc = found["lmc"]["a-b/bezier"]
    features = [np.float64(jax.jit(apply)(weights, X)) for weights in (curve.a, curve.at(0.25), curve.b)]
    losses = [(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(Y)), Y]).mean() for logits in features]
    at = [lmc["alphas"].index(alpha) for alpha in (0, 0.25, 1)]
    np.testing.assert_allclose([lmc["test"]["loss"][i] for i in at], losses, rtol=1e-5)
    last = found["llfc"]["a-b/bezier"]["layers"][-1]
    u, v = features[1], 0.75 * features[0] + 0.25 * features[2]  # the chord between the ends' features
    norms = np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1)
    cosine = ((u * v).sum(-1) / np.where(norms > 0, norms, 1))[norms > 0]
    np.testing.assert_allclose(last["cosine_distance"]["mean"][0], (1 - cosine).mean(), rtol=1e-4)
    ranks = found["effective_rank"]["a-b/bezier"]
    weights = next(row for row in ranks["layers"] if row["layer"] == "in")["weights"]
    singular = np.linalg.svd(np.float64(curve.at(0.5)["in"]), compute_uv=False)
    share = singular / singular.sum()
    half = list(ranks["alphas"]).index(0.5)
    np.testing.assert_allclose(weights[half], np.exp(-(share * np.log(share)).sum()), rtol=1e-5)


@pytest.mark.parametrize("kind", BENT)
def test_training_finds_a_way_around_a_hill(kind):
    def loss(point, batch):
        """A hill on the line from (-1, 0) to (1, 0)."""
        del batch
        return jnp.exp(-8 * jnp.vdot(point["at"], point["at"])) + 0.01 * point["at"][1]

    a, b = ({"at": np.float32([x, 0.0]), "step": np.int32(7)} for x in (-1.0, 1.0))
    nudged = {"at": np.float32([1.0, 0.01]), "step": np.int32(7)}
    batches = [(np.zeros((1, 2), np.float32), np.zeros(1, np.int32))]
    curve = llfc_jax.train_curve(
        lambda point, x: x * point["at"][None],
        a,
        nudged,
        batches,
        kind=kind,
        steps=300,
        learning_rate=0.05,
        loss=loss,
    )
    points = np.linspace(0, 1, 21, dtype=np.float32)
    along, straight = (
        jax.jit(jax.vmap(lambda alpha, at=at: loss(at(alpha), None)))(points).max()
        for at in (curve.at, lambda alpha: lerp(a, b, alpha))
    )
    assert along < 0.5 * straight
    assert int(curve.bend["step"]) == 7


def test_the_same_seed_trains_the_same_curve(program):
    one, other = (
        llfc_jax.train_curve(program, network(0), network(1), BATCHES["train"], steps=3, seed=1)
        for _ in range(2)
    )
    jax.tree.map(np.testing.assert_array_equal, one.bend, other.bend)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"kind": "circle"}, "kind: expected one of bezier, polygon; found 'circle'"),
        ({"b": {"in": np.ones((5, 6), np.float32)}}, "the networks differ at"),
        ({"steps": 0}, "steps: expected an integer"),
        ({"batches": []}, "batches: expected one at least; found none"),
        ({"batches": [(X, Y + 1)]}, "labels: expected 0 to 2, by the logits; found 1 to 3"),
        ({"learning_rate": 1e30}, "learning_rate: expected one at which training converges"),
    ],
)
def test_what_is_no_curve_is_refused_in_one_line(given, line, program):
    call = {"a": network(0), "b": network(1), "batches": BATCHES["train"], "steps": 5} | given
    with pytest.raises(UserError, match=line):
        llfc_jax.train_curve(program, **call)


def test_a_curve_between_other_networks_is_refused(program, bent):
    with pytest.raises(UserError, match="curve: expected one between a and b; found another end than b"):
        llfc_jax.measure(program, network(0), network(3), BATCHES, curve=bent["bezier"])


def test_the_centre_of_a_star_is_reached_where_the_mean_of_its_tips_is_on_a_hill():
    def loss(point, batch):
        """A hill in the middle of three tips, with a valley beside it."""
        del batch
        at = point["at"]
        return jnp.exp(-8 * jnp.vdot(at, at)) + 0.05 * jnp.vdot(at, at)

    angles = np.float32([0.0, 1.5, 3.0])
    tips = [{"at": np.float32([np.cos(angle), np.sin(angle)]), "step": np.int32(7)} for angle in angles]
    batches = [(np.zeros((1, 2), np.float32), np.zeros(1, np.int32))]
    chord = llfc_jax.lerp(tips[0], tips[-1], 0.5)
    centre = llfc_jax.train_star(
        lambda point, x: x * point["at"][None], tips, batches, steps=300, learning_rate=0.05, loss=loss
    )
    ray = jax.jit(jax.vmap(lambda tip, alpha: loss(lerp(tip, centre, alpha), None), (None, 0)))
    rays = [ray(tip, np.linspace(0, 1, 9, dtype=np.float32)) for tip in tips]
    assert np.max(rays) < 0.5 * float(loss(chord, None))
    assert int(centre["step"]) == 7


def test_the_centre_of_a_star_of_one_network_twice_and_no_descent_is_it():
    tip = network(0)
    centre = llfc_jax.train_star(apply, [tip, tip], BATCHES["train"], steps=1, learning_rate=1e-30)
    jax.tree.map(np.testing.assert_array_equal, centre, tip)


def test_a_star_looks_at_all_its_tips_however_many():
    broken = network(0) | {"bias": np.full(6, np.nan, np.float32)}
    with pytest.raises(
        UserError, match=r"^bias: expected finite numbers, found NaN or infinity in network 27$"
    ):
        llfc_jax.train_star(apply, [network(0)] * 26 + [broken], BATCHES["train"], steps=1)
