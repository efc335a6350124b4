"""How pairs come about: networks that share a trunk, or nothing.

*Spawning* (Frankle et al. 2020): one initialisation, shared training for k steps, then children that differ
only in batch order, augmentation and dropout. *Twins* (the butterfly effect, 2025, arXiv 2506.13234): the
children have the same of all these, and differ by noise that is added to the weights of all but the first at
step k. Children of both kinds may begin some layers anew, as heads of their own. *Independent*: different
initialisations and orders. A *sweep* spawns children at several k from the one trunk, which is trained once.
A *control*, trained beside a pair with a trunk, shares nothing with it: the null of whatever is said about
the pair.
"""

import string
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from llfc_jax.errors import UserError
from llfc_jax.results import CONTROL, TASK, NetworkKey

TRUNK = "trunk"
SPAWN, TWINS, INDEPENDENT = PAIRS = "spawn", "twins", "independent"
"""How pairs come about; the first two have a trunk."""
MERGED = "merged"
"""What a network between two others is called."""


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
    noise: float = 0.0
    """On the weights where it leaves its parent, in units of each array's root mean square."""
    own_stream: int = 0
    """Folded into the seed: draws the noise, and layers that are begun anew."""
    fresh: tuple[str, ...] = ()
    """Layers that are begun anew where it leaves its parent."""

    @property
    def is_trunk(self) -> bool:
        """Whether others go on from where it ends."""
        return NetworkKey.parse(self.name).name == TRUNK


def plan(config: Mapping[str, Any], steps_per_epoch: int) -> tuple[Lineage, ...]:
    """The stretches to train, parents first.

    Args:
        config: the `train` section.
        steps_per_epoch: full batches in the training data.

    Raises:
        UserError: the trunk would outlast the training.

    Example:
        >>> config = {"pair": "spawn", "networks": 2, "epochs": 3, "spawn_epochs": 1, "spawn_steps": None}
        >>> config |= {"spawn_sweep": (), "control": False, "fresh": ()}
        >>> [(one.name, one.first_step, one.last_step) for one in plan(config, steps_per_epoch=10)]
        [('trunk', 0, 10), ('a', 10, 30), ('b', 10, 30)]
    """
    last = config["epochs"] * steps_per_epoch
    names = network_names(config["networks"])
    if config["pair"] == INDEPENDENT:
        return tuple(Lineage(name, index, index, None, 0, last) for index, name in enumerate(names, start=1))
    noise = config["noise"] if config["pair"] == TWINS else None
    parted = partial(_children, noise=noise, fresh=tuple(config["fresh"]), last=last)
    if config["spawn_sweep"]:
        return tuple(_sweep(names, config["spawn_sweep"], steps_per_epoch, parted))
    spawn = config["spawn_steps"]
    if spawn is None:
        spawn = round(config["spawn_epochs"] * steps_per_epoch)
    if spawn > last:
        raise UserError(f"config.train.spawn_steps: expected {last} (all of training) at most; found {spawn}")
    stream = len(names) + 1
    control = [Lineage(CONTROL, stream, stream, None, 0, last)] if config["control"] else []
    return Lineage(TRUNK, 0, 0, None, 0, spawn), *parted(names, TRUNK, spawn), *control


def families(config: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The names of the networks that are compared with each other; with a sweep, those of one spawn epoch.

    Args:
        config: the `train` section.

    Example:
        >>> families({"networks": 2, "pair": "spawn", "spawn_sweep": (0.0, 2.0)})
        (('a@0', 'b@0'), ('a@2', 'b@2'))
    """
    names = network_names(config["networks"])
    if config["pair"] != INDEPENDENT and config["spawn_sweep"]:
        epochs = sorted({*config["spawn_sweep"]})
        return tuple(tuple(_spawned(name, epoch) for name in names) for epoch in epochs)
    return (names,)


def _sweep(
    names: tuple[str, ...],
    epochs: tuple[float, ...],
    per_epoch: int,
    parted: Callable[[tuple[str, ...], str, int], Iterator[Lineage]],
) -> Iterator[Lineage]:
    """Stretches of one trunk, each with its children: the trunk's randomness depends on the step alone."""
    parent, first = None, 0
    for epoch in sorted({*epochs}):
        trunk, spawn = _spawned(TRUNK, epoch), round(epoch * per_epoch)
        yield Lineage(trunk, 0, 0, parent, first, spawn)
        yield from parted(tuple(_spawned(name, epoch) for name in names), trunk, spawn)
        parent, first = trunk, spawn


def _children(
    names: tuple[str, ...],
    trunk: str,
    spawn: int,
    *,
    last: int,
    noise: float | None,
    fresh: tuple[str, ...],
) -> Iterator[Lineage]:
    """Of different streams; or, where there is noise, even none, of one stream and different noise."""
    for index, name in enumerate(names, start=1):
        stream = index if noise is None else 1
        own_noise = noise if noise is not None and index > 1 else 0.0
        yield Lineage(name, stream, 0, trunk, spawn, last, own_noise, index, fresh)


def _spawned(name: str, epoch: float) -> str:
    return str(NetworkKey(name, spawn_epoch=epoch))


def network_names(count: int) -> tuple[str, ...]:
    """a, b, c, ...

    Raises:
        UserError: more than the alphabet has.
    """
    if count > len(string.ascii_lowercase):
        raise UserError(f"config.train.networks: expected 26 at most; found {count}")
    return tuple(string.ascii_lowercase[:count])


def task_name(name: str) -> str:
    """What a network is called that lies on the line from the trunk to another."""
    key = NetworkKey.parse(name)
    return str(key._replace(name=f"{TASK}{key.name}"))


def aligned_name(name: str) -> str:
    """What a network is called once it is permuted into the basin of `a`."""
    return str(NetworkKey.parse(name)._replace(aligned=True))
