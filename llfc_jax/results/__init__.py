"""`results.json`: what it holds (`schema`), how keys are made (`keys`), whether one is sound (`check`)."""

from llfc_jax.results.check import check
from llfc_jax.results.keys import CONTROL, STAR, TASK, NetworkKey, PathKey
from llfc_jax.results.schema import SCHEMA_VERSION, Results

__all__ = ["CONTROL", "SCHEMA_VERSION", "STAR", "TASK", "NetworkKey", "PathKey", "Results", "check"]
