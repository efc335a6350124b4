"""`python -m llfc_jax.benchmark.shares 1 2 4`: a path by so many processes of one core each, on this machine.

LMC at 25 alphas and LLFC at 3 along the MLP's path over 2,000 images, once it is compiled: the seconds that
it takes, which other work on the machine disturbs, and those of its core. On Linux.
"""

import os
import socket
import statistics
import subprocess
import sys
import time

import jax

import llfc_jax
from llfc_jax.benchmark.cases import CASES

_REPEATS = 5


def main(counts: list[int]) -> None:
    """Print a line for each process of each count."""
    for count in counts:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        started = [
            subprocess.Popen([sys.executable, "-m", __spec__.name, address, str(count), str(index)])
            for index in range(count)
        ]
        for process in started:
            process.wait()


def one(address: str, count: int, index: int) -> None:
    """As one of several processes: measure, and say how long it took."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})
    if count > 1:
        jax.distributed.initialize(address, count, index)
    case = CASES["mlp"]
    images, labels = case.split()
    halves = [(images[i::2].astype("float32") / 255, labels[i::2]) for i in range(2)]
    a, b = case.variables(0), case.variables(1)
    program = llfc_jax.read(case.network.apply, a, halves[0][0])
    walls, cores_busy = [], []
    for _ in range(1 + _REPEATS):
        wall, busy = time.perf_counter(), time.process_time()
        llfc_jax.measure(program, a, b, halves, measures=("lmc", "llfc"))
        walls.append(time.perf_counter() - wall)
        cores_busy.append(time.process_time() - busy)
    wall, busy = (statistics.median(each[1:]) for each in (walls, cores_busy))
    print(f"process {index} of {count}: {wall:.2f} s, {busy:.2f} s of its core", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4 and ":" in sys.argv[1]:
        one(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main([int(count) for count in sys.argv[1:]])
