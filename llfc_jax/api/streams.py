"""What the library asks of batches before it measures anything on them."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from llfc_jax.errors import UserError
from llfc_jax.matching.leaves import check_all_finite
from llfc_jax.measures.evaluation import logits_shape
from llfc_jax.path.examples import Examples, with_classes
from llfc_jax.path.integers import check_integers_unread
from llfc_jax.program.nodes import FeaturesFn, Program
from llfc_jax.program.reading import read_features
from llfc_jax.types import Array, Batch, Variables


def first_look(
    features_fn: FeaturesFn, networks: Sequence[Variables], stream: Iterator[Batch]
) -> tuple[Program, Iterator[Batch]]:
    """What the networks are like on the first batch, and the stream with this batch still in it."""
    check_all_finite(networks)
    first, (a, *others) = next(stream), networks
    for other in others:
        check_integers_unread(features_fn, a, other, first.images)
    program = read_features(features_fn, a, first.images, first.mask.shape)
    return program, itertools.chain([first], stream)


def with_labels(
    program: Program, stream: Iterator[Batch], loss_fn: Callable[..., Array] | None
) -> Iterator[Batch]:
    """The same batches, whose labels are found to be classes, unless the loss is one of the caller's own."""
    if loss_fn is not None:
        return stream
    logits = logits_shape(program.outputs, program.counted[0])
    return with_classes(stream, logits[-1], len(logits) - 2)


def check_repeatable(batches: Iterable[Examples]) -> None:
    """Check that batches are no stream that ends once and for all.

    Raises:
        UserError: they are.
    """
    if isinstance(batches, Iterator):
        raise UserError("batches: expected some that can be read again, such as a list; found an iterator")
