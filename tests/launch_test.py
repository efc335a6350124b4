"""What the scripts of launch/ for several processes would start."""

import os
import shlex
import subprocess
import sys

import command
import pytest

RUN = ("cifar_vgg", "--workdir=/all/see this")


def would_start(script, *arguments, **variables):
    """The commands, as lists, that a dry run prints."""
    environment = os.environ | {"DRY_RUN": "1", "PYTHON": sys.executable} | variables
    process = subprocess.run(
        ["bash", f"launch/{script}", *arguments],
        cwd=command.ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return [shlex.split(line) for line in process.stdout.splitlines()]


def test_local_processes_are_given_one_coordinator_and_a_gpu_each():
    started = sorted(would_start("local.sh", "2", *RUN))
    assert [found[1] for found in started] == ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"]
    assert [found[-2] for found in started] == ["--process=0", "--process=1"]
    assert {found[-1] for found in started} == {RUN[1]}
    assert len({found[-4] for found in started}) == 1


def test_slurm_starts_the_same_command_in_every_task():
    (found,) = would_start("slurm_nodes.sbatch", *RUN)
    assert found[0] == "srun"
    assert found[-5:] == ["-m", "llfc_jax.main", "--config=cifar_vgg", "--processes=auto", RUN[1]]


def test_a_pod_starts_the_same_command_on_every_host():
    (found,) = would_start("tpu_pod.sh", "pod", *RUN, ZONE="here")
    *_, inside = found
    assert found[:7] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=here"]
    assert "--worker=all" in found
    run = shlex.split(inside.removeprefix("--command="))
    assert run[-3:] == ["--config=cifar_vgg", "--processes=auto", RUN[1]]


@pytest.mark.parametrize("script", ["local.sh", "slurm_nodes.sbatch", "tpu_pod.sh"])
def test_without_arguments_a_script_says_how_it_is_used(script):
    process = subprocess.run(["bash", f"launch/{script}"], cwd=command.ROOT, capture_output=True, text=True)
    assert process.returncode == 2
    assert f"launch/{script}" in process.stderr
    assert "cifar_vgg" in process.stderr
