"""Kills either of two processes of a streamed run at random moments, until it has come through; run by hand.

    python tests/kill_anywhere.py [KILLS] [SEED]

Says for each kill when it came and what was saved by then, and at the end how far the numbers are from those
of one process that nobody killed. No test of the suite: every kill costs two starts.
"""

import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

import command  # noqa: E402
import record_files  # noqa: E402

FIELDS = {
    "data.name": "ragged",
    "data.train_split": "train",
    "data.test_split": "test",
    "data.size": "6",
    "data.memory": "0",
    "data.augment": "True",
    "data.crop": "resized",
    "model.hidden": "(8,)",
    "train.batch_size": "8",
    "train.epochs": "40",
    "eval.batch_size": "8",
    "corrections.examples": "16",
}
NAMES = "killed", "alone"
BOUND_S = 300
"""In which the other process has to end: it waits two minutes for one that never came."""


def start(workdir: Path, data_dir: Path, number: int) -> list[subprocess.Popen]:
    """The command in so many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    python = [sys.executable, "-m", "llfc_jax.main", "--config=configs/test.py", f"--workdir={workdir}"]
    python += [f"--config.{name}={value}" for name, value in FIELDS.items()]
    python += [f"--config.data.data_dir={data_dir}"]
    places = [[f"--coordinator={address}", f"--processes={number}", f"--process={i}"] for i in range(number)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(
            [*python, *(place if number > 1 else [])], env=command.environment(), cwd=ROOT, **pipes
        )
        for place in places
    ]


def main(kills: int = 10, seed: int = 0) -> None:
    """Kill, go on, compare."""
    moments, directory = random.Random(seed), Path(tempfile.mkdtemp(prefix="killed-"))
    generator = np.random.default_rng(seed)
    splits = {
        split: record_files.examples(generator, n, (5, 12), 3) for split, n in (("train", 48), ("test", 16))
    }
    record_files.write(directory / "sets", "ragged/1.0.0", splits, classes=3)
    began = time.monotonic()
    (alone,) = start(directory / NAMES[1], directory / "sets", 1)
    _, said = alone.communicate()
    assert alone.returncode == 0, said
    took = time.monotonic() - began
    for number in range(1, kills + 1):
        both = start(directory / NAMES[0], directory / "sets", 2)
        after, victim = moments.uniform(0, took), moments.randrange(2)
        time.sleep(after)
        both[victim].kill()
        _, said = both[1 - victim].communicate(timeout=BOUND_S)
        saved = sorted(path.name for path in (directory / NAMES[0] / "checkpoints").glob("*/*"))
        last = (said.strip().splitlines() or [""])[-1]
        print(
            f"{number}: process {victim} after {after:.1f} s; the other: {last}; {len(saved)} saved",
            flush=True,
        )
    both = start(directory / NAMES[0], directory / "sets", 2)
    said = [one.communicate()[1] for one in both]
    assert not any(one.returncode for one in both), said
    ours, theirs = (json.loads((directory / name / "results.json").read_text()) for name in NAMES)
    for measure in ("lmc", "llfc"):
        np.testing.assert_allclose(numbers(ours[measure]), numbers(theirs[measure]), rtol=1e-4, atol=1e-6)
    print(f"{kills} kills, and the numbers of one process")


def numbers(part: object) -> list[float]:
    """All of them, in order."""
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list):
        return [x for one in part for x in numbers(one)]
    return [float(part)] if isinstance(part, int | float) else []


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
