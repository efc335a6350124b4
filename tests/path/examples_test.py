"""Examples in the forms that people have them in, and what is no batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.path.arrays import as_arrays
from llfc_jax.path.examples import inputs_alone, masked_batches, with_classes
from llfc_jax.types import Batch

X = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
Y = np.arange(7) % 3


def seen(batches, labelled=True):
    """Inputs and labels that the masks keep, of all batches together."""
    found = list(masked_batches(batches, labelled=labelled))
    kept = [np.asarray(batch.mask) > 0 for batch in found]
    inputs = np.concatenate([batch.images[rows] for batch, rows in zip(found, kept, strict=True)])
    if not labelled:
        assert all(batch.labels is None for batch in found)
        return inputs, None
    return inputs, np.concatenate([batch.labels[rows] for batch, rows in zip(found, kept, strict=True)])


LABELLED = {
    "tuples": [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "a generator of lists": lambda: ([X[i : i + 2], Y[i : i + 2]] for i in range(0, 7, 2)),
    "TFDS's dicts": [{"image": X, "label": Y}],
    "masked batches": [Batch(np.concatenate([X, X[:2]]), np.append(Y, [-1, -1]), np.arange(9) < 7)],
    "arrays of JAX": [jax.device_put((X, Y))],
    "lists of numbers": [(X.tolist(), Y.tolist())],
}
ALONE = {
    "arrays": [X[:4], X[4:]],
    "arrays of as many rows as tuples have parts": [X[:3], X[3:5], X[5:6], X[6:]],
    "tuples of one": [(X,)],
    "lists of one": [[X[:6]], [X[6:]]],
    "a dict of image": [{"image": X}],
    "a batch without labels": [Batch(X, None, np.ones(7))],
    "labels that are names": [(X, ["cat"] * 7)],
}


def started(stream):
    return stream() if callable(stream) else stream


@pytest.mark.parametrize("form", LABELLED)
@pytest.mark.parametrize("labelled", [True, False])
def test_every_form_holds_the_same_examples(form, labelled):
    inputs, labels = seen(started(LABELLED[form]), labelled)
    np.testing.assert_array_equal(inputs, X)
    if labelled:
        np.testing.assert_array_equal(labels, Y)


@pytest.mark.parametrize("form", [*LABELLED, *ALONE])
def test_inputs_come_alone_where_labels_are_not_looked_at(form):
    stream = (LABELLED | ALONE)[form]
    np.testing.assert_array_equal(np.concatenate(list(inputs_alone(started(stream)))), X)
    np.testing.assert_array_equal(seen(started(stream), labelled=False)[0], X)


@pytest.mark.parametrize("form", [form for form in ALONE if form != "labels that are names"])
def test_inputs_alone_are_refused_where_labels_are_needed(form):
    with pytest.raises(UserError, match=r"^(batches: expected .inputs, labels.|labels: expected an array)"):
        seen(ALONE[form])


def test_a_dataloader_of_pytorch_is_an_iterable_of_batches():
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    x = torch.from_numpy(X).requires_grad_()
    loader = data.DataLoader(data.TensorDataset(x, torch.from_numpy(Y)), batch_size=3)
    inputs, labels = seen(loader)
    np.testing.assert_array_equal(inputs, X)
    np.testing.assert_array_equal(labels, Y)
    alone = data.DataLoader(data.TensorDataset(x), batch_size=3)
    np.testing.assert_array_equal(np.concatenate(list(inputs_alone(alone))), X)
    with pytest.raises(UserError, match=r"^inputs: expected an array of numbers; found .*BFloat16"):
        seen([(x.bfloat16(), Y)])


def test_all_batches_are_of_the_size_of_the_largest_so_far():
    sizes = (2, 5, 3, 1, 6)
    found = list(masked_batches((X[:n], Y[:n]) for n in sizes))
    assert [len(batch.labels) for batch in found] == [2, 5, 5, 5, 6]
    assert [batch.mask.sum() for batch in found] == list(sizes)
    for batch in found:
        for leaf in batch[:2]:
            padding = leaf[batch.mask == 0]
            np.testing.assert_array_equal(padding, np.broadcast_to(leaf[0], padding.shape))


def test_inputs_and_labels_are_any_pytrees():
    inputs = {"tokens": [[1, 2], [3, 4]], "pair": (np.ones((2, 3)), jnp.zeros(2))}
    (batch,) = masked_batches([(inputs, {"mean": np.zeros((2, 4)), "class": [0, 1]})])
    np.testing.assert_array_equal(batch.images["tokens"], [[1, 2], [3, 4]])
    assert jax.tree.map(np.shape, batch.images) == {"tokens": (2, 2), "pair": ((2, 3), (2,))}
    assert jax.tree.map(np.shape, batch.labels) == {"mean": (2, 4), "class": (2,)}


def test_batches_are_not_read_before_they_are_asked_for():
    stream = masked_batches(iter([(X, Y), "none"]))
    assert next(stream).mask.all()
    with pytest.raises(UserError, match="found a str"):
        next(stream)


@pytest.mark.parametrize(
    ("batches", "line"),
    [
        (3, "batches: expected an iterable of them, such as a list; found an int"),
        (None, "batches: expected an iterable of them, .*; found None"),
        (X, r"batches: expected an iterable of them, .*; found an array of shape \(7, 5\)"),
        ({"image": X, "label": Y}, "batches: expected an iterable of them, .*; found a dict"),
        ((), "batches: expected one at least; found none"),
        ([], "batches: expected one at least; found none"),
        ((X, Y), "batches: expected .inputs, labels. .*; found an array of shape"),
        ([(X, Y, Y, Y)], "batches: expected .inputs, labels. or a dict .*; found a tuple of 4"),
        ([(X, Y, Y)], "mask: expected 0 or 1 at each label; found 2"),
        ([(X, Y, np.full(7, 0.5))], "mask: expected 0 or 1 at each label; found 0.5"),
        (
            [(X, Y, np.ones((7, 2)))],
            r"mask: expected the shape of the labels, .*; found \(7, 2\)",
        ),
        ([(X, Y, 0 * Y)] * 2, "mask: expected 1 for one label at least; found 0 everywhere"),
        ([{"x": X, "y": Y}], "batches: expected .*; found the keys x, y"),
        ([(X, Y[:4])], r"inputs: expected 4, one for each of the labels; found shape \(7, 5\)"),
        ([({"x": X, "of": Y[:4]}, Y)], r"inputs: expected 7, one for each of the labels; found shape \(4,\)"),
        ([Batch(X, Y[:3], np.ones(3))], r"inputs: expected 3, one for each of the labels; found shape"),
        ([Batch(X, Y, np.ones(3))], r"mask: expected 7, one for each of the labels; found shape \(3,\)"),
        ([(X[:0], Y[:0])], r"labels: expected \(n, ...\), n > 0; found shape \(0,\)"),
        ([(X, 1)], r"labels: expected \(n, ...\), n > 0; found shape \(\)"),
        ([(None, Y)], "inputs: expected an array; found none"),
        ([(X, None)], "labels: expected an array; found none"),
        ([([[1.0, 2.0], [3.0]], [0, 1])], "inputs: expected an array of numbers; found .*inhomogeneous"),
        ([(np.array(["a", "b"]), [0, 1])], "inputs: expected an array of numbers; found <U1"),
        ([(object(), [0, 1])], "inputs: expected an array of numbers; found an object"),
        ([(X, Y + 2**32)], "labels: expected integers that int32 holds; found 4294967296 to 4294967298"),
        (
            [(X, Y), (X.astype(int), Y)],
            "batches: expected all inputs to be of one kind; found 2-dimensional float32, then 2-.* int32",
        ),
        ([(X, Y), ([X], Y)], "batches: expected all inputs to be of one kind"),
    ],
)
def test_what_is_no_batch_is_refused_in_one_line(batches, line):
    with pytest.raises(UserError, match=f"^{line}") as caught:
        list(masked_batches(batches))
    assert "\n" not in str(caught.value)


def test_an_inputs_and_labels_pair_is_not_taken_for_two_batches():
    with pytest.raises(UserError, match=r"^batches: expected all inputs to be of one kind"):
        list(inputs_alone((X, Y)))


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (Y, None),
        (np.where(Y == 2, 3, Y), "expected 0 to 2, by the logits; found 0 to 3"),
        (Y - 1, "expected 0 to 2, by the logits; found -1 to 1"),
        (Y.astype(np.float32), r"expected \(n,\) integers; found float32 of shape \(7,\)"),
        (np.eye(7, dtype=int), r"expected \(n,\) integers; found int32 of shape \(7, 7\)"),
        ({"class": Y}, r"expected \(n,\) integers; found a dict"),
    ],
)
def test_labels_are_classes_or_refused(labels, line):
    stream = with_classes(masked_batches([(X, labels)]), classes=3)
    if line is None:
        assert len(list(stream)) == 1
    else:
        with pytest.raises(UserError, match=f"^labels: {line}"):
            list(stream)


def test_arrays_of_jax_stay_what_they_are():
    tree = {"key": jax.random.key(0), "x": jnp.zeros(3)}
    assert all(map(lambda a, b: a is b, *map(jax.tree.leaves, (as_arrays(tree, "batch"), tree))))
