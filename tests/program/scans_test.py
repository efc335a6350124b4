"""A scan's equation says what it carries, takes apart and stacks, whichever version of JAX has written it."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.program.interpreter import evaluate, interpret
from llfc_jax.program.scans import scan_of

ROWS = jnp.arange(12.0).reshape(4, 3)
WEIGHTS = jnp.asarray([1.0, -2.0, 0.5])


def running_sum(weights, rows):
    return jax.lax.scan(lambda total, row: (total + row * weights, total.sum()), jnp.zeros(3), rows)


def handed_through(weights, rows):
    """One of the carry never changes, and one of what is stacked is what was taken apart."""

    def body(carry, row):
        fixed, total = carry
        return (fixed, total + fixed * row), (row, total)

    return jax.lax.scan(body, (weights, jnp.zeros(3)), rows)


def noisy(weights, rows):
    """Keys have fewer axes than their numbers."""

    def body(key, row):
        key, own = jax.random.split(key)
        return key, row * weights + jax.random.normal(own, (3,))

    key, noise = jax.lax.scan(body, jax.random.key(0), rows)
    return jax.random.key_data(key), noise


SCANS = {
    "a sum": running_sum,
    "backwards": lambda w, x: jax.lax.scan(lambda c, row: (c + w, c * row), w, x, reverse=True),
    "handed through": handed_through,
    "no carry": lambda w, x: jax.lax.map(lambda row: row @ w, x),
    "nothing taken apart": lambda w, x: jax.lax.scan(lambda c, _: (c * w, c), x[0], length=4),
    "a counted loop": lambda w, x: jax.lax.fori_loop(0, 4, lambda i, c: c + i * w, x[0]),
    "keys": noisy,
    "a gradient": jax.grad(lambda w, x: running_sum(w, x)[0].sum()),
    "a batch of them": jax.vmap(running_sum, (None, 0)),
}


def in_python(eqn, operands):
    """A scan as a loop over what `scan_of` tells of it."""
    scan = scan_of(eqn)
    body = jax.extend.core.jaxpr_as_fun(scan.body)
    constants, carry, taken_apart = scan.operands(operands)
    stacked = []
    for step in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        carry, returned = scan.results(body(*constants, *carry, *(array[step] for array in taken_apart)))
        stacked.append(returned)
    stacked = stacked[::-1] if scan.reverse else stacked
    return [*carry, *(jnp.stack(rows) for rows in zip(*stacked, strict=True))]


@pytest.mark.parametrize("name", SCANS)
def test_a_loop_over_what_is_told_of_a_scan_computes_what_it_does(name):
    inputs = (WEIGHTS, jnp.stack([ROWS, -ROWS]) if name == "a batch of them" else ROWS)
    scans = []

    def visit(eqn, operands):
        if eqn.primitive.name != "scan":
            return evaluate(eqn, operands)
        scans.append(eqn)
        return in_python(eqn, operands)

    found = interpret(jax.make_jaxpr(SCANS[name])(*inputs), inputs, jnp.asarray, visit)
    assert scans
    for own, other in zip(found, jax.tree.leaves(SCANS[name](*inputs)), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-6)


def test_operands_and_results_are_told_apart():
    (eqn,) = (one for one in jax.make_jaxpr(running_sum)(WEIGHTS, ROWS).eqns if one.primitive.name == "scan")
    scan = scan_of(eqn)
    taken, returned = scan.operands(eqn.invars), scan.results(eqn.outvars)
    assert [[x.aval.shape for x in part] for part in taken] == [[(3,)], [(3,)], [(4, 3)]]
    assert [[x.aval.shape for x in part] for part in returned] == [[(3,)], [(4,)]]
    assert (scan.length, scan.reverse) == (4, False)
