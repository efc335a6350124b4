"""The library: what the command measures, for any pure function of any pytree.

A network is two things here: its variables, a pytree of arrays, and `apply(variables, inputs)`, which returns
its logits. Whatever a framework keeps elsewhere (the graph of NNX, the static part of Equinox) goes into the
closure of `apply`.

Example:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.Linear(8, 16, rngs=rngs), nnx.relu, nnx.Linear(16, 3, rngs=rngs))
    >>> graph, state = nnx.split(model)
    >>> spec = permutation_spec(lambda state, x: nnx.merge(graph, state)(x), state, jnp.ones((2, 8)))
    >>> print(describe(spec).splitlines()[1])
    P0 (16): layers[0]/bias.value[0], layers[0]/kernel.value[1], layers[2]/kernel.value[0]

With Equinox, `params, static = eqx.partition(model, eqx.is_array)` gives the variables, and `apply` is
`lambda params, x: jax.vmap(eqx.combine(params, static))(x)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llfc_jax import matching, symmetry
from llfc_jax import results as results_module
from llfc_jax.api.aligning import activation_matching, align, constraint_ladder, merge_many
from llfc_jax.api.beyond import evaluate_plane, train_curve, train_star
from llfc_jax.api.line import evaluate_path, measure, measure_features
from llfc_jax.arguments import checked
from llfc_jax.path import interpolation
from llfc_jax.program import reading
from llfc_jax.program.nodes import Program
from llfc_jax.storage import files
from llfc_jax.symmetry import PermutationSpec

__all__ = [
    "activation_matching",
    "align",
    "alpha_grid",
    "apply_permutation",
    "check_equivalence",
    "constraint_ladder",
    "describe",
    "evaluate_path",
    "evaluate_plane",
    "learned_matching",
    "lerp",
    "measure",
    "measure_features",
    "merge_many",
    "permutation_spec",
    "procrustes_matching",
    "read",
    "report",
    "simultaneous_matching",
    "straight_through",
    "symmetries",
    "train_curve",
    "train_star",
    "universe_matching",
    "weight_matching",
]

alpha_grid = checked(interpolation.alpha_grid)
lerp = checked(interpolation.lerp)
permutation_spec = checked(symmetry.permutation_spec)
apply_permutation = checked(symmetry.apply_permutation)
check_equivalence = checked(symmetry.check_equivalence)
weight_matching = checked(matching.weight_matching)
straight_through = checked(matching.straight_through)
symmetries = checked(symmetry.symmetries)
procrustes_matching = checked(matching.procrustes_matching)
learned_matching = checked(matching.learned_matching)
universe_matching = checked(matching.universe_matching)
simultaneous_matching = checked(matching.simultaneous_matching)
read = checked(reading.read)


def describe(spec: PermutationSpec | Program) -> str:
    """A network's symmetries, or its program, as text.

    Args:
        spec: from `permutation_spec`, or from `read`.

    Raises:
        UserError: it is neither.

    Example:
        >>> import jax.numpy as jnp
        >>> print(describe(read(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 2)), jnp.ones((4, 3)))))
        2 nodes; * stands for samples
        weights  dense  (*, 2)  input    weights
        tanh1    tanh   (*, 2)  weights
    """
    return str(spec) if isinstance(spec, Program) else checked(symmetry.describe)(spec)


def report(results: Mapping[str, Any], directory: str | Path) -> Path:
    """Figures, tables and one self-contained page of what `measure` found.

    Args:
        results: from `measure`, of test and training batches both if loss and error were measured.
        directory: gets `results.json`, `figures/`, `layers.csv`, `curves.csv` and `report.html`.

    Returns:
        The page.

    Raises:
        UserError: the results lack something, or the directory can't be written.
    """
    from llfc_jax.reporting import writing  # what it draws with takes long to import

    where = Path(directory).expanduser()
    results_module.check(files.plain(results))
    with files.writing(where):
        where.mkdir(parents=True, exist_ok=True)
        files.write_json(where / writing.RESULTS, results)
    return writing.write_report(where)
