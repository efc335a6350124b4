"""Integers don't lie on a line: fine where nothing depends on them, refused where something does."""

import jax
import jax.numpy as jnp
import pytest

import llfc_jax
from llfc_jax.errors import UserError
from llfc_jax.path.integers import check_integers_unread

X = jnp.ones((2, 3))


def network(integer, key=0):
    weights = {"w": jnp.ones((3, 2)), "table": jnp.full((3, 2), integer)}
    return weights | {"step": jnp.int32(integer), "rng": jax.random.key(key), "used": jnp.bool_(integer > 1)}


def in_a_loop(v, x):
    return jax.lax.fori_loop(0, v["step"], lambda _, y: y + x, x)


READS = {
    "table": lambda v, x: x @ v["w"] + x @ v["table"],
    "step": in_a_loop,
    "rng": lambda v, x: x + jax.random.normal(v["rng"], x.shape),
    "used": lambda v, x: jnp.where(v["used"], x, 0) @ v["w"],
}


@pytest.mark.parametrize("name", READS)
def test_what_outputs_depend_on_has_to_be_the_same_in_both(name):
    check_integers_unread(READS[name], network(1), network(1), X)
    check_integers_unread(lambda v, x: x @ v["w"], network(1), network(2, key=1), X)
    with pytest.raises(
        UserError, match=f"^{name}: expected floating-point numbers, .* found .* in which"
    ) as it:
        check_integers_unread(READS[name], network(1), network(2, key=1), X)
    assert "\n" not in str(it.value)


def test_a_path_between_integer_weights_is_refused():
    a, b = ({"w": jnp.full((3, 2), value)} for value in (1, 5))
    batches = [(X, jnp.array([0, 1]))]

    def apply(v, x):
        return x @ v["w"]

    with pytest.raises(
        UserError, match=r"^w: expected floating-point numbers, .* found int32, in which A and B"
    ):
        llfc_jax.evaluate_path(apply, a, b, batches)
    assert llfc_jax.evaluate_path(apply, a, a, batches)["loss_barrier"] == 0


def test_counters_that_differ_leave_the_path_alone():
    a, b = network(1), network(2, key=1)
    found, expected = (
        llfc_jax.evaluate_path(lambda v, x: x @ v["w"], *ends, [(X, jnp.array([0, 1]))], num_alphas=3)
        for ends in ((a, b), ({"w": a["w"]}, {"w": b["w"]}))
    )
    assert found == expected
