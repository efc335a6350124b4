"""Files of the user's own networks: every array in its place, or one line on the first that is not."""

import importlib.util
import re
import sys

import flax.serialization
import jax
import numpy as np
import own_files
import pytest

from llfc_jax import models
from llfc_jax.errors import UserError
from llfc_jax.interchange import formats, read_own, source_arrays, trained_source
from llfc_jax.models.own.network import by_path

SHAPE = (8, 8, 1)
IMAGES = np.ones((2, *SHAPE), np.float32)
HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "torchax"))
WITH_TORCH = pytest.mark.skipif(not HAS_TORCH, reason="needs torch and torchax, of the extra [torch]")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory, path = tmp_path_factory.mktemp("own"), [*sys.path]
    (directory / "jax_nets.py").write_text(own_files.FLAX)
    (directory / "torch_nets.py").write_text(own_files.TORCH)
    yield directory
    sys.path[:] = path


@pytest.fixture(scope="module")
def linen(directory):
    network = models.make({"name": f"{directory}/jax_nets.py:Linen", "args": {}}, SHAPE, 10)
    return network, jax.device_get(network.draw(jax.random.key(5), IMAGES))


def written(path, tree):
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tree: tree,
        lambda tree: {"model": tree, "step": np.int32(3)},
        lambda tree: {**tree, "opt_state": {"mu": tree["params"]}},
    ],
    ids=["bare", "within", "beside its optimizer"],
)
def test_a_tree_is_found_wherever_it_lies(wrap, linen, tmp_path):
    network, variables = linen
    found, source = read_own(written(tmp_path / "a.msgpack", wrap(variables)), network)
    assert_same(found, variables)
    assert source["matched_by"] == f"names of {network.origin.written}"


def test_what_goes_out_is_what_came_in(linen, tmp_path):
    network, variables = linen
    formats.write(tmp_path / "a.npz", {k.replace("/", "."): v for k, v in by_path(variables).items()}, "npz")
    found, source = read_own(tmp_path / "a.npz", network)
    assert_same(found, variables)
    assert formats.holds(tmp_path / "a.npz", source_arrays(found, source))


def test_several_networks_in_a_file_are_asked_for(linen, tmp_path):
    network, variables = linen
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    path = written(tmp_path / "two.msgpack", {"old": other, "new": variables})
    with pytest.raises(UserError, match=r"holds 2 networks that fit; choose one by config.pair.entry=…: "):
        read_own(path, network)
    assert_same(read_own(path, network, entry="new")[0], variables)
    with pytest.raises(UserError, match=r"config.pair.entry=none: it has no such part; it has new, old"):
        read_own(path, network, entry="none")
    averaged = written(tmp_path / "ema.msgpack", {"ema": other, "net": variables})
    assert_same(read_own(averaged, network)[0], variables)


def changed(variables, path, change):
    leaves = by_path(variables)
    leaves[path] = change(leaves[path])
    return jax.tree.unflatten(jax.tree.structure(variables), leaves.values())


KERNEL = "params/Dense_1/kernel"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda tree: changed(tree, KERNEL, lambda leaf: leaf[:5]),
            r"'params/Dense_1/kernel' is 5x10 \(expected 8x10\)",
        ),
        (
            lambda tree: {**tree, "params": {k: v for k, v in tree["params"].items() if k != "Dense_1"}},
            r"'params/Dense_1/bias' \(10\) is missing, 1 more like it",
        ),
        (
            lambda tree: {**tree, "params": {**tree["params"], "Dense_2": {"bias": np.zeros(3)}}},
            r"'params.Dense_2.bias' \(3\) is left over",
        ),
        (
            lambda tree: changed(tree, KERNEL, lambda leaf: leaf.astype(np.int32)),
            r"'params/Dense_1/kernel': expected float32; found int32",
        ),
        (
            lambda tree: changed(tree, KERNEL, lambda leaf: leaf * np.nan),
            r"'params/Dense_1/kernel': expected finite numbers of float32; found NaN or infinity",
        ),
        (
            lambda tree: {"x": np.ones(3)},
            r"'batch_stats/BatchNorm_0/mean' \(8\) is missing, as are all others; it has x",
        ),
    ],
    ids=["shape", "missing", "left over", "kind", "not finite", "nothing of it"],
)
def test_another_network_is_one_line(change, line, linen, tmp_path):
    network, variables = linen
    path = written(tmp_path / "a.msgpack", change(variables))
    with pytest.raises(UserError) as caught:
        read_own(path, network)
    assert re.fullmatch(f"{path} does not fit the model: {line}", str(caught.value)), str(caught.value)


@WITH_TORCH
def test_a_state_dict_is_read_with_its_counters_and_goes_out_bit_for_bit(directory, tmp_path):
    import torch

    network = models.make({"name": f"{directory}/torch_nets.py:Net", "args": {}}, SHAPE, 10)
    state = network.definition._network.state_dict(network.draw(jax.random.key(2), IMAGES))
    state["norm.num_batches_tracked"].fill_(7)
    torch.save({"epoch": 3, "model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pt")
    found, source = read_own(tmp_path / "a.pt", network)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
    out = source_arrays(found, source)
    assert list(out) == [f"module.{name}" for name in state]
    assert all(out[f"module.{name}"].tobytes() == tensor.numpy().tobytes() for name, tensor in state.items())


@WITH_TORCH
def test_of_two_names_of_one_tensor_one_will_do_both_go_out_and_two_that_differ_are_refused(
    directory, tmp_path
):
    network = models.make({"name": f"{directory}/torch_nets.py:Tied", "args": {}}, SHAPE, 10)
    variables = jax.device_get(network.draw(jax.random.key(2), IMAGES))
    assert "two.weight" not in variables
    formats.write(tmp_path / "one.safetensors", variables, "safetensors")
    assert_same(read_own(tmp_path / "one.safetensors", network)[0], variables)
    out = source_arrays(variables, trained_source(network))
    np.testing.assert_array_equal(out["two.weight"], variables["one.weight"])
    formats.write(tmp_path / "two.npz", {**out, "two.weight": out["two.weight"] + 1}, "npz")
    with pytest.raises(UserError, match=r"'one.weight' and 'two.weight' are one array in the model; found"):
        read_own(tmp_path / "two.npz", network)
