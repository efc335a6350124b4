"""Examples as people have them -> masked batches of one size."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from llfc_jax.errors import UserError, first_line, kind_of
from llfc_jax.types import Array, Batch, PyTree

Examples: TypeAlias = Any
"""One batch of any size: (inputs, labels), `{"image": inputs, "label": labels}`, or a masked `Batch`.

Where nothing looks at labels also inputs alone: an array, or any pytree of arrays as (inputs,). Arrays are
NumPy's, JAX's, PyTorch's, or lists of numbers; all have one row for each example.
"""


def masked_batches(batches: Iterable[Examples], *, labelled: bool = True) -> Iterator[Batch]:
    """Any iterable of examples as masked batches of one size.

    Each is filled up to the largest so far, so that a stream with an odd end is compiled for once.

    Args:
        batches: see `Examples`; of any sizes, such as a generator or a `DataLoader` of PyTorch.
        labelled: whether labels are needed; else they aren't looked at, and are None.

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
    for batch in _checked(batches, labelled):
        size = max(size, len(batch.mask))
        images, labels = _filled((batch.images, batch.labels), size)
        mask = np.asarray(batch.mask, np.float32)
        yield Batch(images, labels, jnp.asarray(np.pad(mask, (0, size - len(mask)))))


def inputs_alone(batches: Iterable[Examples]) -> Iterator[PyTree]:
    """The inputs of any iterable of examples, padding left out, in batches of the sizes that they come in.

    Args:
        batches: see `Examples`; labels are not looked at.

    Raises:
        UserError: as `masked_batches`.
    """
    for batch in _checked(batches, labelled=False):
        kept = np.asarray(batch.mask) > 0
        yield batch.images if kept.all() else jax.tree.map(lambda x, kept=kept: x[kept], batch.images)


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


def with_classes(stream: Iterable[Batch], classes: int) -> Iterator[Batch]:
    """The same batches, whose labels are found to be classes.

    Args:
        stream: masked batches; what padding is labelled doesn't matter.
        classes: how many there are.

    Raises:
        UserError: labels are no integers (n,), or not in [0, classes).
    """
    for batch in stream:
        if not _is_array(batch.labels):
            raise UserError(f"labels: expected (n,) integers; found {kind_of(batch.labels)}")
        labels, shape = np.asarray(batch.labels), np.shape(batch.labels)
        if not np.issubdtype(labels.dtype, np.integer) or len(shape) != 1:
            raise UserError(f"labels: expected (n,) integers; found {labels.dtype} of shape {shape}")
        labels = labels[np.asarray(batch.mask) > 0]
        if not ((labels >= 0) & (labels < classes)).all():
            raise UserError(
                f"labels: expected 0 to {classes - 1}, by the logits; found {labels.min()} to {labels.max()}"
            )
        yield batch


def as_arrays(tree: PyTree, where: str) -> PyTree:
    """The same pytree of arrays of NumPy or JAX, whichever framework they come from.

    Args:
        tree: of arrays; of lists of numbers, too, each of which is one array.
        where: what an error calls the tree.

    Raises:
        UserError: something in it is no array of numbers, or has integers too large for JAX's type.

    Example:
        >>> as_arrays({"tokens": [[1, 2], [3, 4]]}, "inputs")["tokens"].shape
        (2, 2)
    """
    return jax.tree.map(lambda leaf: _as_array(leaf, where), tree, is_leaf=_is_array_in_lists)


def _checked(batches: Iterable[Examples], labelled: bool) -> Iterator[Batch]:
    """Every batch as it is, with arrays that fit each other and are of the first one's kind."""
    expected = None
    for examples in _iterated(batches):
        batch = _as_batch(examples, labelled)
        found = jax.tree.structure(batch.images), _described(batch.images)
        expected = expected or found
        if found != expected:
            raise UserError(
                f"batches: expected all inputs to be of one kind; found {expected[1]}, then {found[1]}"
            )
        yield batch
    if expected is None:
        raise UserError("batches: expected one at least; found none")


def _iterated(batches: Iterable[Examples]) -> Iterator[Examples]:
    if isinstance(batches, Iterable) and not isinstance(batches, str | Mapping) and not _is_array(batches):
        return iter(batches)
    raise UserError(f"batches: expected an iterable of them, such as a list; found {kind_of(batches)}")


def _as_batch(examples: Examples, labelled: bool) -> Batch:
    inputs, labels, mask = _parts(examples, labelled)
    found = {"labels": labels} if labelled else {}
    found |= {"inputs": inputs} if mask is None else {"inputs": inputs, "mask": mask}
    parts = {name: as_arrays(part, name) for name, part in found.items()}
    n = _check_rows(parts)
    return Batch(parts["inputs"], parts.get("labels"), parts.get("mask", np.ones(n, np.float32)))


def _parts(examples: Examples, labelled: bool) -> tuple[PyTree, PyTree, PyTree]:
    """Inputs, labels and mask; None for what there is none of."""
    match examples:
        case Batch():
            return examples
        case (inputs, labels) | {"image": inputs, "label": labels}:
            return inputs, labels, None
        case (inputs,) | {"image": inputs} if not labelled:
            return inputs, None, None
        case _ if not labelled and _is_array(examples):
            return examples, None, None
    expected = "(inputs, labels)" if labelled else "an array, (inputs,), (inputs, labels)"
    keys = f"the keys {', '.join(map(str, examples))}" if isinstance(examples, Mapping) else None
    raise UserError(
        f"batches: expected {expected} or a dict of image and label; found {keys or kind_of(examples)}"
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
            raise UserError(f"{name}: expected {rows[0]}, one for each of the {first}; found shape {shape}")
    return rows[0]


def _filled(tree: PyTree, size: int) -> PyTree:
    """Arrays of `size` rows: those that are missing are copies of the first."""

    def fill(x: Array | np.ndarray) -> Array:
        index = np.arange(size)
        return jnp.asarray(x if len(x) == size else x[np.where(index < len(x), index, 0)])

    return jax.tree.map(fill, tree)


def _described(tree: PyTree) -> str:
    """What doesn't change from batch to batch."""
    return ", ".join(f"{leaf.ndim}-dimensional {jnp.result_type(leaf)}" for leaf in jax.tree.leaves(tree))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_array_in_lists(node: Any) -> bool:
    """Whether lists hold nothing but numbers, which are no batch of anything by themselves."""
    leaves = jax.tree.leaves(node) if isinstance(node, list | tuple) else []
    return bool(leaves) and all(isinstance(leaf, int | float) for leaf in leaves)


def _as_array(leaf: Any, where: str) -> Array | np.ndarray | jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return leaf
    if hasattr(leaf, "detach"):  # PyTorch's, wherever it lies and whether or not it has a gradient
        leaf = leaf.detach().cpu()
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError) as error:  # rows of several lengths, or types that NumPy lacks
        raise UserError(f"{where}: expected an array of numbers; found {first_line(error)}") from error
    if not jnp.issubdtype(array.dtype, np.number) and array.dtype != bool:
        found = kind_of(leaf) if array.dtype == object else array.dtype
        raise UserError(f"{where}: expected an array of numbers; found {found}")
    kept = jnp.result_type(array)
    if np.issubdtype(array.dtype, np.integer) and array.size:
        limits, least, most = np.iinfo(kept), array.min(), array.max()
        if least < limits.min or most > limits.max:
            raise UserError(f"{where}: expected integers that {kept} holds; found {least} to {most}")
        array = array.astype(kept)
    return array
