"""What every matcher is given and returns."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from llfc_jax.errors import UserError
from llfc_jax.matching.info import MatchInfo
from llfc_jax.matching.keeping import Keeper
from llfc_jax.matching.moved import Moved
from llfc_jax.symmetry import PermutationSpec, symmetries
from llfc_jax.symmetry.classes import Symmetry
from llfc_jax.types import Array, Batch, Permutation, PRNGKey, PyTree, Variables


class Problem(NamedTuple):
    """What a matcher may look at."""

    spec: PermutationSpec
    a: Variables
    b: Variables
    apply: Callable[[Variables, Any], PyTree]
    """Variables, inputs -> outputs, in evaluation mode."""
    loss: Callable[[Variables, Batch], Array]
    """Mean loss of a batch."""
    batches: Callable[[], Iterable[Batch]]
    """Starts a stream of training data with labels, in batches of one size."""
    inputs: Callable[[], Iterable[PyTree]]
    """Starts a stream of the inputs alone."""
    keeper: Keeper | None = None
    """Of what a long descent ends its epochs at."""

    def symmetry(self) -> Symmetry:
        """All linear maps of units that leave the outputs unchanged, beside the permutations of `spec`."""
        return symmetries(self.apply, self.a, next(iter(self.inputs())))


def at_least_one(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches as they come.

    Raises:
        UserError: there are none.
    """
    stream = iter(batches)
    first = next(stream, None)
    if first is None:
        raise UserError("batches: expected at least one, found none")
    return itertools.chain([first], stream)


Found: TypeAlias = tuple[Permutation, MatchInfo]
"""The permutation of B, and how it was found."""
Matcher: TypeAlias = Callable[[PRNGKey, Problem, Mapping[str, Any]], Found | Moved]
"""Key, problem, options -> what it found, or B moved. Of the options it takes those that it knows."""
