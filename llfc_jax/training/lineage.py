"""How pairs come about: networks that share a trunk, or nothing.

*Spawning* (Frankle et al. 2020): one initialisation, shared training for k steps, then children that differ
only in batch order, augmentation and dropout. *Independent*: different initialisations and orders.
"""

import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from llfc_jax.errors import UserError

TRUNK = "trunk"


class Lineage(NamedTuple):
    """One stretch of training that ends in a network."""

    name: str
    stream: int
    """Folded into the seed: draws the order of batches, augmentation and dropout."""
    init_stream: int
    """Folded into the seed: draws the initialisation (unused with a parent)."""
    parent: str | None
    first_step: int
    last_step: int


def plan(config: Mapping[str, Any], steps_per_epoch: int) -> tuple[Lineage, ...]:
    """The stretches to train, parents first.

    Args:
        config: the `train` section.
        steps_per_epoch: full batches in the training data.

    Raises:
        UserError: the trunk would outlast the training.

    Example:
        >>> config = {"pair": "spawn", "networks": 2, "epochs": 3, "spawn_epochs": 1, "spawn_steps": None}
        >>> [(one.name, one.first_step, one.last_step) for one in plan(config, steps_per_epoch=10)]
        [('trunk', 0, 10), ('a', 10, 30), ('b', 10, 30)]
    """
    last = config["epochs"] * steps_per_epoch
    names = network_names(config["networks"])
    if config["pair"] == "independent":
        return tuple(Lineage(name, index, index, None, 0, last) for index, name in enumerate(names, start=1))
    spawn = config["spawn_steps"]
    if spawn is None:
        spawn = round(config["spawn_epochs"] * steps_per_epoch)
    if spawn > last:
        raise UserError(f"config.train.spawn_steps: expected {last} (all of training) at most; found {spawn}")
    children = (Lineage(name, index, 0, TRUNK, spawn, last) for index, name in enumerate(names, start=1))
    return Lineage(TRUNK, 0, 0, None, 0, spawn), *children


def network_names(count: int) -> tuple[str, ...]:
    """a, b, c, ...

    Raises:
        UserError: more than the alphabet has.
    """
    if count > len(string.ascii_lowercase):
        raise UserError(f"config.train.networks: expected 26 at most; found {count}")
    return tuple(string.ascii_lowercase[:count])


def aligned_name(name: str) -> str:
    """What a network is called once it is permuted into the basin of `a`."""
    return f"{name}_aligned"
