"""Linear mode connectivity and layerwise linear feature connectivity of neural networks, in JAX.

For any pure `apply(variables, inputs)` and any pytree of variables:

* what a network computes, node by node: `read`, `describe`;
* everything along the line between two networks, in one pass, and as a page: `measure`, `report`;
* the line between two networks: `lerp`, `alpha_grid`;
* what happens on it: `evaluate_path` (LMC), `measure_features` (LLFC);
* permutation symmetries, read off the program: `permutation_spec`, `describe`, `apply_permutation`,
  `check_equivalence`;
* a PyTorch module as such a network: `from_torch`;
* moving B into A's basin: `weight_matching`, `activation_matching`, `straight_through`.

The names are imported when they are first used: `import llfc_jax` alone doesn't import JAX.
"""

TYPE_CHECKING = False  # of `typing`, which takes longer to import than Ctrl-C may wait
if TYPE_CHECKING:
    from typing import Any

    from llfc_jax.api import (
        activation_matching,
        alpha_grid,
        apply_permutation,
        check_equivalence,
        describe,
        evaluate_path,
        lerp,
        measure,
        measure_features,
        permutation_spec,
        read,
        report,
        straight_through,
        weight_matching,
    )
    from llfc_jax.bridges.torch import from_torch

__version__ = "0.1.0"

__all__ = [
    "activation_matching",
    "alpha_grid",
    "apply_permutation",
    "check_equivalence",
    "describe",
    "evaluate_path",
    "from_torch",
    "lerp",
    "measure",
    "measure_features",
    "permutation_spec",
    "read",
    "report",
    "straight_through",
    "weight_matching",
]


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "from_torch":
        from llfc_jax.bridges import torch as bridge

        return bridge.from_torch
    from llfc_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
