"""What a long descent keeps, so that it goes on where it was when it was killed."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from llfc_jax.types import PyTree


class Kept(NamedTuple):
    """Where a descent stands.

    Attributes:
        arrays: bit for bit.
        told: the rest, of JSON's types.
    """

    arrays: PyTree
    told: Mapping[str, Any]


@runtime_checkable
class Keeper(Protocol):
    """Where it is kept, one place for one descent."""

    def restore(self, like: PyTree) -> Kept | None:
        """What was kept last, its arrays like these; None where nothing was."""

    def keep(self, epoch: int, kept: Kept) -> None:
        """Keep what an epoch ended at."""
