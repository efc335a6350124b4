"""A descent on disk: it comes back bit for bit, with its configuration, and is forgotten in the end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llfc_jax.errors import UserError
from llfc_jax.matching.keeping import Kept
from llfc_jax.run.keeping import UNFINISHED, discard, keeper_of
from llfc_jax.storage import checkpoint

FREE = {"P0/P1 invertible": jnp.arange(8.0).reshape(2, 2, 2) / 3, "P0": jnp.eye(2)}
FREE |= {f"P{i}": jnp.eye(2) * i for i in range(1, 5)}  # so many arrays that names of numbers sort otherwise
BEST = jax.tree.map(jnp.negative, FREE)
ARRAYS = ({"params": {"w": jnp.full((2, 3), 1 / 3)}}, FREE, optax.adam(0.1).init(FREE), BEST)
TOLD = {"losses": [1 / 3, 0.25], "rungs": [["as it was", 0.1, 0.5], ["learned", 0.2, None]]}


@pytest.fixture
def place(tmp_path):
    keeper = keeper_of(tmp_path / "b_aligned", {"seed": 0})
    keeper.keep(1, Kept(ARRAYS, TOLD | {"losses": [1 / 3]}))
    keeper.keep(2, Kept(ARRAYS, TOLD))
    return tmp_path / "b_aligned"


def test_what_was_kept_last_comes_back_bit_for_bit(place):
    found = keeper_of(place, {"seed": 0}).restore(jax.eval_shape(lambda: ARRAYS))
    assert jax.tree.structure(found.arrays) == jax.tree.structure(ARRAYS)
    jax.tree.map(np.testing.assert_array_equal, found.arrays, ARRAYS)
    assert found.told == TOLD


def test_whoever_waits_is_told_of_every_epoch_and_of_those_that_were_kept(place):
    told = []
    keeper = keeper_of(place, {"seed": 0}, lambda epochs, note: told.append((epochs, note)))
    keeper.restore(ARRAYS)
    keeper.keep(3, Kept(ARRAYS, TOLD))
    assert told == [(2, ""), (1, "loss 0.25")]


def test_it_says_whose_it_is(place):
    unfinished = place.with_name(place.name + UNFINISHED)
    assert checkpoint.read_metadata(unfinished, 2)["config"] == {"seed": 0}


def test_nothing_was_kept_and_nothing_is_left(place):
    assert keeper_of(place.with_name("c_aligned"), {}).restore(ARRAYS) is None
    discard(place)
    assert [*place.parent.iterdir()] == []
    discard(place)


def test_a_descent_over_other_maps_is_refused(place):
    other = (*ARRAYS[:1], *[{"P0": jnp.eye(3)}] * 3)
    with pytest.raises(UserError, match="expected the state of this optimizer"):
        keeper_of(place, {"seed": 0}).restore(other)
