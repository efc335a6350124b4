"""What is saved beside weights is left out by name, whatever it is, and nothing of it is run."""

import argparse
import collections
import datetime
import enum
import functools
import os
import pickle
import subprocess
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from llfc_jax.errors import UserError  # noqa: E402
from llfc_jax.interchange import formats  # noqa: E402

STATE = collections.OrderedDict({"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.ones(2)})

WAYS = {
    "an archive": torch.save,
    "before 1.6": functools.partial(torch.save, _use_new_zipfile_serialization=False),
    "protocol 5": functools.partial(torch.save, pickle_protocol=5),
    "pickle's own": lambda content, path: path.write_bytes(pickle.dumps(content)),
}


class Colour(enum.Enum):
    RED = 1


class History(list):
    def __init__(self):
        super().__init__([torch.zeros(1)])
        self.best = torch.zeros(1)


class Attributes(dict):
    pass


class Slots:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 1


class Calls:
    """Its pickle, if it is run, calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


BESIDE = {
    "containers": {
        "sets": {1},
        "frozen": frozenset([1]),
        "deque": collections.deque([1]),
        "bytes": bytearray(b"x"),
        "complex": 1j,
        "slice": slice(1),
        "range": range(3),
        "dots": ...,
        "nothing": None,
    },
    "the standard library's": {
        "args": argparse.Namespace(lr=0.1),
        "space": SimpleNamespace(a=1),
        "path": Path("x"),
        "time": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        "partial": functools.partial(Attributes),
        "error": ValueError("x"),
    },
    "one's own": {"kind": Colour.RED, "history": History(), "slots": Slots(), "class": Slots, "f": Colour},
    "NumPy's": {
        "dtype": np.dtype("f4"),
        "number": np.float32,
        "generator": np.random.default_rng(0),
        "masked": np.ma.array([1, 2], mask=[0, 1]),
    },
    "PyTorch's": {
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "layout": torch.strided,
        "loss": torch.nn.CrossEntropyLoss(torch.ones(3)),
        "optimizer": torch.optim.SGD([torch.zeros(1)], 0.1),
        "function": torch.nn.functional.gelu,
    },
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BESIDE)
def test_what_is_no_array_is_left_out_by_name(kind, way, tmp_path):
    WAYS[way]({"net": STATE, **BESIDE[kind]}, tmp_path / "x")
    found = formats.read(tmp_path / "x")
    assert found.no_arrays == tuple(BESIDE[kind])
    assert found.arrays.keys() == {f"net/{name}" for name in STATE}
    for name, tensor in STATE.items():
        np.testing.assert_array_equal(found.arrays[f"net/{name}"], tensor.numpy())


ARRAYS = {
    "scalars": {"a": np.float64(3), "b": np.int32(4), "c": np.bool_(True)},
    "fields": {"a": np.zeros(2, [("x", "f4"), ("y", "i4")])},
    "half of them": {"a": np.array([1.5], ml_dtypes.bfloat16), "b": torch.tensor([1.5]).bfloat16()},
    "tensors": {"a": torch.nn.Parameter(torch.ones(2)), "b": torch.nn.Buffer(torch.ones(2))},
    "JAX's": {"a": jnp.ones(3), "b": {"c": jnp.ones(2, jnp.bfloat16)}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_read_whatever_they_are_of(kind, way, tmp_path):
    WAYS[way](ARRAYS[kind], tmp_path / "x")
    found = formats.read(tmp_path / "x").arrays
    assert found
    for name, array in found.items():
        expected = functools.reduce(lambda tree, key: tree[key], name.split("/"), ARRAYS[kind])
        if isinstance(expected, torch.Tensor):
            expected = expected.detach().float().numpy()
        np.testing.assert_array_equal(array.astype(expected.dtype), expected)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "wrap",
    [Attributes, lambda state: collections.defaultdict(list, state), dict],
    ids=["a class of one's own", "defaultdict", "dict"],
)
def test_a_dictionary_of_any_kind_keeps_its_items(wrap, way, tmp_path):
    WAYS[way]({"net": wrap(STATE), "counts": collections.Counter("ab")}, tmp_path / "x")
    found = formats.read(tmp_path / "x")
    assert list(found.stored) == [f"net/{name}" for name in STATE]
    assert found.no_arrays == ("counts/a", "counts/b")


@pytest.mark.parametrize("way", WAYS)
def test_a_module_is_no_state_dict(way, tmp_path):
    for content in (torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2), "epoch": 3}):
        WAYS[way](content, tmp_path / "x")
        with pytest.raises(UserError, match=r"found torch.nn.modules.linear.Linear, which was not run$"):
            formats.read(tmp_path / "x")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, "touch {file}"),
        (eval, "open('{file}', 'w')"),
        (subprocess.check_output, "touch {file}"),
        (open, "{file}"),
        (__import__, "antigravity"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_would_do_something_is_refused_and_not_run(function, arguments, way, tmp_path):
    content = {"net": STATE, "beside": Calls(function, arguments.format(file=tmp_path / "executed"))}
    WAYS[way](content, tmp_path / "x")
    with pytest.raises(UserError, match=r"x: expected tensors alone.*; found [\w.]+, which was not run$"):
        formats.read(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_functions_that_no_list_names_are_not_called_either(tmp_path):
    torch.save({"net": STATE, "beside": Calls(torch.hub.load, "owner/name", "model")}, tmp_path / "x")
    assert formats.read(tmp_path / "x").no_arrays == ("beside",)


class Built(Calls):
    """Its pickle calls a function, and gives what that returns a state."""

    def __init__(self, call, state):
        self.call = (*call, state)


RECONSTRUCT, SCALAR = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]


def dtype_with(*, size=8, names=None, fields=None):
    """A dtype that claims to hold no objects, whatever its fields are."""
    return Built((np.dtype, (f"V{size}", False, True)), (3, "|", None, names, fields, size, 1, 0))


def array_of(dtype, content):
    return Built((RECONSTRUCT, (np.ndarray, (0,), b"b")), (1, (1,), dtype, False, content))


FORGED = {
    "pointers": array_of(dtype_with(names=("x",), fields={"x": (np.dtype("O"), 0)}), bytes(8)),
    "a number without its bytes": Calls(SCALAR, dtype_with(size=2**30), b""),
    "an array without its numbers": Built(
        (RECONSTRUCT, (np.ndarray, (0,), b"b")), (1, (2**40,), np.dtype("i1"), False, b"")
    ),
    "a dtype of no name": array_of(Calls(np.dtype, "i4,O"), bytes(12)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FORGED)
def test_an_array_that_is_not_its_numbers_is_one_line(kind, way, tmp_path):
    WAYS[way]({"net": STATE, "beside": FORGED[kind]}, tmp_path / "x")
    with pytest.raises(UserError, match=r"x is damaged, or not what its name says \(.*\)$"):
        formats.read(tmp_path / "x")


def test_a_key_that_python_will_not_write_is_one_line(tmp_path):
    torch.save({10**5000: STATE}, tmp_path / "x")
    with pytest.raises(UserError, match=r"x is damaged, or not what its name says \(Exceeds the limit"):
        formats.read(tmp_path / "x")
