"""Checks on a configuration that need nothing but the configuration."""

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from llfc_jax.data.loading import CROPS, RESIZED
from llfc_jax.errors import UserError
from llfc_jax.matching.activations import STATISTICS
from llfc_jax.matching.alignment import MATCHERS, UNIVERSE
from llfc_jax.matching.learned import RELAXATIONS
from llfc_jax.measures import MEASURES
from llfc_jax.models import CHOICES, MODELS, options_of
from llfc_jax.path.curves import BENT, LINE
from llfc_jax.run.configuration import defaults, fields, file_name
from llfc_jax.run.rules import Rule, choice, finite, number, shown, switch, text, whole
from llfc_jax.storage.paths import expand, is_in_file
from llfc_jax.symmetry.exponents import KINDS, ROTARY
from llfc_jax.training.lineage import INDEPENDENT, PAIRS, TWINS, network_names
from llfc_jax.training.optimizers import OPTIMIZERS, SCHEDULES
from llfc_jax.training.step import PRECISIONS

_COUNT, _FRACTION = whole(0), number(0, 1)
_WIDTH = whole(1, 2**31 - 1)  # of a layer: XLA counts no further
_EPOCHS, _DESCENTS, _SEVERAL = 100_000, 10_000, 1_000
"""More epochs, descents, or values of one field than anybody means: they would end in no memory, or never."""

RULES: Mapping[str, Rule] = {
    "name": text(),
    "seed": whole(0, 2**32 - 1),
    "replicates": whole(1, _SEVERAL),
    "fsdp": whole(1),
    "measures": choice(*MEASURES),
    "data.name": text(),
    "data.data_dir": text(),
    "data.train_split": text(),
    "data.test_split": text(),
    "data.classes": whole(0, 2**31 - 1),
    "data.memory": number(0, 2**30),
    "data.workers": whole(0, 512),
    "data.augment": switch(),
    "data.crop": choice(*CROPS),
    "data.size": whole(1, 4096),
    "data.resize": whole(1, 4096),
    "data.block": _WIDTH,
    "data.mean": finite(),
    "data.std": number(0, above=True),
    "pair.a": text(),
    "pair.b": text(),
    "pair.entry": text(),
    "model.name": Rule(
        lambda value: isinstance(value, str) and (value in MODELS or is_in_file(value)),
        f"one of {', '.join(MODELS)}, FILE.py:NAME",
    ),
    "model.output": text(),
    "model.sha256": Rule(
        lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
        "64 hexadecimal digits",
    ),
    "model.width": number(0, above=True),
    "model.norm": choice(*CHOICES["norm"]),
    "model.padding": choice(*CHOICES["padding"]),
    "model.epsilon": number(0, 1, below=True),
    "model.activation": choice(*CHOICES["activation"]),
    "model.pooling": choice(*CHOICES["pooling"]),
    "model.hidden": _WIDTH,
    "model.pool": whole(1, 1024),
    "model.head": _WIDTH,
    "model.dropout": number(0, 1, below=True),
    "model.shortcut": choice(*CHOICES["shortcut"]),
    "model.stem": choice(*CHOICES["stem"]),
    "model.patch": _WIDTH,
    "model.blocks": whole(1, 1000),
    "model.heads": _WIDTH,
    "model.readout": choice(*CHOICES["readout"]),
    "model.kv_heads": _WIDTH,
    "model.positions": choice(*CHOICES["positions"]),
    "model.tied": switch(),
    "opt.name": choice(*OPTIMIZERS),
    "opt.learning_rate": number(0, above=True),
    "opt.momentum": number(0, 1, below=True),
    "opt.beta2": number(0, 1, below=True),
    "opt.weight_decay": number(0),
    "opt.clip": number(0),
    "opt.ema": number(0, 1, below=True),
    "opt.schedule": choice(*SCHEDULES),
    "opt.decay_at": _FRACTION,
    "opt.decay_factor": number(0),
    "opt.warmup": _FRACTION,
    "train.pair": choice(*PAIRS),
    "train.noise": number(0),
    "train.fresh": text(),
    "train.networks": whole(2, 26),
    "train.epochs": whole(1, _EPOCHS),
    "train.spawn_epochs": number(0),
    "train.spawn_steps": _COUNT,
    "train.control": switch(),
    "train.spawn_sweep": number(0),
    "train.batch_size": whole(1),
    "train.checkpoint_every_epochs": whole(1),
    "train.checkpoint_every_minutes": number(0),
    "train.precision": choice(*PRECISIONS),
    "eval.batch_size": whole(1),
    "eval.train_examples": _COUNT,
    "eval.alpha_chunk": _COUNT,
    "lmc.num_alphas": whole(2, 10_001),
    "llfc.alphas": _FRACTION,
    "path.kind": choice(LINE, *BENT),
    "path.star": switch(),
    "path.tasks": finite(),
    "path.steps": whole(1, 2**31 - 1),
    "path.learning_rate": number(0, above=True),
    "plane.size": whole(0, _SEVERAL),
    "principal_angles.top_k": whole(1),
    "corrections.recompute": switch(),
    "corrections.repair": switch(),
    "corrections.examples": _COUNT,
    "align.method": choice("none", *MATCHERS, UNIVERSE),
    "align.restarts": whole(1, _DESCENTS),
    "align.max_sweeps": whole(1, _DESCENTS),
    "align.statistic": choice(*STATISTICS),
    "align.examples": _COUNT,
    "align.epochs": whole(1, _EPOCHS),
    "align.learning_rate": number(0, above=True),
    "align.relaxation": choice(*RELAXATIONS),
    "align.ladder": switch(),
    "align.classes": choice(*KINDS, ROTARY),
    "sample.length": whole(0, 100_000),
    "sample.prompt": text(),
    "sample.temperature": number(0),
    "merge.alpha": _FRACTION,
    "merge.weights": number(0),
    "verdict.max_error_barrier": _FRACTION,
    "verdict.max_loss_barrier": number(0),
    "verdict.max_llfc": number(0),
    "verdict.chance": _FRACTION,
    "verdict.confidence": number(0, 0.9999),
}
"""Field -> what its value, or each of several, has to be."""

