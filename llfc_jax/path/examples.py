"""Examples as people have them -> masked batches of one size.

What `llfc_jax.measure`, `evaluate_path` and the rest take for a batch is `Examples`. Beyond (inputs, labels):

* sequences: logits (n, T, classes) with labels (n, T) and a mask of those that count, `(inputs, labels,
  mask)`. Loss, error and perplexity are means over these; features are compared sequence by sequence, over
  their positions; and sequences, not tokens, decide how sure a barrier is;
* any loss: `loss_fn=` (outputs, labels -> (n, ...) losses) replaces cross-entropy; there are no errors then;
* several outputs: `read(..., output=)` and `evaluate_path(..., output=)` say which entry the logits are;
* graphs, and whatever else has another first axis than labels: `num_examples=`;
* no labels where nothing looks at them.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, kind_of
from llfc_jax.path.arrays import as_arrays, is_array
from llfc_jax.path.masks import of_samples
from llfc_jax.runtime import sharding
from llfc_jax.types import Array, Batch, PyTree

Examples: TypeAlias = Any
"""One batch of any size: (inputs, labels), (inputs, labels, mask) or a `Batch`, or a dict.

A dict has `inputs` and `labels` (and `mask`), or TFDS's `image` and `label`, or, as Hugging Face's, `labels`
beside what the inputs are a dict of. The mask is (n,) or of the shape of labels (n, T, ...): 1 for what
counts, 0 for padding. Where nothing looks at labels also inputs alone: an array, or any pytree of arrays as
(inputs,). Arrays are NumPy's, JAX's, PyTorch's, TensorFlow's, or lists of numbers; all have one row for each
example.
"""

NumExamples: TypeAlias = int | Callable[[PyTree], int]
"""How many examples a batch has where the first axis of its inputs doesn't say; or what tells it of them."""


def masked_batches(
    batches: Iterable[Examples],
    *,
    labelled: bool = True,
    num_examples: NumExamples | None = None,
    divide: bool = False,
) -> Iterator[Batch]:
    """Any iterable of examples as masked batches of one size.

    Each is filled up to the largest so far, so that a stream with an odd end is compiled for once.

    Args:
        batches: see `Examples`; of any sizes, such as a generator or a `DataLoader` of PyTorch.
        labelled: whether labels are needed; else they aren't looked at, and are None.
        num_examples: for inputs whose first axis counts something else, such as the nodes of graphs: batches
            then stay of the sizes that they come in.
        divide: whether they are filled up to a size that divides among the devices, too.

    Returns:
        Batches, with copies of their first example where the mask is 0.

    Raises:
        UserError: there is none; one is no batch, or has a number of inputs that is not that of its labels;
            or their inputs differ in kind.

    Example:
        >>> for batch in masked_batches([([[1.0], [2.0]], [0, 1]), ([[3.0]], [1])]):
        ...     print(batch.images.ravel(), batch.labels, batch.mask)
        [1. 2.] [0 1] [1. 1.]
        [3. 3.] [1 1] [1. 0.]
    """
    size = 0
    for batch in _checked(batches, labelled, num_examples):
        if num_examples is not None:
            yield Batch(*batch[:2], _copied(np.asarray(batch.mask, np.float32)))
            continue
        rows = len(batch.mask)
        size = max(size, sharding.padded(rows) if divide else rows)
        images, labels = _filled((batch.images, batch.labels), size)
        mask = np.asarray(batch.mask, np.float32)
        missing = [(0, size - len(mask)), *[(0, 0)] * (mask.ndim - 1)]
        yield Batch(images, labels, _copied(np.pad(mask, missing)))


def over_devices(stream: Iterable[Batch], num_examples: NumExamples | None = None) -> Iterator[Batch]:
    """The same batches on all devices, each of which has its share; what can't be cut is whole on each."""
    if jax.device_count() == 1:
        return iter(stream)
    return map(sharding.shard_batch if num_examples is None else sharding.replicate, stream)


