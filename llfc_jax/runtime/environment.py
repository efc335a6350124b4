"""What a run ran on."""

import importlib.metadata
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from llfc_jax.runtime.limits import host_memory_bytes

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe() -> dict[str, Any]:
    """Versions, device and the commit of the source (`-dirty` with changes; None outside a git checkout)."""
    return {
        **versions(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "git_commit": _git_commit(),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that make the numbers."""
    found = {package.removesuffix("-checkpoint"): importlib.metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), **found}


def memory_bytes() -> int:
    """What the device has of memory; on CPUs, what this process may take."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit or host_memory_bytes()


def peak_memory_bytes() -> int:
    """The largest resident set of this process so far; on an accelerator, the most it held of its memory."""
    if device := jax.local_devices()[0].memory_stats():
        return device["peak_bytes_in_use"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _git_commit() -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # it may lie within another repository
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None
