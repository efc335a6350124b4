"""What users call: names, parameters, documentation, and types that fit networks of any framework."""

import inspect
import re
from pathlib import Path
from typing import get_type_hints

import pytest

import llfc_jax

SIGNATURES = {
    "activation_matching": "key, spec, a, b, *, apply, batches, statistic, num_examples",
    "align": "network, a, b, batches, *, method, seed, loss, options",
    "alpha_grid": "size",
    "apply_permutation": "spec, permutation, variables",
    "check_equivalence": "apply, variables, permuted, *inputs",
    "constraint_ladder": "network, a, b, batches, *, method, seed, options",
    "describe": "spec",
    "evaluate_path": "apply, a, b, batches, num_alphas, *, loss_fn, output, num_examples",
    "evaluate_plane": "apply, a, b, c, batches, size, *, loss_fn",
    "from_torch": "module, example_inputs, *, output",
    "learned_matching": "key, symmetry, variables_a, variables_b, *, loss_fn, batches, "
    "optimizer, epochs, classes, start_b, relaxation, exclude, keeper",
    "lerp": "a, b, alpha",
    "measure": "program, a, b, batches, *, measures, num_alphas, alphas, top_k, corrections, loss_fn, "
    "num_examples, name, curve",
    "measure_features": "apply_with_features, a, b, batches, alphas, *, num_examples",
    "merge_many": "networks, weights, *, correction, program, batches",
    "permutation_spec": "apply, variables, *inputs",
    "procrustes_matching": "key, symmetry, variables_a, variables_b, *, classes, max_rounds, exclude",
    "read": "apply, variables, inputs, features, output",
    "report": "results, directory",
    "simultaneous_matching": "key, spec, networks_a, networks_b, *, restarts, max_sweeps, "
    "assignment, exclude",
    "straight_through": "key, spec, variables_a, variables_b, *, loss_fn, batches, "
    "optimizer, epochs, start, sweeps, assignment, exclude",
    "symmetries": "apply, variables, inputs",
    "train_curve": "network, a, b, batches, *, kind, steps, learning_rate, loss, seed",
    "train_pair": "config, fields, network",
    "train_star": "network, networks, batches, *, steps, learning_rate, loss, seed",
    "universe_matching": "key, spec, networks, *, restarts, max_sweeps, assignment, exclude",
    "weight_matching": "key, spec, params_a, params_b, *, restarts, max_sweeps, assignment, exclude",
}
"""A parameter that is renamed or moved breaks programs that exist: that is a decision, not an accident."""


def written(function):
    """The parameters' names as in a definition."""
    bare = [
        parameter.replace(annotation=parameter.empty, default=parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(bare)).strip("()")


def test_every_public_name_keeps_its_parameters():
    assert {name: written(getattr(llfc_jax, name)) for name in llfc_jax.__all__} == SIGNATURES


@pytest.mark.parametrize("name", llfc_jax.__all__)
def test_every_parameter_is_typed_and_documented(name):
    function = getattr(llfc_jax, name)
    parameters = inspect.signature(function).parameters
    assert get_type_hints(function).keys() == parameters.keys() | {"return"}
    assert parameters.keys() <= set(re.findall(r"\w+", inspect.getdoc(function)))


@pytest.mark.parametrize("name", ["activation_matching", "straight_through", "weight_matching"])
def test_all_matchers_take_key_spec_and_pair_first_and_the_rest_by_name(name):
    positional, _, named = SIGNATURES[name].partition(", *, ")
    assert re.fullmatch(r"key, spec, (\w+_)?a, (\w+_)?b", positional)
    assert named


PROGRAM = """
# mypy: disallow-any-generics, disallow-incomplete-defs, disallow-subclassing-any, disallow-untyped-calls
# mypy: disallow-untyped-decorators, extra-checks, strict-equality, warn-return-any, warn-unused-ignores
from typing import NamedTuple

import jax
import jax.numpy as jnp

import llfc_jax


class Weights(NamedTuple):
    first: jax.Array
    last: jax.Array


def apply(weights: Weights, inputs: jax.Array) -> jax.Array:
    return jax.nn.relu(inputs @ weights.first) @ weights.last


def with_features(weights: Weights, inputs: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    hidden = jax.nn.relu(inputs @ weights.first)
    return hidden @ weights.last, {"hidden": hidden}


a, b = (Weights(scale * jnp.eye(4), jnp.eye(4)) for scale in (1, 2))
inputs, labels = jnp.eye(4), jnp.arange(4)
spec = llfc_jax.permutation_spec(apply, a, inputs)
permutation, _ = llfc_jax.weight_matching(jax.random.key(0), spec, a, b)
aligned: Weights = llfc_jax.apply_permutation(spec, permutation, b)
middle: Weights = llfc_jax.lerp(a, aligned, 0.5)
llfc_jax.check_equivalence(apply, b, aligned, inputs)
llfc_jax.evaluate_path(apply, a, aligned, [(inputs, labels)], num_alphas=3)
llfc_jax.measure_features(with_features, a, aligned, [(inputs, labels)], alphas=(0.5,))
"""


def test_variables_of_any_type_run(capsys):
    exec(compile(PROGRAM, "program.py", "exec"), {"__name__": "program"})
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_typed_program_with_variables_of_any_type_passes_mypy(tmp_path, monkeypatch):
    api = pytest.importorskip("mypy.api")
    monkeypatch.chdir(Path(__file__).parents[1])  # where its cache and its configuration are
    # What --strict asks of a program, by its own first lines: as a flag, it would check all of JAX anew.
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mistaken.py").write_text(PROGRAM.replace("num_alphas=3", 'num_alphas="three"'))
    out, _, status = api.run([str(tmp_path / f"{name}.py") for name in ("program", "mistaken")])
    assert status == 1
    found, summary = out.splitlines()
    assert re.search(r"\bmistaken\.py:\d+: error: .*\[arg-type\]$", found)
    assert summary == "Found 1 error in 1 file (checked 2 source files)"