_OWN = re.compile(r"opt\.\w+|data\.(train_split|classes|augment)")
"""Fields that a single network can have of its own."""


def validate(config: ConfigDict) -> None:
    """Check types, ranges and choices of all fields, and that they go together.

    Raises:
        UserError: names the first field at fault, what was expected, what was found.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(f"config: expected get_config to return a ConfigDict; found {type(config).__name__}")
    found, by_default = dict(fields(config)), defaults()
    for field, preset in by_default.items():
        if field not in found:
            raise UserError(
                f"config.{field}: expected the fields of configs/default.py; found none of this name"
            )
        if found[field] is not None or preset is not None:
            _check(field, found[field], several=_is_several(field, preset))
    file_name(config)
    for field in ("data.data_dir", "pair.a", "pair.b"):
        if found[field]:
            expand(found[field], f"config.{field}")
    options_of(config.model)
    _check_images(config)
    _check_pairs(config)
    _check_spawning(config)
    _check_only(config)


def _is_several(field: str, preset: Any) -> bool:
    return isinstance(preset, tuple) or field in ("data.mean", "data.std", "model.hidden", "model.head")


def _check(field: str, value: Any, *, several: bool, of: str = "") -> None:
    rule, where = RULES[field], f"config.{of}{field}"
    if several and not isinstance(value, tuple | list):
        raise UserError(f"{where}: expected several, each {rule.expected}; found {shown(value)}")
    if several and len(value) > _SEVERAL:
        raise UserError(f"{where}: expected {_SEVERAL} values at most; found {len(value)}")
    for one in value if several else (value,):
        if not rule.fits(one):
            raise UserError(f"{where}: expected {rule.expected}; found {shown(one)}")


def _check_images(config: ConfigDict) -> None:
    """How images of any size come to one."""
    size, resize = config.data.size, config.data.resize
    if size is None and (resize is not None or config.data.crop == RESIZED):
        raise UserError(
            "config.data.size: expected a side in pixels, for data.resize and data.crop=resized; found None"
        )
    if size is not None and resize is not None and resize < size:
        raise UserError(f"config.data.resize: expected data.size={size} at least; found {resize}")


def _check_pairs(config: ConfigDict) -> None:
    """Fields that go together."""
    for section, names in (("pair", ("a", "b")), ("data", ("mean", "std"))):
        given = [bool(config[section][name]) for name in names]
        if any(given) and not all(given):
            one, other = (f"config.{section}.{name}" for name in names)
            raise UserError(f"{one} and {other}: expected both or none; found one")
    if config.pair.a is not None and config.train.networks != 2:
        raise UserError(
            f"config.train.networks: expected 2 with config.pair.a and b; found {config.train.networks}"
        )
    if config.pair.entry and not config.pair.a:
        raise UserError("config.pair.entry: expected config.pair.a and b; found none")
    if weights := config.merge.weights:
        if config.merge.alpha is not None:
            raise UserError("config.merge.alpha and config.merge.weights: expected one of them; found both")
        if len(weights) != config.train.networks or not sum(weights):
            raise UserError(
                f"config.merge.weights: expected {config.train.networks}, one for each network, not all 0; "
                f"found {weights}"
            )
    few = config.train.networks == 2 and config.align.method == "none" and config.path.kind == LINE
    if config.plane.size and few:
        raise UserError(
            "config.plane.size: expected three networks, by config.train.networks=3, an align.method or a "
            "path.kind; found a and b alone"
        )
    if config.plane.size and config.train.pair == TWINS and not config.train.noise and not config.only:
        raise UserError("config.plane.size: expected different networks; found twins of train.noise=0")
    if config.align.ladder and config.align.method in ("none", UNIVERSE):
        raise UserError(
            f"config.align.ladder: expected an align.method of two networks; found {config.align.method}"
        )
    if config.plane.size == 1:
        raise UserError("config.plane.size: expected 0, or 2 points a side at least; found 1")
    if config.path.star and config.train.spawn_sweep:
        raise UserError("config.path.star: expected networks of one spawn epoch; found train.spawn_sweep")
    if (tasks := config.path.tasks) and len(tasks) != config.train.networks:
        raise UserError(
            f"config.path.tasks: expected {config.train.networks}, one for each network; found {tasks}"
        )
    if not config.llfc.alphas:
        raise UserError("config.llfc.alphas: expected one at least; found none")


def _check_spawning(config: ConfigDict) -> None:
    """That spawning comes within training, where the run trains and spawns."""
    sweep = config.train.spawn_sweep
    for field, unfit in (
        ("train.pair", config.train.pair == INDEPENDENT),
        ("train.spawn_steps", config.train.spawn_steps is not None),
        ("pair.a", config.pair.a is not None),
        ("merge.alpha", config.merge.alpha is not None),
        ("merge.weights", bool(config.merge.weights)),
    ):
        if sweep and unfit:
            raise UserError(f"config.train.spawn_sweep={sweep} doesn't go with config.{field}")
    no_trunk = (
        ("train.pair=independent: its networks are unconnected", config.train.pair == INDEPENDENT),
        ("pair.a: nothing is trained", config.pair.a is not None),
    )
    swept = ("train.spawn_sweep: its first pair is unconnected", bool(sweep))
    for field, whys in (
        ("train.control", (*no_trunk, swept)),
        ("train.fresh", no_trunk),
        ("path.tasks", no_trunk),
        ("only", no_trunk[1:]),
    ):
        section, _, name = field.partition(".")
        for why, unfit in whys:
            if (config[section][name] if name else len(config[section])) and unfit:
                raise UserError(f"config.{field} doesn't go with config.{why}")
    if config.pair.a is not None or config.train.pair == INDEPENDENT or config.train.spawn_steps is not None:
        return
    field, latest = ("spawn_sweep", max(sweep)) if sweep else ("spawn_epochs", config.train.spawn_epochs)
    if latest > config.train.epochs:
        raise UserError(
            f"config.train.{field}: expected train.epochs={config.train.epochs} at most; found {latest}"
        )


def _check_only(config: ConfigDict) -> None:
    """What single networks have of their own: that there are such networks, and that they can."""
    names, presets = network_names(config.train.networks), defaults()
    for name, own in config.only.items():
        if name not in names or not isinstance(own, ConfigDict):
            raise UserError(
                f"config.only: expected fields of networks, of {', '.join(names)}; found {shown(name)}"
            )
        for field, value in fields(own):
            if field not in presets or not _OWN.fullmatch(field):
                raise UserError(
                    f"config.only.{name}.{field}: expected a field of opt, or data.train_split, "
                    "data.classes or data.augment"
                )
            _check(field, value, several=isinstance(presets[field], tuple), of=f"only.{name}.")