def inputs_alone(batches: Iterable[Examples], num_examples: NumExamples | None = None) -> Iterator[PyTree]:
    """The inputs of any iterable of examples, padding left out, in batches of the sizes that they come in.

    Args:
        batches: see `Examples`; labels are not looked at.
        num_examples: as in `masked_batches`; nothing is left out then.

    Raises:
        UserError: as `masked_batches`.
    """
    for batch in _checked(batches, False, num_examples):
        kept = of_samples(np.asarray(batch.mask)) > 0
        whole = kept.all() or num_examples is not None
        yield batch.images if whole else jax.tree.map(lambda x, kept=kept: x[kept], batch.images)


def as_they_are(batches: Iterable[Any]) -> Iterator[PyTree]:
    """Batches of any structure, for a loss of one's own: nothing is changed but whose arrays they hold.

    Args:
        batches: pytrees of arrays.

    Raises:
        UserError: they are no iterable, or one has no array, or something that is none.
    """
    for batch in _iterated(batches):
        if not jax.tree.leaves(batch):
            raise UserError(f"batches: expected arrays in each; found {kind_of(batch)}")
        yield as_arrays(batch, "batches")


def with_classes(stream: Iterable[Batch], classes: int, positions: int = 0) -> Iterator[Batch]:
    """The same batches, whose labels are found to be classes.

    Args:
        stream: masked batches; what padding is labelled doesn't matter.
        classes: how many there are.
        positions: how many axes the logits have between samples and classes, as (n, T, classes) have one.

    Raises:
        UserError: labels are no integers (n, ...) of as many axes, or not in [0, classes).
    """
    expected = f"({', '.join(['n', *['T', 'H', 'W', 'D'][:positions]])}{',' * (not positions)}) integers"
    for batch in stream:
        if not is_array(batch.labels):
            raise UserError(f"labels: expected {expected}; found {kind_of(batch.labels)}")
        labels, mask = np.asarray(batch.labels), np.asarray(batch.mask)
        if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1 + positions:
            raise UserError(f"labels: expected {expected}; found {labels.dtype} of shape {labels.shape}")
        labels = labels[mask > 0]
        if not ((labels >= 0) & (labels < classes)).all():
            hint = "; a mask hides labels that don't count" if labels.min() < 0 else ""
            raise UserError(
                f"labels: expected 0 to {classes - 1}, by the logits; "
                f"found {labels.min()} to {labels.max()}{hint}"
            )
        yield batch


def _checked(
    batches: Iterable[Examples], labelled: bool, num_examples: NumExamples | None
) -> Iterator[Batch]:
    """Every batch as it is, with arrays that fit each other and are of the first one's kind."""
    expected, counted = None, False
    for examples in _iterated(batches):
        batch = _as_batch(examples, labelled, num_examples)
        found = jax.tree.structure(batch.images), _described(batch.images)
        expected = expected or found
        if found != expected:
            raise UserError(
                f"batches: expected all inputs to be of one kind; found {expected[1]}, then {found[1]}"
            )
        counted = counted or bool(np.asarray(batch.mask).any())
        yield batch
    if expected is None:
        raise UserError("batches: expected one at least; found none")
    if not counted:
        raise UserError("mask: expected 1 for one label at least; found 0 everywhere")


def _iterated(batches: Iterable[Examples] | Callable[[], Iterable[Examples]]) -> Iterator[Examples]:
    if callable(batches) and not isinstance(batches, Iterable):
        batches = batches()
    if isinstance(batches, Iterable) and not isinstance(batches, str | Mapping) and not is_array(batches):
        return iter(batches)
    raise UserError(f"batches: expected an iterable of them, such as a list; found {kind_of(batches)}")


def _as_batch(examples: Examples, labelled: bool, num_examples: NumExamples | None) -> Batch:
    inputs, labels, mask = _parts(examples, labelled)
    found = {"labels": labels} if labelled else {}
    found |= {"inputs": inputs} if mask is None else {"inputs": inputs, "mask": mask}
    parts = {name: as_arrays(part, name) for name, part in found.items()}
    if num_examples is None:
        n = _check_rows(parts)
    else:
        n = _told(num_examples, parts["inputs"])
        others = {name: part for name, part in parts.items() if name != "inputs"}
        _check_rows({"num_examples": np.zeros(n), **others})
    if "mask" in parts:
        _check_mask(parts["mask"], parts.get("labels"))
    return Batch(parts["inputs"], parts.get("labels"), parts.get("mask", np.ones(n, np.float32)))


