"""A permutation by the assignment of a free matrix, against the product by a matrix that it stands for."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.matching.assigning import permuted_by_assigning
from llfc_jax.matching.assignment import linear_assignment
from llfc_jax.symmetry.classes import Action
from llfc_jax.symmetry.maps import act
from llfc_jax.symmetry.spec import LeafSpec, PermutationSpec, Piece

UNITS = PermutationSpec(
    sizes={"P0": 3, "P0/P1": 4, "P2": 5},
    leaves={
        "['heads']": LeafSpec((6, 3, 4), (None, "P0", "P0/P1"), (6, 12)),
        "['twice']": LeafSpec((5, 5), ("P2", "P2")),
        "['joined']": LeafSpec(
            (7, 2),
            (None, None),
            cut=(
                Piece((range(2), range(2)), (((2, None),), ((2, None),))),
                Piece((range(2, 7), range(2)), (((5, "P2"),), ((2, None),))),
            ),
        ),
        "['mask']": LeafSpec((5,), ("P2",)),
        "['other']": LeafSpec((2,), (None,)),
    },
)
RNG = np.random.default_rng(0)
NETWORK = {
    path[2:-2]: jnp.asarray(RNG.normal(size=leaf.shape), jnp.float32) for path, leaf in UNITS.leaves.items()
} | {"mask": jnp.asarray([True, False, False, True, False])}
SEEN = {name: jnp.asarray(RNG.normal(size=leaf.shape), jnp.float32) for name, leaf in NETWORK.items()}


def multiplied(name, free, network):
    """By the assignment as a matrix, whose gradient free gets."""
    places = {path: leaf.places_moved_by(name) for path, leaf in UNITS.leaves.items()}
    powers = {path: dict.fromkeys(found, Fraction(1)) for path, found in places.items() if found}
    assigned = jax.nn.one_hot(linear_assignment(jax.lax.stop_gradient(free)), free.shape[-1])
    matrix = free + jax.lax.stop_gradient(assigned - free)
    return act(UNITS, Action(name, "permutation", UNITS.sizes[name], powers), matrix, network)


@pytest.fixture(params=[("P0", (3, 3)), ("P0/P1", (3, 4, 4)), ("P2", (5, 5))], ids=lambda case: case[0])
def case(request):
    name, shape = request.param
    return name, jnp.asarray(RNG.normal(size=shape), jnp.float32)


def seen(move, name, free, floats):
    moved = move(name, free, NETWORK | floats)
    return sum(jnp.vdot(SEEN[key], moved[key] ** 2) for key in floats)


def test_it_is_the_product_by_the_assignment_and_has_its_gradients(case):
    name, free = case
    floats = {key: leaf for key, leaf in NETWORK.items() if leaf.dtype != bool}
    by_copying, by_product = (
        jax.jit(jax.value_and_grad(lambda *x, move=move: seen(move, name, *x), argnums=(0, 1)))(free, floats)
        for move in (lambda *x: permuted_by_assigning(UNITS, *x), multiplied)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), by_copying, by_product)
    assert np.abs(by_copying[1][0]).max() > 0.1


def test_what_no_gradient_passes_moves_too(case):
    name, free = case
    moved = permuted_by_assigning(UNITS, name, free, NETWORK)
    assert moved["mask"].dtype == bool
    expected = NETWORK["mask"][linear_assignment(free)] if name == "P2" else NETWORK["mask"]
    np.testing.assert_array_equal(moved["mask"], expected)
