"""What a measure is to the outside: folds over data, and one entry of the results."""

import importlib
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from llfc_jax.errors import UserError
from llfc_jax.measures import MEASURES
from llfc_jax.path.curves import Curve
from llfc_jax.path.traversal import Correct, Planned, compile_path, measure_path
from llfc_jax.program.nodes import Program
from llfc_jax.program.reading import reread
from llfc_jax.types import Array, Batch, PyTree, Variables

Value = TypeVar("Value")

ANYWHERE = (0.0,)
"""For folds that compare A with B and don't look at theta_alpha."""

TEST, TRAIN = "test", "train"


class Options(NamedTuple):
    """What the measures of the registry can be told."""

    num_alphas: int = 25
    """Equally spaced points of loss and error curves; 0, 1/2 and 1 are always among them."""
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Where on the path features are looked at."""
    top_k: int = 10
    """Dimension of the subspaces between which to take principal angles."""
    loss_fn: Callable[[PyTree, PyTree], Array] | None = None
    """Outputs, labels -> (n, ...) losses; cross-entropy without one."""

    @property
    def alphas_and_ends(self) -> tuple[float, ...]:
        """Of what the two networks are asked for, too."""
        return tuple(sorted({0.0, *self.alphas, 1.0}))


DEFAULTS = Options()


def build(names: Iterable[str] = MEASURES, options: Options = DEFAULTS) -> tuple["Measure", ...]:
    """Measures of the registry, in its order.

    Raises:
        UserError: there is none of a name.
    """
    chosen = tuple(names)
    if unknown := [name for name in chosen if name not in MEASURES]:
        raise UserError(f"measures: expected names among {', '.join(MEASURES)}; found {unknown[0]!r}")
    modules = (importlib.import_module(MEASURES[name]) for name in MEASURES if name in chosen)
    return tuple(module.measure(options) for module in modules)


@dataclass(frozen=True)
class Found:
    """What there is when a measure writes its entry."""

    program: Program
    curve: Curve
    folds: Mapping[str, Mapping[str, Any]]
    """Split -> name of a fold of this measure -> its result."""
    entries: Mapping[str, Any]
    """Of the measures before it."""
    shared: dict[Hashable, Any]

    @property
    def a(self) -> Variables:
        """The network at alpha = 0."""
        return self.curve.a

    @property
    def b(self) -> Variables:
        """The network at alpha = 1."""
        return self.curve.b

    def once(self, name: Hashable, compute: Callable[[], Value]) -> Value:
        """What several measures of one path need, computed for the first that asks."""
        if name not in self.shared:
            self.shared[name] = compute()
        return self.shared[name]


@dataclass(frozen=True)
class Measure:
    """One measure: what it sees of the data, and what it says.

    Example: a measure of one's own, the largest logit along the path.
        >>> import jax.numpy as jnp
        >>> from llfc_jax.measures.fold import Fold
        >>> largest = Fold(
        ...     init=lambda point: jnp.float32(-jnp.inf),
        ...     update=lambda state, point: jnp.maximum(state, point.theta.logits.max()),
        ...     finalize=lambda state, alphas: state.tolist(),
        ... )
        >>> measure = Measure(
        ...     name="largest",
        ...     folds=lambda program: {"logit": Planned(largest, (0.0, 0.5, 1.0))},
        ...     entry=lambda found: {"alphas": (0.0, 0.5, 1.0), "logit": found.folds["test"]["logit"]},
        ... )
    """

    name: str
    """Of its entry in the results."""
    folds: Callable[[Program], Mapping[str, Planned]]
    """What to fold over the batches, and at which alphas; nothing for a measure of weights alone."""
    entry: Callable[[Found], Mapping[str, Any] | None]
    """Its entry in the results; None where there is nothing to look at."""
    splits: tuple[str, ...] = (TEST,)
    """The data that it sees."""
    along_corrected: bool = False
    """Whether it is taken along corrected paths, too."""
    labelled: bool = False
    """Whether it looks at labels."""
    quantities: Mapping[str, str] = field(default_factory=dict)
    """Quantity of each layer -> what figures call it, for those that the report doesn't know by itself."""


def plan_for(program: Program, measures: Iterable[Measure], split: str) -> dict[str, Planned]:
    """The folds of all measures that see a split, each under `MEASURE.FOLD`."""
    return {
        f"{measure.name}.{name}": planned
        for measure in measures
        if split in measure.splits
        for name, planned in measure.folds(program).items()
    }


Stream = Callable[[str], Iterable[Batch]]
"""Split -> a new stream over its batches."""


def measure_along(
    program: Program,
    path: Curve,
    stream: Stream,
    measures: Sequence[Measure],
    splits: Collection[str] = (TEST,),
    *,
    correct: Correct | None = None,
    chunk: int | None = None,
) -> dict[str, Any]:
    """Take all measures along one path, in one pass over each split.

    Args:
        program: the network; read again for batches of another shape.
        path: from A to B, with corrections if `correct` is given.
        stream: split -> batches of one shape.
        measures: in the order in which they are taken.
        splits: those that there are.
        correct: see `measure_path`.
        chunk: see `measure_path`.

    Returns:
        Name of a measure -> its entry; those that find nothing to look at are left out.
    """
    taken = [measure for measure in measures if correct is None or measure.along_corrected]
    found: dict[str, dict[str, Any]] = {}
    for split in splits:
        if any(split in measure.splits for measure in taken):
            batches = iter(stream(split))
            if (first := next(batches, None)) is None:
                raise UserError(f"batches: expected one at least for {split}; found none")
            program = reread(program, path.a, first.images, first.mask.shape)
            plan = plan_for(program, taken, split)
            whole = itertools.chain([first], batches)
            found[split] = measure_path(program, path, whole, plan, correct=correct, chunk=chunk)
    entries: dict[str, Any] = {}
    shared: dict[Hashable, Any] = {}
    for measure in taken:
        own = {
            split: {
                fold: result
                for (name, fold), result in ((key.split("."), result) for key, result in results.items())
                if name == measure.name
            }
            for split, results in found.items()
            if split in measure.splits
        }
        entry = measure.entry(Found(program, path, own, entries, shared))
        if entry is not None and entry.get("layers", True):
            named = {"quantities": dict(measure.quantities)} if measure.quantities else {}
            entries[measure.name] = {**entry, **named}
    return entries


def compile_along(
    program: Program,
    path: Curve,
    first: Mapping[str, Batch],
    measures: Sequence[Measure],
    *,
    chunk: int | None = None,
) -> None:
    """Compile what `measure_along` runs over the data along a path without corrections.

    Args:
        program: as there.
        path: as `compile_path` takes it.
        first: split -> the first batch of its stream, in the order of the splits there.
        measures: as there.
        chunk: as there.
    """
    for split, batch in first.items():
        if any(split in measure.splits for measure in measures):
            program = reread(program, path.a, batch.images, batch.mask.shape)
            compile_path(program, path, batch, plan_for(program, measures, split), chunk=chunk)
