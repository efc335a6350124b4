import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import NamedTuple

import forks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llfc_jax.errors import UserError
from llfc_jax.runtime import processes
from llfc_jax.storage import checkpoint

METADATA = {
    "seed": 3,
    "config": {"name": "x", "alphas": [0.25, 0.1], "nothing": None},
    "history": {"loss": []},
}


class Counter(NamedTuple):
    count: jax.Array
    inner: optax.OptState


@cache
def some_variables(seed=0):
    rng = np.random.default_rng(seed)
    return jax.device_put(
        {
            "params": {
                "dense": {
                    "kernel": np.float32(rng.normal(size=(3, 4))),
                    "bias": np.float32([0.0, -0.0, np.inf, 1e-40]),
                },
                "half": {"kernel": rng.normal(size=5).astype(jnp.bfloat16)},
                "scalar": np.float32(rng.normal()),
            },
            "batch_stats": {
                "steps": np.arange(3, dtype=np.int32),
                "mask": np.array([True, False]),
                "bytes": np.uint8([0, 255]),
            },
        }
    )


@jax.jit
def some_training(variables):
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.adam(lambda step: 0.1))
    params = variables["params"]["dense"]
    _, state = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    return Counter(jnp.int32(7), state)


def assert_identical(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def save_twice(directory, variables_at):
    """Steps 10 and 20 of a network."""
    for step in (10, 20):
        variables = variables_at(step)
        checkpoint.save(directory, step, variables, METADATA | {"step": step}, some_training(variables))
    return directory


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_twice(tmp_path_factory.mktemp("checkpoints") / "a", some_variables)


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "a")


def test_everything_comes_back_bit_for_bit(saved):
    variables = some_variables(20)
    template = jax.eval_shape(some_training, variables)
    found = checkpoint.restore(saved, training=template)
    assert_identical(found.variables, variables)
    assert_identical(found.training, some_training(variables))
    assert found.metadata == METADATA | {"step": 20}
    assert found.step == 20


def test_variables_come_back_alone_where_training_is_not_asked_for(saved):
    found = checkpoint.restore(saved, step=10)
    assert_identical(found.variables, some_variables(10))
    assert (found.step, found.training) == (10, None)


def test_a_network_that_is_not_trained_on_needs_no_training_state(tmp_path):
    checkpoint.save(tmp_path / "b", 0, some_variables(), {})
    assert_identical(checkpoint.restore(tmp_path / "b").variables, some_variables())


def test_the_last_two_steps_are_kept(tmp_path):
    for step in (2, 10, 9, 100):
        checkpoint.save(tmp_path, step, {"x": jnp.float32(step)}, {})
    assert checkpoint.steps(tmp_path) == [10, 100]


def test_there_are_no_steps_where_there_is_nothing(tmp_path):
    assert checkpoint.steps(tmp_path / "none") == []
    with pytest.raises(UserError, match=f"^no checkpoint in {tmp_path / 'none'}$"):
        checkpoint.restore(tmp_path / "none")


