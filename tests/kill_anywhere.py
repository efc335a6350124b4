"""Kills either of two processes of a streamed run at random moments, until it has come through; run by hand.

    python tests/kill_anywhere.py [KILLS] [SEED]

Says for each kill when it came and what was saved by then, and that the numbers in the end are, bit for bit,
those of two processes that nobody killed. No test of the suite: every kill costs two starts.
"""

import itertools
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
BOUND_S = 300
"""In which the other process has to end: it waits two minutes for one that never came."""


def start(workdir: Path, data_dir: Path) -> list[subprocess.Popen]:
    """The command in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    python = [sys.executable, "-m", "llfc_jax.main", "--config=configs/test.py", f"--workdir={workdir}"]
    python += [f"--config.{name}={value}" for name, value in FIELDS.items()]
    python += [f"--config.data.data_dir={data_dir}", f"--coordinator={address}", "--processes=2"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen([*python, f"--process={i}"], env=command.environment(), cwd=ROOT, **pipes)
        for i in range(2)
    ]


def through(workdir: Path, data_dir: Path) -> dict:
    """The results of two processes that are left alone from here."""
    both = start(workdir, data_dir)
    said = [one.communicate()[1] for one in both]
    assert not any(one.returncode for one in both), said
    return json.loads((workdir / "results.json").read_text())


def main(kills: int = 10, seed: int = 0) -> None:
    """Kill, go on, compare; where a run comes through before, the next begins."""
    moments, directory = random.Random(seed), Path(tempfile.mkdtemp(prefix="killed-"))
    sets, generator = directory / "sets", np.random.default_rng(seed)
    splits = {
        split: record_files.examples(generator, n, (5, 12), 3) for split, n in (("train", 48), ("test", 16))
    }
    record_files.write(sets, "ragged/1.0.0", splits, classes=3)
    began = time.monotonic()
    undisturbed = through(directory / "undisturbed", sets)
    took = time.monotonic() - began
    number = 0
    for run in itertools.count():
        workdir = directory / str(run)
        while number < kills and not (workdir / "results.json").exists():
            both = start(workdir, sets)
            after, victim = moments.uniform(0, took), moments.randrange(2)
            time.sleep(after)
            both[victim].kill()
            _, said = both[1 - victim].communicate(timeout=BOUND_S)
            if (workdir / "results.json").exists():
                break
            number += 1
            saved = len([*(workdir / "checkpoints").glob("*/*")])
            last = (said.strip().splitlines() or [""])[-1]
            print(
                f"{number}: process {victim} after {after:.1f} s, {saved} saved; the other: {last}",
                flush=True,
            )
        found = through(workdir, sets)
        for measure in ("lmc", "llfc"):
            assert found[measure] == undisturbed[measure], (workdir, measure)
        print(f"run {run}: the numbers are those of an undisturbed one", flush=True)
        if number == kills:
            return


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
