"""Files of arrays: what is damaged, what is refused, what comes back."""

import builtins
import re
from concurrent.futures import ProcessPoolExecutor

import forks
import ml_dtypes
import numpy as np
import pytest

from llfc_jax.errors import UserError
from llfc_jax.interchange import formats

ARRAYS = {
    "a/x10": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "a/x9": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    "count": np.array(7, np.int64),
    "half": np.array([1.5, -2], np.float16),
}


def truncate(content):
    return content[: len(content) // 2]


def flip(content):
    """One bit, in the first array."""
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


@pytest.mark.parametrize("format", ["npz", "safetensors", "orbax"])
def test_arrays_come_back_bit_for_bit(format, tmp_path):
    path = tmp_path / "below" / f"x.{format}"
    formats.write(path, ARRAYS, format)
    assert formats.holds(path, ARRAYS)
    assert not formats.holds(path, ARRAYS | {"count": np.array(8, np.int64)})
    assert not formats.holds(path, {name: array for name, array in ARRAYS.items() if name != "half"})
    assert formats.read(path).format == format


def test_the_same_arrays_make_the_same_file(tmp_path):
    for suffix in (".npz", ".safetensors"):
        for name in ("one", "two"):
            formats.write(tmp_path / f"{name}{suffix}", ARRAYS, suffix[1:])
        assert (
            formats.read(tmp_path / f"one{suffix}").sha256 == formats.read(tmp_path / f"two{suffix}").sha256
        )


def test_names_without_an_order_are_in_natural_order(tmp_path):
    formats.write(tmp_path / "x.safetensors", ARRAYS, "safetensors")
    assert list(formats.read(tmp_path / "x.safetensors").arrays) == ["a/x9", "a/x10", "count", "half"]
    formats.write(tmp_path / "x.npz", ARRAYS, "npz")
    assert list(formats.read(tmp_path / "x.npz").arrays) == list(ARRAYS)


def test_bfloat16_survives_where_the_format_has_it(tmp_path):
    values = np.array([1.5, -3e38], ml_dtypes.bfloat16)
    formats.write(tmp_path / "x.safetensors", {"x": values}, "safetensors")
    assert formats.holds(tmp_path / "x.safetensors", {"x": values})
    formats.write(tmp_path / "x.npz", {"x": values}, "npz")
    assert formats.holds(tmp_path / "x.npz", {"x": values.astype(np.float32)})
    assert formats.holds(tmp_path / "x.npz", {"x": values})  # as `write` widens it


@pytest.mark.parametrize("damage", [truncate, flip, lambda content: b"", lambda content: b"weights"])
@pytest.mark.parametrize("format", ["npz"])
def test_a_damaged_file_is_one_line(format, damage, tmp_path):
    path = tmp_path / f"x.{format}"
    formats.write(path, ARRAYS, format)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"^{path} is damaged, or not what its name says") as caught:
        print(formats.read(path).arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [truncate, lambda content: b"", lambda content: b"weights" * 9])
def test_a_damaged_safetensors_file_is_one_line(damage, tmp_path):
    path = tmp_path / "x.safetensors"
    formats.write(path, ARRAYS, "safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"^{path} is damaged, or not what its name says"):
        formats.read(path)


def complaint(path):
    """In a process of its own, since Orbax leaves broken coroutines behind that complain later."""
    try:
        print(formats.read(path).arrays)
    except UserError as error:
        return str(error)


def test_a_damaged_pytree_is_one_line(tmp_path):
    formats.write(tmp_path / "x", ARRAYS, "orbax")
    for path in (tmp_path / "x").rglob("*"):
        if path.is_file() and path.name != "_METADATA":
            path.write_bytes(truncate(path.read_bytes()))
    with ProcessPoolExecutor(1, forks.context()) as pool:
        line = pool.submit(complaint, tmp_path / "x").result()
    assert line.startswith(f"{tmp_path / 'x'} is damaged, or not what its name says")
    assert "\n" not in line


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_an_npz_file_of_objects_is_refused_and_runs_nothing(tmp_path):
    np.savez(tmp_path / "x.npz", weights=np.array([Bomb(tmp_path / "executed")], dtype=object))
    (tmp_path / "executed").unlink(missing_ok=True)
    with pytest.raises(UserError, match="'weights': expected an array; found pickled objects, not read"):
        formats.read(tmp_path / "x.npz").arrays["weights"]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none.npz", "no such file or directory"),
        (
            "there.ckpt",
            r"expected weights in one of the formats safetensors, PyTorch, .*, Orbax; found none of them",
        ),
        ("", "expected one file of weights; found empty.npz, there.ckpt: give one of them"),
        ("empty.npz", "expected arrays; found none"),
    ],
)
def test_a_path_that_is_no_file_of_arrays_is_one_line(name, line, tmp_path):
    (tmp_path / "there.ckpt").write_bytes(b"")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(UserError, match=f"^{tmp_path / name}: {line}$"):
        formats.read(tmp_path / name)


def test_without_pytorch_its_files_are_one_line(monkeypatch, tmp_path):
    def refuse(name, *args, **kwargs):
        if name == "torch":
            raise ModuleNotFoundError(name)
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    (tmp_path / "x.pt").write_bytes(b"\x80\x02anything")
    line = re.escape(f"{tmp_path / 'x.pt'}: PyTorch's files need PyTorch: pip install torch")
    with pytest.raises(UserError, match=f"^{line}"):
        formats.read(tmp_path / "x.pt")
    with pytest.raises(
        UserError, match=f"^{re.escape(str(tmp_path / 'y.pt'))}: PyTorch's files need PyTorch"
    ):
        formats.write(tmp_path / "y.pt", ARRAYS, "pt")
    assert not (tmp_path / "y.pt").exists()


def test_a_failed_write_leaves_what_was_there(monkeypatch, tmp_path):
    formats.write(tmp_path / "x.npz", ARRAYS, "npz")
    before = (tmp_path / "x.npz").read_bytes()
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(UserError, match=r"x.npz can't be written: No space left$"):
        formats.write(tmp_path / "x.npz", {"other": np.zeros(1)}, "npz")
    assert (tmp_path / "x.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
