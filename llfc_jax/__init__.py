"""Linear mode connectivity and layerwise linear feature connectivity of neural networks, in JAX.

From two seeds to a page, in four lines:

    pair = train_pair("digits_mlp")
    b = align(pair.program, pair.a, pair.b, pair.batches["train"]).variables
    results = measure(pair.program, pair.a, b, pair.batches)
    report(results, "runs/page")

For any pure `apply(variables, inputs)` and any pytree of variables:

* what a network computes, node by node: `read`, `describe`;
* everything along the line between two networks, in one pass, and as a page: `measure`, `report`;
* the line between two networks: `lerp`, `alpha_grid`;
* what happens on it: `evaluate_path` (LMC), `measure_features` (LLFC);
* beyond it: a bent curve, `train_curve`, the centre of a star of networks, `train_star`, and the plane
  through three, `evaluate_plane`;
* permutation symmetries, read off the program: `permutation_spec`, `describe`, `apply_permutation`,
  `check_equivalence`;
* a PyTorch module as such a network: `from_torch`;
* moving B into A's basin: `align`; by itself, `weight_matching`, `activation_matching`, `straight_through`,
  and along all `symmetries`, rotations and scalings too, `procrustes_matching`, `learned_matching`; where
  it fails, `constraint_ladder`;
* several networks at once: `universe_matching`, one permutation each; `simultaneous_matching`, one for all
  checkpoints of two runs; `merge_many`;
* a pair to try it on, trained by a configuration of the command: `train_pair`.

The names are imported when they are first used: `import llfc_jax` alone doesn't import JAX.

By design, a measure is a fold over batches at one alpha: the pass maps it over alphas and streams the
batches, so that memory does not grow with the number of samples, and all measures share their forward passes.
Symmetries are read off the program, never written by hand, and every permutation is checked on the logits.
1 - cos is computed as sin^2 / (1 + cos) from residuals: float32 keeps its digits down to 1e-6 and below. A
dead layer is a count, not a NaN; an anti-aligned feature has distance 2, not 0. Everything random is folded
from one integer seed; the same command gives the same numbers.

A map of the house. The library, which knows no architecture:

    api              the names above; a new wrapper goes here and into `__init__`
    program/         what a network computes: interpreter of jaxprs, named nodes
    path/            interpolation, the pass over data along the line, what is hoisted out of it
    symmetry/        permutations that change nothing; a primitive: `rules`
    matching/        permutations, and more, that move B to A; a `Matcher`, listed in `alignment`
    measures/        one file for each; a `Measure`, listed in `measures/__init__`
    corrections/     BatchNorm recomputation, REPAIR
    results/         what `results.json` holds: `schema`
    reporting/       judgement, figures, page; a figure: the registry in `figures`
    bridges/         modules of PyTorch, for any batch size; an operator: `translation`

The command, config -> data -> training -> (A, B) -> alignment -> measures over the path -> report:

    run/, main       a run from configuration to report; flags are checked in `run/validation`; a paper's
                     figure: `run/published`
    configs/         a field: `default`
    data/            a TFDS name works as it is; what is streamed: `streamed`
    models/          one file for each family; a function returning a `Network`, listed in `models/__init__`;
                     `own`, networks in files of the user's; what both are to a run: `model`
    training/        optimizers, lineages, step, resumable loop; a schedule: `optimizers`
    interchange/     files of other programs; names: `name_tables`, a layer: `torch_layouts`

Under both, `runtime/` (processes, devices, output) and `storage/` (files, checkpoints); beside them,
`benchmark/`.
"""

TYPE_CHECKING = False  # of `typing`, which takes longer to import than Ctrl-C may wait
if TYPE_CHECKING:
    from typing import Any

    from llfc_jax.api import (
        activation_matching,
        align,
        alpha_grid,
        apply_permutation,
        check_equivalence,
        constraint_ladder,
        describe,
        evaluate_path,
        evaluate_plane,
        learned_matching,
        lerp,
        measure,
        measure_features,
        merge_many,
        permutation_spec,
        procrustes_matching,
        read,
        report,
        simultaneous_matching,
        straight_through,
        symmetries,
        train_curve,
        train_star,
        universe_matching,
        weight_matching,
    )
    from llfc_jax.bridges.torch import from_torch
    from llfc_jax.run.training import train_pair

__version__ = "0.1.0"

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
    "from_torch",
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
    "train_pair",
    "train_star",
    "universe_matching",
    "weight_matching",
]


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "from_torch":
        from llfc_jax.bridges import torch as bridge

        return bridge.from_torch
    if name == "train_pair":
        from llfc_jax.run import training

        return training.train_pair
    from llfc_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
