"""What matchers beyond permutations return: B moved along its symmetries, and what each step was worth."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llfc_jax.errors import UserError
from llfc_jax.matching.info import MatchInfo
from llfc_jax.path.interpolation import weights_apart
from llfc_jax.symmetry import Symmetry
from llfc_jax.types import Variables

AS_IT_WAS, PERMUTED, LEARNED = "as it was", "permutations", "learned"
"""Steps of a ladder; what else B is moved by is called by its class."""


class Rung(NamedTuple):
    """What is left between A and B after a step.

    Attributes:
        step: what B may be moved by.
        relative: `||A - g(B)||`, in units of `sqrt(||A|| ||g(B)||)`.
        loss: of the midpoint; None where the matcher looks at none.
    """

    step: str
    relative: float
    loss: float | None = None


class Moved(NamedTuple):
    """B, moved along its symmetries towards A, and how that went.

    Attributes:
        variables: of the moved B, which computes what B does.
        info: how the search went.
        symmetry: of the network.
        classes: the kinds of maps that B could be moved by, beside permutations.
        ladder: what each step left between A and B.
    """

    variables: Variables
    info: MatchInfo
    symmetry: Symmetry
    classes: tuple[str, ...]
    ladder: tuple[Rung, ...]


def ladder(
    a: Variables, steps: Mapping[str, Variables], losses: Mapping[str, float] | None = None
) -> tuple[Rung, ...]:
    """What is left between A and what B was after each step.

    Args:
        a: variables of A.
        steps: what B may be moved by -> B then.
        losses: the same -> the loss of the midpoint.
    """
    return tuple(
        Rung(step, weights_apart(a, b)["relative"], (losses or {}).get(step)) for step, b in steps.items()
    )


def chosen_classes(symmetry: Symmetry, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The kinds of maps to move B by: all that the network has, or those that are asked for.

    Args:
        symmetry: of the network.
        classes: what is asked for.

    Raises:
        UserError: the network lacks one that is asked for.
    """
    kinds = dict.fromkeys(action.kind for action in symmetry.actions.values())
    if missing := [kind for kind in classes or () if kind not in kinds]:
        found = ", ".join(sorted(kinds)) or "permutations alone"
        raise UserError(
            f"classes: expected some of those that the network has ({found}); found {missing[0]!r}"
        )
    return tuple(kinds if classes is None else dict.fromkeys(classes))
