"""Programs for batches of any size against the functions that they were traced from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.bridges.any_batch import NotOneProgramError, any_size

W = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def batch(n):
    return np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)


def program_of(fn, sizes=(3, 5, 7)):
    return any_size({n: jax.make_jaxpr(fn)(W, batch(n)) for n in sizes})


def dense(w, x):
    return jax.nn.relu(x @ w)


def across_the_batch(w, x):
    return (x @ w).var(0), (x @ x.T).sum(1)


def folded(w, x):
    return (x @ w).reshape(-1, 2)[1:], jnp.arange(2 * len(x) + 1), jnp.repeat(x, 2, axis=0)


def scanned(w, x):
    return jax.lax.scan(lambda total, row: (total + row.sum(), total * row), 0.0, x @ w)[1]


def loop_over_the_batch_within(w, x):
    return jax.lax.fori_loop(0, 3, lambda i, y: y * jnp.float32(0.5) + y.mean(0), x @ w)


@pytest.mark.parametrize("n", [1, 4, 6, 12])
@pytest.mark.parametrize(
    "fn", [dense, across_the_batch, folded, scanned, loop_over_the_batch_within], ids=lambda fn: fn.__name__
)
def test_a_program_holds_for_sizes_at_which_it_was_not_traced(fn, n):
    with jax.numpy_rank_promotion("allow"):
        found, expected = program_of(fn)(n, [W, batch(n)]), jax.tree.leaves(fn(W, batch(n)))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fn", "line"),
    [
        (lambda w, x: sum(row @ w for row in x), "operations for batches of 3, 5, 7"),
        (lambda w, x: x @ w * 2.0 ** len(x), "no affine function"),
        (lambda w, x: (jnp.sin if len(x) > 4 else jnp.cos)(x @ w), "not all of its sizes have the same"),
        (lambda w, x: x[len(x) ** 2 % 3 :] @ w, "operations for batches of 3, 5, 7"),
        (lambda w, x: x + np.sin(np.arange(3 * len(x))).reshape(-1, 3), "no rule leads to an array"),
    ],
    ids=["unrolled", "power", "other function", "modulus", "constant"],
)
def test_what_follows_the_batch_in_another_way_is_not_one_program(fn, line):
    with pytest.raises(NotOneProgramError, match=line):
        program_of(fn)


def test_a_part_computes_no_more_than_it_needs():
    program = program_of(lambda w, x: (x @ w, jnp.sin(x), jnp.cos(x @ w)))
    part = program.only([1])
    assert [step.eqn.primitive.name for step in part.steps] == ["sin"]
    np.testing.assert_allclose(part(4, [W, batch(4)])[0], np.sin(batch(4)), rtol=1e-6)


def test_products_have_the_precision_of_the_callers_context():
    program = program_of(lambda w, x: x @ w)

    def text(*operands):
        return str(jax.make_jaxpr(lambda *operands: program(4, operands))(*operands))

    assert "HIGHEST" not in text(W, batch(4))
    with jax.default_matmul_precision("highest"):
        assert "HIGHEST" in text(W, batch(4))


def test_an_equal_call_compiles_nothing_again():
    program, traces = program_of(dense), []

    @jax.jit
    def run(x):
        traces.append(x)
        return program(4, [W, x])

    for _ in range(2):
        run(batch(4))
    assert len(traces) == 1
