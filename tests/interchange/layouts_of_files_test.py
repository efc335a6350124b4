"""Files and directories as people have them: told by first bytes, shards, steps, states; and hostile ones."""

import io
import json
import os
import tarfile
import zipfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization
from flax.training import train_state
from foreign_networks import IMAGES, SHAPE, mlp_logits, mlp_state, randomised, relative_error

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, load_variables, source_arrays
from llfc_jax.storage import checkpoint

NAMES = ("fc1", "fc2", "fc3")
NETWORK = models.build({"name": "mlp", "hidden": (32, 32)}, SHAPE, 10)
STATE = mlp_state(NAMES)


def assert_loads(path, expected, network=NETWORK):
    variables, _ = load_variables(path, network, SHAPE)
    assert relative_error(jax.jit(network.apply)(variables, IMAGES), expected) < 1e-5


def save(tree, path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(32)(x))
        return nn.Dense(10)(x)


@pytest.fixture(scope="module")
def linen():
    """A train state, and its logits."""
    variables = randomised(jax.eval_shape(MLP().init, jax.random.key(0), IMAGES))
    state = train_state.TrainState.create(apply_fn=None, params=variables["params"], tx=optax.adam(1e-3))
    return state, MLP().apply(variables, IMAGES)


def test_the_name_of_a_file_says_nothing(tmp_path):
    for suffix in ("npz", "safetensors"):
        formats.write(tmp_path / f"x.{suffix}", STATE, suffix)
        for name in ("weights", "last.ckpt", "model_best.pth.tar", "x.pt"):
            (tmp_path / name).write_bytes((tmp_path / f"x.{suffix}").read_bytes())
            assert_loads(tmp_path / name, mlp_logits(STATE, NAMES))


def written(name_of, transposed=True):
    """The same network by other names, a function of number and role, with kernels instead of weights."""
    arrays = {}
    for number, layer in enumerate(NAMES):
        for role, array in (("kernel", STATE[f"{layer}.weight"]), ("bias", STATE[f"{layer}.bias"])):
            arrays[name_of(number, role)] = array.T if transposed else array
    return arrays


WRITTEN = {
    "as keystr": written(lambda number, role: f"['params']['Dense_{number}']['{role}']"),
    "as attributes": written(lambda number, role: f".layers[{number}].{role}"),
    "in one word": written(lambda number, role: f"Dense_{number}_{role}"),
    "of PyTorch, in one word": {key.replace(".", "_"): array for key, array in STATE.items()},
    "as in a formula": written(lambda number, role: f"{'W' if role == 'kernel' else 'b'}{number}"),
    "of Keras": written(lambda number, role: f"dense_{number}/dense_{number}/{role}:0"),
    "of TensorFlow": written(
        lambda number, role: f"layer{number}/{'weights' if role == 'kernel' else 'biases'}"
    ),
    "as pairs": written(lambda number, role: f"params/{number}/{int(role == 'bias')}"),
    "by positions": written(lambda number, role: f"arr_{2 * number + (role == 'bias')}"),
    "as model.parameters()": written(
        lambda number, role: f"{2 * number + (role == 'bias')}", transposed=False
    ),
}


@pytest.mark.parametrize("names", WRITTEN)
def test_names_say_the_same_however_they_are_written(names, tmp_path):
    np.savez(tmp_path / "x.npz", **WRITTEN[names])
    assert_loads(tmp_path / "x.npz", mlp_logits(STATE, NAMES))
    variables, source = load_variables(tmp_path / "x.npz", NETWORK, SHAPE)
    kept = source_arrays(variables, source)
    assert all((kept[key] == array).all() for key, array in WRITTEN[names].items())


def test_a_list_whose_matrices_might_be_either_way_round_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", *(np.eye(10), np.ones(10)) * 2)
    network = models.build({"name": "mlp", "hidden": (10,)}, (5, 2, 1), 10)
    with pytest.raises(UserError, match=r"nothing in it fits 'dense1' \(kernel 10x10, bias 10\)"):
        load_variables(tmp_path / "x.npz", network, (5, 2, 1))


def test_pickled_objects_are_told_to_be_what_a_file_holds(tmp_path):
    np.savez(tmp_path / "x.npz", params=np.array(STATE, object))
    with pytest.raises(UserError, match=r"and 'params' are pickled objects, which are not read$"):
        load_variables(tmp_path / "x.npz", NETWORK, SHAPE)


