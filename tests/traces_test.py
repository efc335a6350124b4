"""What was traced once is not traced again: not for a second epoch, batch, network or pair.

Nor are measures that are made anew, for a program that is read anew: see `scaling_test`.
"""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import traces

from llfc_jax import models
from llfc_jax.corrections import repair as repairing
from llfc_jax.corrections.batchnorm import recompute_by
from llfc_jax.data.batches import batches
from llfc_jax.data.dataset import Split
from llfc_jax.measures.evaluation import evaluate
from llfc_jax.measures.lmc import lmc
from llfc_jax.models.network import with_statistics
from llfc_jax.path.curves import Curve
from llfc_jax.path.traversal import Planned, measure_path
from llfc_jax.program.reading import read_features
from llfc_jax.runtime import sharding
from llfc_jax.training import optimizers
from llfc_jax.training.loop import create
from llfc_jax.training.step import Recipe, epoch_batches, make_runner

IMAGE, BATCH, EXAMPLES = (3, 3, 1), 8, 24
ALPHAS = (0.0, 0.5, 1.0)
PLAN = {"lmc": Planned(lmc(), ALPHAS)}
OPT = {
    "name": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup": 0.0,
    "decay_at": (),
    "clip": 0.0,
}


class Case:
    """A network, and what is done with it."""

    def __init__(self, norm):
        self.network = models.build({"name": "mlp", "hidden": (5,), "norm": norm}, IMAGE, 4)
        optimizer, _ = optimizers.build(OPT, 6)
        self.recipe = Recipe(self.network, optimizer, lambda key, images: self.preprocess(images))
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (EXAMPLES, *IMAGE), dtype=np.uint8)
        self.data = Split(images, generator.integers(0, 4, EXAMPLES, dtype=np.int32))
        self.runners = {scan: make_runner(self.recipe, *self.data, scan=scan) for scan in (True, False)}

    def preprocess(self, images):
        return images / 255

    def apply_with_features(self, variables, images):
        return self.network.apply_with_features(variables, self.preprocess(images))

    def apply(self, variables, images):
        return self.network.apply(variables, self.preprocess(images))

    def batch_statistics(self, variables, images):
        return self.network.apply_train(variables, self.preprocess(images), key=None, momentum=0.0)[1]

    def start(self, seed):
        return sharding.replicate(
            create(jax.random.key(seed), self.recipe, jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32))
        )

    def pair(self, seed):
        return self.start(seed).variables, self.start(seed + 1).variables

    @cached_property
    def program(self):
        first = next(self.batches())
        return read_features(self.apply_with_features, self.start(0).variables, first.images)

    def batches(self):
        return batches(self.data, BATCH)


def train(case, seed, scan):
    """Two epochs, of which the second traces nothing new."""
    key, state, counts = jax.random.key(seed), case.start(seed), []
    for epoch in range(2):
        with traces() as seen:
            *_, (state, _) = case.runners[scan](key, state, epoch_batches(key, epoch, EXAMPLES, BATCH))
        counts.append(len(seen))
    assert not counts[1]


def measure(case, seed):
    """Three batches, of which the others than the first trace nothing new."""
    counts = []

    def counted():
        for batch in case.batches():
            with traces() as seen:
                yield batch
            counts.append(len(seen))

    measure_path(case.program, Curve(*case.pair(seed)), counted(), PLAN)
    assert counts[1:] == [0, 0]


def repair(case, seed):
    repairing.repair(case.program).statistics(case.program, Curve(*case.pair(seed)), ALPHAS, case.batches)


def recompute(case, seed):
    correction = recompute_by(case.batch_statistics, with_statistics)
    correction.statistics(case.program, Curve(*case.pair(seed)), ALPHAS, case.batches)


WORK = {
    "training, in scans": lambda case, seed: train(case, seed, True),
    "training, step by step": lambda case, seed: train(case, seed, False),
    "evaluation": lambda case, seed: evaluate(case.apply, case.start(seed).variables, case.batches()),
    "measurement": measure,
    "recomputed statistics": recompute,
    "REPAIR": repair,
}


@pytest.mark.parametrize("name", WORK)
def test_a_second_network_or_pair_traces_nothing_new_nor_does_a_second_epoch_or_batch(name):
    case = Case("none" if name == "REPAIR" else "batch")
    with traces() as first:
        WORK[name](case, seed=0)
    with traces() as second:
        WORK[name](case, seed=1)
    assert first
    assert not second
