"""Matching by rotations, signs and invertible maps: planted ones are found, losses descended."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from planted import some_permutation

from llfc_jax.errors import UserError
from llfc_jax.matching import learned_matching, procrustes_matching, weight_matching
from llfc_jax.path.interpolation import lerp
from llfc_jax.symmetry import apply_permutation, check_equivalence
from llfc_jax.symmetry.classes import symmetries
from llfc_jax.symmetry.maps import apply_maps, fold_scales, random_maps, scales_of

KEY, ADAM = jax.random.key(0), optax.adam(1e-2)
SHAPES = {
    "in": (5, 8),
    "scale": (8,),
    "read": (8, 12),
    "write": (12, 8),
    "square": (8, 8),
    "last_scale": (8,),
    "out": (8, 4),
}


def apply(w, x):
    """A stream that is normalised, without the mean, before whoever reads it."""

    def norm(x, scale):
        return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * w[scale][None]

    x = x @ w["in"]
    x = x + jnp.tanh(norm(x, "scale") @ w["read"]) @ w["write"]
    return norm(x + x @ w["square"], "last_scale") @ w["out"]


compiled = jax.jit(apply)


@cache
def weights(seed):
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(size=shape) / np.sqrt(shape[0]) for name, shape in SHAPES.items()}
    drawn |= {name: np.exp(drawn[name]) for name in ("scale", "last_scale")}
    return {name: jax.device_put(np.float32(array)) for name, array in drawn.items()}


X = jax.device_put(np.float32(np.random.default_rng(9).normal(size=(32, 5))))
LABELS = jax.device_put(np.random.default_rng(8).integers(0, 4, 32))
SYMMETRY = symmetries(apply, weights(0), X)


@jax.jit
def loss_fn(w, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply(w, batch[0]), batch[1]).mean()


@pytest.fixture(scope="module")
def planted():
    """A, and A rotated, permuted, and with the signs of some hidden units turned."""
    permutation = some_permutation(0, SYMMETRY.spec)

    @jax.jit
    def moved(a, other):
        b = fold_scales(SYMMETRY, a)
        b = apply_maps(SYMMETRY, random_maps(KEY, SYMMETRY, "P0 orthogonal", "P1 sign"), b)
        return scales_of(SYMMETRY, apply_permutation(SYMMETRY.spec, permutation, b), other)

    return weights(0), moved(weights(0), weights(1))


def learn(a, b, epochs=5, **options):
    return learned_matching(
        KEY,
        SYMMETRY,
        a,
        b,
        **{
            "loss_fn": loss_fn,
            "batches": [(X[:16], LABELS[:16]), (X[16:], LABELS[16:])],
            "optimizer": ADAM,
            "epochs": epochs,
        }
        | options,
    )


@pytest.fixture(scope="module")
def learned():
    return learn(weights(0), weights(1))


def test_a_planted_rotation_of_the_stream_is_recovered_and_with_it_a(planted):
    a, b = planted
    assert check_equivalence(compiled, a, b, X) < 1e-5
    found = procrustes_matching(KEY, SYMMETRY, a, b)
    assert check_equivalence(compiled, b, found.variables, X) < 1e-5
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), found.variables, a)


def test_rounds_raise_the_objective_and_rotations_raise_it_above_permutations():
    a, b = weights(0), weights(1)
    found = procrustes_matching(KEY, SYMMETRY, a, b)
    assert (np.diff(found.info.objective) >= 0).all()
    folded = [fold_scales(SYMMETRY, x) for x in (a, b)]
    _, info = weight_matching(KEY, SYMMETRY.spec, *folded)
    assert found.info.objective[-1] > 1.1 * float(info.objective[-1])
    assert check_equivalence(compiled, b, found.variables, X) < 1e-5
    np.testing.assert_allclose(found.variables["scale"], a["scale"], rtol=1e-5)


def test_learning_lowers_the_loss_of_the_midpoint_and_keeps_the_function(learned):
    a, b = weights(0), weights(1)
    assert len(learned.info.objective) == 6
    assert min(learned.info.objective) < learned.info.objective[0] - 0.01
    assert check_equivalence(compiled, b, learned.variables, X) < 1e-4
    middle = float(loss_fn(lerp(a, learned.variables, 0.5), (X, LABELS)))
    np.testing.assert_allclose(middle, min(learned.info.objective), rtol=1e-4)


def test_the_key_and_the_networks_determine_what_is_learned(learned):
    again = learn(weights(0), weights(1))
    jax.tree.map(np.testing.assert_array_equal, again.variables, learned.variables)


class KilledError(Exception):
    pass


class Memory:
    """A keeper that dies once it has kept an epoch."""

    def __init__(self, dies_at):
        self.dies_at, self.kept = dies_at, None

    def restore(self, like):
        if self.kept is not None:
            jax.tree.map(lambda x, y: np.testing.assert_array_equal(x.shape, y.shape), self.kept.arrays, like)
        return self.kept

    def keep(self, epoch, kept):
        self.kept = kept
        if epoch == self.dies_at:
            raise KilledError


def test_a_killed_descent_goes_on_where_it_was_bit_for_bit(learned):
    keeper = Memory(dies_at=3)
    with pytest.raises(KilledError):
        learn(weights(0), weights(1), keeper=keeper)
    found = learn(weights(0), weights(1), keeper=keeper)
    jax.tree.map(np.testing.assert_array_equal, found.variables, learned.variables)
    jax.tree.map(np.testing.assert_array_equal, found.info, learned.info)
    assert found.ladder == learned.ladder


def test_a_loss_that_turns_nan_keeps_the_best_so_far(learned):
    def breaks(w, batch):
        loss = loss_fn(w, batch)
        return jnp.where(loss < learned.info.objective[0] - 0.005, jnp.nan, loss)

    found = learn(weights(0), weights(1), epochs=30, loss_fn=breaks, batches=[(X, LABELS)])
    assert np.isnan(found.info.objective[-1])
    assert np.isfinite(found.info.objective[:-1]).all()
    middle = loss_fn(lerp(weights(0), found.variables, 0.5), (X, LABELS))
    np.testing.assert_allclose(middle, np.nanmin(found.info.objective), rtol=1e-4)
    assert check_equivalence(compiled, weights(1), found.variables, X) < 1e-4


def test_what_cannot_be_matched_is_refused():
    a, b = weights(0), weights(1)
    with pytest.raises(UserError, match=r"^batches: expected at least one, found none$"):
        learn(a, b, batches=[])
    with pytest.raises(
        UserError, match=r"^classes: expected some of those that the network has \(.*\); found 'inv"
    ):
        procrustes_matching(KEY, SYMMETRY, a, b, classes=("invertible",))
    with pytest.raises(UserError, match=r"^scale: expected a scale without zeros; found one$"):
        procrustes_matching(KEY, SYMMETRY, a, b | {"scale": np.arange(8, dtype=np.float32)})


def gated(w, x):
    """Units whose values may be negated, with what they write, but not their gates."""
    return (jax.nn.silu(x @ w["gate"]) * (x @ w["up"])) @ w["down"]


def test_units_are_matched_by_what_signs_turn_and_by_what_they_leave():
    rng = np.random.default_rng(0)
    shapes = {"gate": (5, 16), "up": (5, 16), "down": (16, 3)}
    a = {name: jax.device_put(np.float32(rng.normal(size=shape))) for name, shape in shapes.items()}
    symmetry = symmetries(gated, a, X)
    signs = np.where(np.arange(16) % 2, -1.0, 1.0)
    planted = some_permutation(1, symmetry.spec) | {"P0 sign": signs}
    b = apply_maps(symmetry, planted, a)
    matched, _ = weight_matching(KEY, symmetry.spec, a, b)
    assert np.abs(apply_permutation(symmetry.spec, matched, b)["gate"] - a["gate"]).max() > 0.1
    found = procrustes_matching(KEY, symmetry, a, b, classes=("sign",))
    jax.tree.map(np.testing.assert_array_equal, found.variables, a)
