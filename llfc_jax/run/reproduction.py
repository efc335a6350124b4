"""A figure or a table of a paper as a configuration: the paper's own, or with a shorter training.

Imports no JAX, so that mistakes in names are told at once.
"""

from ml_collections import ConfigDict

from llfc_jax.errors import UserError
from llfc_jax.reporting import reading
from llfc_jax.run import configuration, points
from llfc_jax.run.published import REPRODUCTIONS, Reproduction


def find(name: str) -> Reproduction:
    """The figure or table of that name.

    Raises:
        UserError: there is none.
    """
    if name not in REPRODUCTIONS:
        raise UserError(f"expected one of {', '.join(REPRODUCTIONS)}; found {name!r}")
    return REPRODUCTIONS[name]


def overrides(name: str, scale: float, seeds: int, own: configuration.Overrides) -> configuration.Overrides:
    """What makes a reproduction of its configuration.

    Args:
        name: a key of `REPRODUCTIONS`.
        scale: of the epochs; below one epoch the training data are as much fewer. Of the test images, where
            nothing is trained.
        seeds: how many runs, of following seeds.
        own: fields of the user's, which come before the paper's.

    Raises:
        UserError: there is no such name, field or value.

    Example:
        >>> dict(overrides("llfc-cifar-resnet20", 0.05, 3, []))["train.spawn_epochs"]
        '0.25'
    """
    if not 0 < scale <= 1:
        raise UserError(f"--scale: expected a number above 0, up to 1; found {scale:g}")
    entry = find(name)
    found = [*entry.overrides, ("name", name), *own]
    if seeds != 1:
        found.append((points.REPLICATES, str(seeds)))
    return found if scale == 1 else [*found, *_shortened(configuration.load(entry.config, found), scale)]


def note(name: str, config: ConfigDict, scale: float) -> str:
    """What to keep in mind when ours and theirs are compared."""
    data = f"Data: {config.data.name} as it is in your data directory; another copy has other errors."
    if config.data.name == "cifar10":
        data += (
            " On one that went through JPEG, ResNet-20 ends at 12.5 % by LLFC's recipe, in place of 8.7 %."
        )
    if scale == 1:
        return data
    how = f"Trained at {scale:g} of the length ({reading.count(config.train.epochs, 'epoch')})"
    if config.pair.a is not None:
        how = f"Measured on {scale:g} of the test images"
    return f"{data}\n{how}: {find(name).scaled}."


def _shortened(config: ConfigDict, scale: float) -> configuration.Overrides:
    """What makes less of a configuration; nothing of one that can't be, which is told as it is.

    Raises:
        UserError: of its data, a part is to be taken of a part.
    """
    if config.pair.a is not None:
        return [("data.test_split", _part_of(config, "test_split", scale))]
    if config.train.epochs < 1:
        return []
    epochs = max(1, round(scale * config.train.epochs))
    spawned = config.train.spawn_epochs * epochs / config.train.epochs
    swept = tuple(epoch * epochs / config.train.epochs for epoch in config.train.spawn_sweep)
    found: configuration.Overrides = [("train.epochs", str(epochs)), ("train.spawn_epochs", f"{spawned:g}")]
    if swept:
        found.append(("train.spawn_sweep", str(swept)))
    if (part := scale * config.train.epochs) < 1:
        found.append(("data.train_split", _part_of(config, "train_split", part)))
    return found


def _part_of(config: ConfigDict, field: str, part: float) -> str:
    """The beginning of a split."""
    split = config.data[field]
    if "[" in split:
        raise UserError(
            f"--scale: expected a whole split in data.{field}, to take a part of; found {split!r}"
        )
    return f"{split}[:{max(1, round(100 * part))}%]"