def test_of_the_steps_that_flax_saved_side_by_side_the_last_is_read(linen, tmp_path):
    state, logits = linen
    for step in (2, 10):
        tree = state if step == 10 else jax.tree.map(jnp.zeros_like, state)
        (tmp_path / f"checkpoint_{step}").write_bytes(serialization.to_bytes(tree))
    (tmp_path / "README").write_text("no weights")
    assert_loads(tmp_path, logits)


def test_a_tar_archive_is_named(tmp_path):
    with tarfile.open(tmp_path / "x.pth.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x.pth"))
    with pytest.raises(UserError, match=r"is a tar archive; unpack it first$"):
        formats.read(tmp_path / "x.pth.tar")


def test_shards_are_one_file_by_their_index(tmp_path):
    keys = list(STATE)
    shards = {"model-1.safetensors": keys[:3], "model-2.safetensors": keys[3:]}
    for name, own in shards.items():
        formats.write(tmp_path / name, {key: STATE[key] for key in own}, "safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, own in shards.items() for key in own}}))
    assert_loads(tmp_path, mlp_logits(STATE, NAMES))
    assert_loads(index, mlp_logits(STATE, NAMES))
    index.write_text(json.dumps({"weight_map": {"fc1.weight": "../secret.safetensors"}}))
    with pytest.raises(UserError, match=r"expected the names of files beside it$"):
        formats.read(tmp_path)


def test_the_directory_of_save_pretrained_is_its_weights(tmp_path):
    formats.write(tmp_path / "model.safetensors", STATE, "safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert_loads(tmp_path, mlp_logits(STATE, NAMES))


def test_the_last_step_of_a_checkpoint_manager_is_read(linen, tmp_path):
    state, logits = linen
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (90, 100):
            tree = state if step == 100 else jax.tree.map(jnp.zeros_like, state)
            manager.save(step, args=ocp.args.StandardSave(tree))
    for path in (tmp_path / "run", tmp_path / "run" / "100", tmp_path / "run" / "100" / "default"):
        assert_loads(path, logits)


def test_a_train_state_is_found_in_a_tree_and_in_msgpack(linen, tmp_path):
    state, logits = linen
    save({"model": state, "config": {"dimensions": np.array([5, 3])}, "data": [IMAGES]}, tmp_path / "tree")
    (tmp_path / "checkpoint_99").write_bytes(serialization.to_bytes(state))
    assert_loads(tmp_path / "tree", logits)
    assert_loads(tmp_path / "checkpoint_99", logits)


def test_the_state_of_an_nnx_model_is_read_beside_its_random_streams(tmp_path):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)
            self.norm, self.dropout = nnx.BatchNorm(32, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            x = self.norm(self.first(x.reshape(len(x), -1)), use_running_average=True)
            return self.last(self.dropout(nnx.relu(x), deterministic=True))

    model = Model(nnx.Rngs(0))
    _, state = nnx.split(model)
    save(nnx.to_pure_dict(state), tmp_path / "pure")
    save(state, tmp_path / "state")
    network = models.build({"name": "mlp", "hidden": (32,), "norm": "batch"}, SHAPE, 10)
    for name in ("pure", "state"):
        assert_loads(tmp_path / name, model(IMAGES), network)


def test_haikus_names_have_slashes_and_its_statistics_lie_elsewhere(tmp_path):
    generator = np.random.default_rng(0)
    w, v, scale = (generator.normal(size=size).astype(np.float32) for size in ((64, 32), (32, 10), (1, 32)))
    statistics = {"average": np.abs(scale), "hidden": scale, "counter": np.array(3)}
    tree = {
        "params": {
            "net/~/linear": {"w": w, "b": w[0]},
            "net/~/batch_norm": {"scale": scale, "offset": scale},
            "net/~/linear_1": {"w": v, "b": v[0]},
        },
        "state": {f"net/~/batch_norm/~/{name}_ema": statistics for name in ("mean", "var")},
    }
    (tmp_path / "x").write_bytes(serialization.msgpack_serialize(tree))
    x = IMAGES.reshape(len(IMAGES), -1) @ w.astype(float) + w[0]
    x = np.maximum((x - np.abs(scale)) / np.sqrt(np.abs(scale) + 1e-5) * scale + scale, 0)
    network = models.build({"name": "mlp", "hidden": (32,), "norm": "batch"}, SHAPE, 10)
    assert_loads(tmp_path / "x", x @ v + v[0], network)


def test_equinoxs_weights_are_pytorchs_in_a_tree(tmp_path):
    """Its convolutions have biases of three axes."""
    network = models.build({"name": "lenet", "width": 1 / 2}, (28, 28, 1), 10)
    variables = randomised(jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 28, 28, 1))))
    layers = []
    for name, own in variables["params"].items():
        kernel, bias = own["kernel"], own["bias"]
        if kernel.ndim == 4:
            layers += [{"weight": kernel.transpose(3, 2, 0, 1), "bias": bias.reshape(-1, 1, 1)}]
        elif name == "dense3":  # reads a map of 5x5 with 8 channels, flattened with the channels first
            layers += [
                {"weight": kernel.reshape(5, 5, 8, -1).transpose(3, 2, 0, 1).reshape(60, -1), "bias": bias}
            ]
        else:
            layers += [{"weight": kernel.T, "bias": bias}]
    save({"layers": layers}, tmp_path / "x")
    found, source = load_variables(tmp_path / "x", network, (28, 28, 1))
    assert source["framework"] == "Equinox"
    jax.tree.map(np.testing.assert_array_equal, found, variables)


