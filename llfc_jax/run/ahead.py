"""Programs of measuring, compiled while networks train, which both take long and leave cores idle."""

import contextlib
import threading
from collections.abc import Iterator

import jax

from llfc_jax.data import Split
from llfc_jax.data.batches import batches
from llfc_jax.measures.measure import TEST, TRAIN, build, compile_along
from llfc_jax.models.network import Network
from llfc_jax.path.curves import Curve
from llfc_jax.run.measurement import chunk_of, options, read_network
from llfc_jax.run.workbench import Workbench
from llfc_jax.runtime import processes, sharding


@contextlib.contextmanager
def compiling(bench: Workbench) -> Iterator[None]:
    """A stretch of other work, at whose end the measures of plain lines are compiled.

    Of networks of the zoo: what others do as they are traced need not go with their training beside it.
    They are whole on the devices of one process: how others are placed changes while they are aligned.
    """
    alone = processes.count() == 1 and bench.config.fsdp == 1
    if not (alone and bench.lineages and isinstance(bench.network, Network)):
        yield
        return
    worker = threading.Thread(target=_compile, args=(bench,), name="compile measures")
    worker.start()
    try:
        yield
    finally:
        worker.join()


def _compile(bench: Workbench) -> None:
    """By the networks' shapes, on what is in memory; what is wrong is for the measures themselves to say."""
    with contextlib.suppress(Exception), jax.default_matmul_precision("highest"):
        network = sharding.placed_shapes(bench.network.shapes(bench.inputs))
        first = {
            split: next(batches(examples, bench.eval_batch_size))
            for split in (TRAIN, TEST)
            if isinstance(examples := bench.measured[split], Split)
        }
        compile_along(
            read_network(bench, network),
            Curve(network, network),
            first,
            build(bench.config.measures, options(bench)),
            chunk=chunk_of(bench),
        )
