"""Checks on a configuration that need nothing but the configuration."""

from typing import Any

from ml_collections import ConfigDict

from llfc_jax.errors import UserError

MEASURES = ("lmc", "llfc")
PAIRS = ("spawn", "independent")

_AT_LEAST = {
    "train.networks": 2,
    "train.epochs": 1,
    "train.batch_size": 1,
    "train.checkpoint_every_epochs": 1,
    "train.spawn_epochs": 0,
    "train.spawn_steps": 0,
    "eval.batch_size": 1,
    "eval.train_examples": 0,
    "eval.alpha_chunk": 0,
    "lmc.num_alphas": 2,
    "batch_stats.examples": 0,
    "opt.momentum": 0,
    "opt.weight_decay": 0,
}


def validate(config: ConfigDict) -> None:
    """Check ranges and choices.

    Raises:
        UserError: names the first field at fault, what was expected, what was found.
    """
    for field, least in _AT_LEAST.items():
        value = _get(config, field)
        if value is not None and value < least:
            raise UserError(f"config.{field}: expected {least} at least; found {value}")
    for measure in config.measures:
        _check_choice("measures", measure, MEASURES)
    _check_choice("train.pair", config.train.pair, PAIRS)
    for alpha in config.llfc.alphas:
        if not 0 <= alpha <= 1:
            raise UserError(f"config.llfc.alphas: expected numbers in [0, 1]; found {alpha}")
    by_epochs = config.train.pair == "spawn" and config.train.spawn_steps is None
    if by_epochs and config.train.spawn_epochs > config.train.epochs:
        raise UserError(
            f"config.train.spawn_epochs: expected train.epochs={config.train.epochs} at most; "
            f"found {config.train.spawn_epochs}"
        )


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"config.{field}: expected one of {', '.join(choices)}; found {value!r}")


def _get(config: ConfigDict, field: str) -> Any:
    section, name = field.split(".")
    return config[section][name]
