"""What the library finds on a small pair, and reads, in a process alone or in one of several."""

import json

import jax
import numpy as np

import llfc_jax
from llfc_jax.corrections.repair import repair
from llfc_jax.interchange import formats
from llfc_jax.path.examples import masked_batches, over_devices
from llfc_jax.runtime import processes
from llfc_jax.storage import checkpoint


def apply(weights, x):
    return jax.nn.relu(x @ weights["in"] + weights["bias"][None]) @ weights["out"]


def found():
    """Of networks that lie on one device each, and batches that don't divide among four devices."""
    generator, devices = np.random.default_rng(0), jax.local_devices()
    shapes = {"in": (6, 5), "bias": (5,), "out": (5, 3)}
    a, b, c = (
        jax.device_put(
            {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
            devices[number % len(devices)],
        )
        for number in range(3)
    )
    batches = [
        (generator.normal(size=(n, 6)).astype(np.float32), generator.integers(0, 3, n)) for n in (50, 21)
    ]
    program = llfc_jax.read(apply, a, batches[0][0])
    measured = llfc_jax.measure(
        program,
        a,
        b,
        {"test": batches, "train": batches},
        measures=("lmc",),
        num_alphas=3,
        alphas=(0.5,),
        corrections=[repair(program)],
    )
    plane = llfc_jax.evaluate_plane(apply, a, b, c, batches, size=2)
    first = next(over_devices(masked_batches(batches, divide=True)))
    rows = len(first.images.addressable_shards[0].data)
    return json.loads(json.dumps({"lmc": measured["lmc"], "plane": plane, "rows": rows}))


def imported(network):
    """The sum of all arrays of a checkpoint, and of the bare pytree in it, as each process reads them."""
    pytree = network / str(checkpoint.steps(network)[-1]) / "variables"
    with processes.in_turn():
        files = [formats.read(path) for path in (network, pytree)]
    return [sum(float(np.abs(array).sum()) for array in file.arrays.values()) for file in files]