def _check_mask(mask: PyTree, labels: PyTree) -> None:
    """That it is one array of 0 and 1, of the first axes of the labels."""
    if not is_array(mask):
        raise UserError(f"mask: expected an array; found {kind_of(mask)}")
    values = np.asarray(mask)
    if not ((values == 0) | (values == 1)).all():
        other = values[(values != 0) & (values != 1)].flat[0]
        raise UserError(f"mask: expected 0 or 1 at each label; found {other}")
    for leaf in jax.tree.leaves(labels):
        if np.shape(leaf)[: values.ndim] != values.shape:
            raise UserError(
                f"mask: expected the shape of the labels, {np.shape(leaf)}, or (n,); found {values.shape}"
            )


def _parts(examples: Examples, labelled: bool) -> tuple[PyTree, PyTree, PyTree]:
    """Inputs, labels and mask; None for what there is none of."""
    match examples:
        case _ if is_array(examples):  # before patterns of sequences, which NumPy's match since 2.5
            if not labelled:
                return examples, None, None
        case Batch() | (_, _, _):
            return tuple(examples)
        case {"inputs": inputs, "labels": labels}:
            return inputs, labels, examples.get("mask")
        case {"labels": labels, **others} if others.keys() - {"mask"}:
            inputs = {name: part for name, part in others.items() if name != "mask"}
            return inputs, labels, examples.get("mask")
        case (inputs, labels) | {"image": inputs, "label": labels}:
            return inputs, labels, None
        case (inputs,) | {"image": inputs} | {"inputs": inputs} if not labelled:
            return inputs, None, None
    expected = "(inputs, labels)" if labelled else "an array, (inputs,), (inputs, labels)"
    keys = f"the keys {', '.join(map(str, examples))}" if isinstance(examples, Mapping) else None
    raise UserError(
        f"batches: expected {expected} or a dict of inputs and labels; found {keys or kind_of(examples)}"
    )


def _check_rows(parts: Mapping[str, PyTree]) -> int:
    """The number of examples, which all arrays have to have."""
    shapes = {name: [np.shape(leaf) for leaf in jax.tree.leaves(part)] for name, part in parts.items()}
    for name, found in shapes.items():
        if not found:
            raise UserError(f"{name}: expected an array; found none")
    first = next(iter(shapes))
    rows = shapes[first][0][:1]
    for name, shape in ((name, shape) for name, found in shapes.items() for shape in found):
        if not shape or shape[0] == 0:
            raise UserError(f"{name}: expected (n, ...), n > 0; found shape {shape}")
        if shape[:1] != rows:
            hint = "; `num_examples` says how many examples they are" if name == "inputs" else ""
            each = f"by {first}" if first == "num_examples" else f"one for each of the {first}"
            raise UserError(f"{name}: expected {rows[0]}, {each}; found shape {shape}{hint}")
    return rows[0]


def _told(num_examples: NumExamples, inputs: PyTree) -> int:
    n = num_examples(inputs) if callable(num_examples) else num_examples
    try:
        n = operator.index(n)
    except TypeError:
        raise UserError(f"num_examples: expected an integer; found {kind_of(n)}") from None
    if n < 1:
        raise UserError(f"num_examples: expected 1 at least; found {n}")
    return n


def _filled(tree: PyTree, size: int) -> PyTree:
    """Arrays of `size` rows: those that are missing are copies of the first."""

    def fill(x: Array | np.ndarray) -> Array:
        index = np.arange(size)
        return _copied(x if len(x) == size else x[np.where(index < len(x), index, 0)])

    return jax.tree.map(fill, tree)


def _copied(x: Array | np.ndarray) -> Array:
    """As `jnp.asarray`, which compiles a program for each shape; a loader may write into its array again."""
    return jax.device_put(np.array(x)) if isinstance(x, np.ndarray) else jnp.asarray(x)


def _described(tree: PyTree) -> str:
    """What doesn't change from batch to batch."""
    return ", ".join(f"{leaf.ndim}-dimensional {jnp.result_type(leaf)}" for leaf in jax.tree.leaves(tree))
