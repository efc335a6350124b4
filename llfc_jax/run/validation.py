"""Checks on a configuration that need nothing but the configuration."""

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from llfc_jax.errors import UserError
from llfc_jax.matching.activations import STATISTICS
from llfc_jax.measures import MEASURES
from llfc_jax.run.alignment import METHODS
from llfc_jax.training.step import PRECISIONS

_CHOICES = {
    "measures": MEASURES,
    "train.pair": ("spawn", "independent"),
    "train.precision": tuple(PRECISIONS),
    "align.method": ("none", *METHODS),
    "align.statistic": tuple(STATISTICS),
}

_AT_LEAST = {
    "seed": 0,
    "model.dropout": 0,
    "model.hidden": 1,
    "model.pool": 1,
    "model.head": 1,
    "model.patch": 1,
    "model.blocks": 1,
    "model.heads": 1,
    "opt.momentum": 0,
    "opt.weight_decay": 0,
    "opt.decay_at": 0,
    "opt.decay_factor": 0,
    "train.networks": 2,
    "train.epochs": 1,
    "train.batch_size": 1,
    "train.checkpoint_every_epochs": 1,
    "train.checkpoint_every_minutes": 0,
    "train.spawn_epochs": 0,
    "train.spawn_steps": 0,
    "train.spawn_sweep": 0,
    "eval.batch_size": 1,
    "eval.train_examples": 0,
    "eval.alpha_chunk": 0,
    "lmc.num_alphas": 2,
    "llfc.alphas": 0,
    "principal_angles.top_k": 1,
    "corrections.examples": 0,
    "align.restarts": 1,
    "align.max_sweeps": 1,
    "align.examples": 0,
    "align.epochs": 1,
    "align.learning_rate": 0,
    "merge.alpha": 0,
}
_AT_MOST = {
    "seed": 2**32 - 1,
    "model.dropout": 1,
    "opt.decay_at": 1,
    "llfc.alphas": 1,
    "merge.alpha": 1,
}
"""Bounds of numbers, and of each of several numbers."""


def validate(config: ConfigDict) -> None:
    """Check ranges and choices.

    Raises:
        UserError: names the first field at fault, what was expected, what was found.
    """
    _check_complete(config)
    for field, value in _fields(config):
        if field in _AT_LEAST and value is not None:
            for number in value if isinstance(value, tuple) else (value,):
                _check_number(field, number)
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"config.{field}: expected a finite number; found {value}")
        for choice in value if isinstance(value, tuple) else (value,):
            if choice not in _CHOICES.get(field, (choice,)):
                choices = ", ".join(_CHOICES[field])
                raise UserError(f"config.{field}: expected one of {choices}; found {choice!r}")
    for field, other in (("pair.a", "pair.b"), ("data.mean", "data.std")):
        section, name, partner = *field.split("."), other.split(".")[1]
        if (config[section][name] is None) != (config[section][partner] is None):
            raise UserError(f"config.{field} and config.{other}: expected both or none; found one")
    sweep = config.train.spawn_sweep
    for field, unfit in (
        ("train.pair", config.train.pair != "spawn"),
        ("train.spawn_steps", config.train.spawn_steps is not None),
        ("pair.a", config.pair.a is not None),
        ("merge.alpha", config.merge.alpha is not None),
    ):
        if sweep and unfit:
            raise UserError(f"config.train.spawn_sweep={sweep} doesn't go with config.{field}")
    if config.pair.a is not None and config.train.networks != 2:
        raise UserError(
            f"config.train.networks: expected 2 with config.pair.a and b; found {config.train.networks}"
        )
    if not config.llfc.alphas:
        raise UserError("config.llfc.alphas: expected one at least; found none")
    by_epochs = config.train.pair == "spawn" and config.train.spawn_steps is None
    field = "spawn_sweep" if sweep else "spawn_epochs"
    latest = max(sweep) if sweep else config.train.spawn_epochs
    if by_epochs and latest > config.train.epochs:
        raise UserError(
            f"config.train.{field}: expected train.epochs={config.train.epochs} at most; found {latest}"
        )


def _check_complete(config: Any) -> None:
    if not isinstance(config, ConfigDict):
        raise UserError(f"config: expected get_config to return a ConfigDict; found {type(config).__name__}")
    known = {field for field, _ in _fields(config)}
    for field in (*_AT_LEAST, *_CHOICES):
        if field not in known:
            raise UserError(
                f"config.{field}: expected the fields of configs/default.py; found none of this name"
            )


def _fields(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every field."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _check_number(field: str, number: Any) -> None:
    least, most = _AT_LEAST[field], _AT_MOST.get(field, math.inf)
    if not isinstance(number, int | float) or not least <= number <= most or number == math.inf:
        expected = f"{least} at least" if most == math.inf else f"a number in [{least}, {most}]"
        raise UserError(f"config.{field}: expected {expected}; found {number!r}")