def flip(position, content):
    at = round(position * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


DAMAGES = {
    "first byte": partial(flip, 0),
    "byte at 40 %": partial(flip, 0.4),
    "byte at 80 %": partial(flip, 0.8),
    "last byte": partial(flip, 1),
    "cut in half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
}


def few_variables(seed):
    """Each array is read again for each damaged file."""
    return {"params": {"dense": {"kernel": some_variables(seed)["params"]["dense"]["kernel"]}}}


def complaints(directory, damage):
    """File of step 20 -> what `restore` says when it is damaged; None where it restored what was saved."""
    variables, found = few_variables(20), {}
    training, template = some_training(variables), jax.eval_shape(some_training, variables)
    for path in sorted(path for path in (directory / "20").rglob("*") if path.is_file()):
        original = path.read_bytes()
        if DAMAGES[damage](original or b"-") == original:
            continue
        path.write_bytes(DAMAGES[damage](original or b"-"))
        try:
            restored = checkpoint.restore(directory, training=template)
        except UserError as error:
            found[path.relative_to(directory / "20")] = str(error)
        else:
            assert_identical((restored.variables, restored.training), (variables, training))
            assert restored.metadata == METADATA | {"step": 20}
            found[path.relative_to(directory / "20")] = None
        path.write_bytes(original)
    return found


@pytest.fixture(scope="module")
def all_complaints(tmp_path_factory):
    """In a process of its own, since Orbax leaves broken coroutines behind that complain later."""
    directory = save_twice(tmp_path_factory.mktemp("damaged") / "a", few_variables)
    with ProcessPoolExecutor(1, forks.context()) as pool:
        found = pool.map(partial(complaints, directory), DAMAGES)
        return directory, dict(zip(DAMAGES, found, strict=True))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_noticed_or_does_not_matter(damage, all_complaints):
    directory, found = all_complaints[0], all_complaints[1][damage]
    noticed = {path.parts[0] for path, line in found.items() if line}
    assert {"variables", "training", "metadata"} <= noticed
    for line in filter(None, found.values()):
        assert line.startswith(f"checkpoint {directory / '20'} is damaged (")
        assert line.endswith("): delete it to go on from the step before, 10")
        assert "\n" not in line


def test_the_step_before_is_as_good_as_its_word(copy):
    (copy / "20" / "metadata" / "metadata").write_text("{")
    with pytest.raises(UserError, match="the step before, 10"):
        checkpoint.restore(copy)
    shutil.rmtree(copy / "20")
    assert_identical(checkpoint.restore(copy).variables, some_variables(10))


def test_a_missing_part_is_noticed(copy):
    shutil.rmtree(copy / "20" / "variables")
    with pytest.raises(UserError, match=f"^checkpoint {copy / '20'} is damaged .* the step before, 10$"):
        checkpoint.restore(copy)


def test_a_part_that_may_not_be_read_is_not_called_damaged(copy, monkeypatch):
    part, access = copy / "20" / "variables", checkpoint.os.access
    shutil.rmtree(part)  # which is what Orbax sees
    part.mkdir()
    monkeypatch.setattr(checkpoint.os, "access", lambda path, mode: path != part and access(path, mode))
    with pytest.raises(UserError, match=f"^can't read checkpoint {part}: permission denied$"):
        checkpoint.restore(copy)


def test_where_no_step_before_is_left_it_says_so(copy):
    shutil.rmtree(copy / "10")
    (copy / "20" / "metadata" / "metadata").write_text("{")
    with pytest.raises(UserError, match=f"no step before it is left; delete {copy} to train again$"):
        checkpoint.restore(copy)


def test_training_state_of_another_optimizer_is_not_taken(saved):
    with pytest.raises(
        UserError, match=f"^checkpoint {saved}: expected the state of this optimizer, 1 array"
    ):
        checkpoint.restore(saved, training={"momentum": jax.ShapeDtypeStruct((3,), jnp.float32)})


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory"),
        PermissionError(13, "Permission denied"),
        OSError(24, "Too many open files"),
        RuntimeError("RESOURCE_EXHAUSTED: out of memory while trying to allocate"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_files_are_not_to_blame_for_is_not_called_damage(saved, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", fail)
    with pytest.raises(UserError, match=f"^can't read checkpoint {saved / '20'}: "):
        checkpoint.restore(saved)


def test_a_process_that_is_lost_damages_nothing(saved, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("UNKNOWN: Gloo all-reduce failed: connection closed by peer")

    monkeypatch.setattr(processes, "count", lambda: 2)
    for call in ("save", "restore"):
        monkeypatch.setattr(checkpoint.ocp.CheckpointManager, call, fail)
    for call in (
        partial(checkpoint.restore, saved),
        partial(checkpoint.save, saved, 40, {"x": jnp.zeros(1)}, {}),
    ):
        with pytest.raises(ValueError, match="Gloo") as caught:
            call()
        assert caught.type is ValueError  # and no UserError, which would blame the files


def test_a_permutation_comes_back_with_the_network_that_it_made(tmp_path):
    permutation = {"P0": jnp.int32([2, 0, 1]), "P1": jnp.int32([0])}
    checkpoint.save(tmp_path, 0, some_variables(), {}, permutation=permutation)
    assert_identical(checkpoint.restore(tmp_path).permutation, permutation)
    checkpoint.save(tmp_path, 1, some_variables(), {}, permutation={})
    assert checkpoint.restore(tmp_path).permutation is None


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"^can't write checkpoint {tmp_path / 'file' / 'a' / '1'}: .*$"):
        checkpoint.save(tmp_path / "file" / "a", 1, {"x": jnp.zeros(1)}, {})