# Hostile ones: one line, quickly, and in little memory.


def test_devices_and_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "zeros.npz").symlink_to("/dev/zero")
    for name in ("pipe.pt", "zeros.npz"):
        with pytest.raises(UserError, match=r"expected a file or a directory; found a device or a pipe$"):
            formats.read(tmp_path / name)


def claiming(shape):
    """A member of an `.npz` that says it holds an array of this shape."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return content.getvalue() + bytes(100)


def test_what_is_no_part_of_the_network_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for key, array in STATE.items():
            content = io.BytesIO()
            np.save(content, array)
            file.writestr(f"{key}.npy", content.getvalue())
        file.writestr("bomb.npy", claiming((2**20, 2**20)))
        file.writestr("README.txt", "no array")
    assert_loads(tmp_path / "x.npz", mlp_logits(STATE, NAMES))
    _, source = load_variables(tmp_path / "x.npz", NETWORK, SHAPE)
    assert source["notes"] == ["no part of it: bomb, README.txt", "not kept for export: bomb"]


def test_an_array_of_terabytes_is_refused_by_its_shape(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("fc1.weight.npy", claiming((2**20, 2**20)))
    with pytest.raises(UserError, match=r"'fc1' \(weight 1048576x1048576\) fits no layer$"):
        load_variables(tmp_path / "x.npz", NETWORK, SHAPE)


@pytest.mark.parametrize("name", ["²", "٣", "9" * 200, "latest"])
def test_a_directory_whose_name_is_no_step_is_none(name, tmp_path):
    (tmp_path / name).mkdir()
    assert checkpoint.steps(tmp_path) == []
    with pytest.raises(UserError, match=f"^{tmp_path}: expected a checkpoint of llfc_jax, a pytree saved by"):
        formats.read(tmp_path)


def zip_of(name):
    """An archive whose only member has a name that is no UTF-8, though it says so."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("data.pk\xe4", b"")
    return content.getvalue().replace("data.pk\xe4".encode(), name + b"l")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\x89HDF\r\n\x1a\n", "is a file of HDF5, as Keras writes them"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS, not the file itself"),
        (b"\x93NUMPY", "is an array of NumPy, or several without names, as Equinox's tree_serialise_leaves"),
        (b"\x89PNG\r\n", "is an image$"),
        (b"\x1f\x8b", "is compressed by gzip"),
        (b"hello", "expected weights in one of the formats safetensors, PyTorch"),
        (b"\xde\xff\xff", "is damaged, or not what its name says"),
        (b"\x81\xa1a\xc7\xff\x01", "is damaged, or not what its name says"),
        ((2**62).to_bytes(8, "little") + b"{", "is damaged, or not what its name says"),
        (b"PK\x03\x04", "is damaged, or not what its name says"),
        (zip_of(b"data.pk\xe4"), "is damaged, or not what its name says"),
    ],
)
def test_what_is_no_file_of_weights_is_called_what_it_is(content, line, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=line) as caught:
        formats.read(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_booleans_and_unsigned_integers_are_types_of_safetensors_and_float8_is_named(tmp_path):
    arrays = {"mask": np.array([True, False]), "bytes": np.arange(3, dtype=np.uint8)}
    formats.write(tmp_path / "x.safetensors", arrays, "safetensors")
    assert formats.holds(tmp_path / "x.safetensors", arrays)
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "y").write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(UserError, match=r"'x': float8 is not supported$"):
        formats.read(tmp_path / "y").arrays["x"]
