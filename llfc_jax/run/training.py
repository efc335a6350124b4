"""A trained pair for a notebook: what the command trains, without its files."""

import copy
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from llfc_jax.data import Split
from llfc_jax.data.batches import Repeatable, batches
from llfc_jax.errors import UserError
from llfc_jax.models.function import FunctionModel
from llfc_jax.program.nodes import Program
from llfc_jax.run import configuration
from llfc_jax.run.experiment import train
from llfc_jax.run.measurement import read_network
from llfc_jax.run.validation import validate
from llfc_jax.run.workbench import prepare
from llfc_jax.runtime import sharding
from llfc_jax.storage import checkpoint
from llfc_jax.types import Array, Batch, PRNGKey, PyTree, Variables


class Pair(NamedTuple):
    """Two networks, and what to compare them on."""

    program: Program
    """Of raw images."""
    a: Variables
    b: Variables
    batches: Mapping[str, Iterable[Batch]]
    """`train` and `test`: those that the command measures on; lists, but of what is streamed."""


def train_pair(
    config: str | ConfigDict = configuration.DEFAULT,
    fields: Mapping[str, Any] | None = None,
    network: tuple[Callable[[PRNGKey, Array], PyTree], Callable[[PyTree, Array], Array]] | None = None,
) -> Pair:
    """Train two networks as a configuration of the command says: `a` and `b`, in memory.

    Args:
        config: name or file, as `--config` takes it, or what `get_config` returns.
        fields: dotted field -> value, such as `{"train.epochs": 2, "data.name": "mine.npz"}`.
        network: (init, apply) of your own in place of `config.model`: key, inputs -> parameters, and
            parameters, inputs -> logits; the inputs are normalised images (n, h, w, c).

    Returns:
        `(program, a, b, batches)`, for `align`, `measure` and `report`.

    Raises:
        UserError: as the command.
    """
    chosen = configuration.load(config, []) if isinstance(config, str) else copy.deepcopy(config)
    for field, value in (fields or {}).items():
        configuration.override(chosen, field, str(value))
    if chosen.pair.a is not None:
        raise UserError(f"config.pair.a: expected a pair to train; found {chosen.pair.a}")
    if chosen.replicates != 1:
        raise UserError(f"config.replicates: expected 1, of one pair; found {chosen.replicates}")
    validate(chosen)
    bench = prepare(chosen, None if network is None else FunctionModel(*network))
    with (
        jax.default_matmul_precision("highest"),  # a training step has its own
        sharding.split(chosen.fsdp),
        tempfile.TemporaryDirectory(prefix="llfc_jax-") as directory,
    ):
        train(bench, Path(directory))
        name_a, name_b = bench.families[0][:2]
        a, b = (checkpoint.restore(Path(directory) / name).variables for name in (name_a, name_b))
        program = read_network(bench, a)
    size = bench.eval_batch_size
    measured = {
        split: list(batches(examples, size)) if isinstance(examples, Split) else Repeatable(examples, size)
        for split, examples in bench.measured.items()
    }
    return Pair(program, a, b, measured)
