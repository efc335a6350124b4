"""Optimizers and learning-rate schedules by name, all of them optax's."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from llfc_jax.errors import UserError
from llfc_jax.types import PyTree

Schedule = Callable[[Any], Any]

_NOT_DECAYED = ("bias", "scale")
"""What AdamW leaves alone, with all vectors: pulling an offset or a scale to zero regularises nothing."""


def step_decay(config: Mapping[str, Any], steps: int) -> Schedule:
    """Times `decay_factor` at the fractions `decay_at` of training (the paper: 0.1 at 1/2 and 3/4)."""
    boundaries = Counter(round(fraction * steps) for fraction in config["decay_at"])
    factors = {step: config["decay_factor"] ** times for step, times in boundaries.items()}
    return optax.piecewise_constant_schedule(config["learning_rate"], factors)


def warmup_cosine(config: Mapping[str, Any], steps: int) -> Schedule:
    """Linear warm-up over the first `warmup` fraction, then a cosine to zero (Git Re-Basin)."""
    warmup_steps = round(config["warmup"] * steps)
    return optax.warmup_cosine_decay_schedule(
        init_value=config["learning_rate"] / max(warmup_steps, 1),
        peak_value=config["learning_rate"],
        warmup_steps=warmup_steps,
        decay_steps=max(steps, warmup_steps + 1),
    )


def constant(config: Mapping[str, Any], steps: int) -> Schedule:
    """The same rate throughout."""
    del steps
    return optax.constant_schedule(config["learning_rate"])


def sgd(config: Mapping[str, Any], schedule: Schedule) -> optax.GradientTransformation:
    """SGD with momentum; weight decay joins the gradient before the momentum, as in PyTorch."""
    return optax.chain(
        optax.add_decayed_weights(config["weight_decay"]),
        optax.sgd(schedule, momentum=config["momentum"] or None),
    )


def adam(config: Mapping[str, Any], schedule: Schedule) -> optax.GradientTransformation:
    """Adam; weight decay joins the gradient (L2), as in PyTorch."""
    return optax.chain(
        optax.add_decayed_weights(config["weight_decay"]), optax.adam(schedule, b2=config["beta2"])
    )


def adamw(config: Mapping[str, Any], schedule: Schedule) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019); weight decay is of kernels and embeddings alone."""
    return optax.adamw(schedule, b2=config["beta2"], weight_decay=config["weight_decay"], mask=is_decayed)


def is_decayed(params: PyTree) -> PyTree:
    """True for each array that AdamW decays: all but biases and the scales of norms.

    Example:
        >>> is_decayed({"kernel": np.ones((3, 4, 2)), "bias": np.ones((4, 2)), "scale": np.ones(2)})
        {'bias': False, 'kernel': True, 'scale': False}
    """

    def decays(path: tuple[Any, ...], leaf: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator=".").rpartition(".")[2]
        return np.ndim(leaf) > 1 and name not in _NOT_DECAYED

    return jax.tree.map_with_path(decays, params)


SCHEDULES: dict[str, Callable[[Mapping[str, Any], int], Schedule]] = {
    "step": step_decay,
    "cosine": warmup_cosine,
    "constant": constant,
}

OPTIMIZERS: dict[str, Callable[[Mapping[str, Any], Schedule], optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}


def build(config: Mapping[str, Any], steps: int) -> tuple[optax.GradientTransformation, Schedule]:
    """The optimizer and the schedule that `config` asks for, over `steps` steps.

    Raises:
        UserError: an unknown name, or a number out of range.
    """
    for field, choices in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
        if config[field] not in choices:
            raise UserError(f"opt.{field}: expected one of {', '.join(choices)}; found {config[field]!r}")
    for field in ("decay_at", "warmup"):
        fractions = config[field] if field == "decay_at" else (config[field],)
        if not all(0 <= fraction <= 1 for fraction in fractions):
            raise UserError(f"opt.{field}: expected fractions of training in [0, 1]; found {config[field]}")
    if not config["learning_rate"] > 0:
        raise UserError(f"opt.learning_rate: expected a positive number; found {config['learning_rate']}")
    schedule = SCHEDULES[config["schedule"]](config, steps)
    optimizer = OPTIMIZERS[config["name"]](config, schedule)
    if config["clip"]:
        optimizer = optax.chain(optax.clip_by_global_norm(config["clip"]), optimizer)
    return optimizer, schedule
