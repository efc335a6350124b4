"""Interpreting a program over arrays is running it; over anything else, whatever the two functions say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.program.interpreter import evaluate, interpret
from llfc_jax.symmetry import permutation_spec

X = np.linspace(-1, 2, 6, dtype=np.float32).reshape(2, 3)
TABLE = np.arange(9, dtype=np.float32).reshape(3, 3)


@jax.custom_jvp
def cubed(x):
    return x**3


cubed.defjvp(lambda primals, tangents: (cubed(*primals), tangents[0]))


@jax.custom_vjp
def halved(x):
    return x / 2


halved.defvjp(lambda x: (halved(x), None), lambda _, cotangent: (cotangent,))

CALLS = {
    "jit": jax.jit(jnp.sin),
    "jit in jit": jax.jit(lambda x: jax.jit(jnp.sin)(x) + jax.jit(jnp.sin)(2 * x)),
    "checkpoint": jax.checkpoint(jnp.sin),
    "custom_jvp": cubed,
    "custom_vjp": halved,
    "named call": jax.named_call(jnp.sin, name="sine"),
}
KNOTS = jnp.linspace(-1.0, 2.0, 4)


def root(x):
    """The y for which y + tanh(y) / 2 is x."""

    def solve(f, start):
        return jax.lax.fori_loop(0, 30, lambda _, y: y - f(y), start)

    return jax.lax.custom_root(
        lambda y: y + jnp.tanh(y) / 2 - x, x, solve, lambda g, y: y / g(jnp.ones_like(y))
    )


MADE_OF_OTHERS = {
    "interpolation": lambda x: jnp.interp(x, KNOTS, jnp.tanh(KNOTS)),
    "bins": lambda x: jnp.digitize(x, KNOTS),
    "a root": root,
}
"""Each one operation or several, by JAX's version."""

PROGRAMS = (
    CALLS
    | MADE_OF_OTHERS
    | {
        "constants and literals": lambda x: x @ TABLE + 2.0,
        "constants in a call": jax.jit(lambda x: x @ TABLE),
        "several results, one twice": lambda x: (*jax.lax.top_k(x, 2), x, x),
        "control flow": lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y * i + x, x),
        "a branch": lambda x: jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x),
        "scan": lambda x: jax.lax.scan(lambda carry, row: (carry + row, carry), x[0], x),
        "a result that is no computation": lambda x: (TABLE, 3.0),
    }
)


def trace(function):
    return jax.make_jaxpr(function)(X)


def seen_in(function):
    """The primitives that are visited."""
    seen = set()

    def visit(eqn, operands):
        seen.add(eqn.primitive.name)
        return evaluate(eqn, operands)

    interpret(trace(function), [X], jnp.asarray, visit)
    return seen


@pytest.mark.parametrize("name", PROGRAMS)
def test_over_arrays_it_is_the_program(name):
    found = interpret(trace(PROGRAMS[name]), [X], jnp.asarray, evaluate)
    expected = jax.tree.leaves(PROGRAMS[name](X))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert one.dtype == jnp.asarray(other).dtype


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_entered_and_never_seen(name):
    seen = seen_in(CALLS[name])
    assert seen <= {"sin", "add", "mul", "integer_pow", "div"}
    assert seen


@pytest.mark.parametrize("name", MADE_OF_OTHERS)
def test_what_is_made_of_other_operations_is_expanded(name):
    seen = seen_in(MADE_OF_OTHERS[name])
    assert seen & {"scan", "gather", "le", "lt", "ge", "gt"}
    assert not {name for name in seen if name.startswith("call")}


@pytest.mark.parametrize("name", MADE_OF_OTHERS)
def test_units_pass_through_what_is_made_of_other_operations(name):
    def apply(weights, x):
        return MADE_OF_OTHERS[name](x @ weights["in"]).astype(jnp.float32) @ weights["out"]

    weights = {"in": jnp.ones((5, 8)), "out": jnp.ones((8, 3))}
    assert permutation_spec(apply, weights, jnp.ones((2, 5))).sizes == {"P0": 8}


def test_control_flow_is_seen_whole():
    seen = []

    def visit(eqn, operands):
        seen.append(eqn.primitive.name)
        return evaluate(eqn, operands)

    interpret(trace(PROGRAMS["scan"]), [X], jnp.asarray, visit)
    assert seen[-1] == "scan"


def test_values_may_be_anything_that_the_visitor_understands():
    """Here the names of the inputs that a value depends on."""
    program = jax.make_jaxpr(lambda x, y, z: (x + jax.jit(jnp.multiply)(y, 2.0), z, TABLE))(X, X, X)

    def visit(eqn, operands):
        return [set().union(*operands)] * len(eqn.outvars)

    operands = [{"x"}, {"y"}, {"z"}]
    assert interpret(program, operands, lambda _: set(), visit) == [{"x", "y"}, {"z"}, set()]


def test_an_equation_is_evaluated_in_the_precision_that_it_was_traced_in():
    def function(x):
        with jax.default_matmul_precision("bfloat16"):
            return x @ TABLE

    (eqn,) = trace(function).jaxpr.eqns
    assert jax.make_jaxpr(lambda *operands: evaluate(eqn, operands))(X, TABLE).eqns[0].params == eqn.params
