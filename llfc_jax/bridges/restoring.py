"""What a call may not change: a module's own memory, and the state of torch, NumPy and Python."""

import contextlib
import random
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from llfc_jax.errors import UserError

_FOLLOWS = {"training", "_flat_weights", "_flat_weight_refs"}
"""Attributes that follow the mode, and the weights in PyTorch's recurrent modules."""


class _Attribute(NamedTuple):
    """What an attribute held, and a copy of what was in it."""

    value: Any
    content: Any


@contextlib.contextmanager
def unchanged(torch: ModuleType, module: Any) -> Iterator[None]:
    """Give back a module and the global state after a call as they were before it.

    Within it gradients are off, and so is the path of attention that leaves submodules out.

    Raises:
        UserError: the call went well, but wrote an attribute of the module or drew random numbers.
    """
    parts = dict(module.named_modules())
    before = {path: _attributes(torch, part) for path, part in parts.items()}
    generators = _generators(torch)
    fast_attention, dtype = torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            yield
        for path, part in parts.items():
            for name in _written(torch, part, before[path]):
                raise UserError(f"writes its attribute {path}{'.' if path else ''}{name} when it is called")
        for name, state in _generators(torch).items():
            if not _equal(torch, state, generators[name]):
                raise UserError(f"draws random numbers from {name}")
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        torch.set_default_dtype(dtype)
        torch.set_rng_state(generators["torch"])
        np.random.set_state(generators["numpy.random"])  # noqa: NPY002 (it is the module's)
        random.setstate(generators["Python's random"])
        for path, part in parts.items():
            _restore(torch, part, before[path])


def _generators(torch: ModuleType) -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        "numpy.random": np.random.get_state(),  # noqa: NPY002
        "Python's random": random.getstate(),
    }


def _attributes(torch: ModuleType, part: Any) -> dict[str, _Attribute]:
    return {name: _Attribute(value, _content(torch, value)) for name, value in vars(part).items()}


def _content(torch: ModuleType, value: Any) -> Any:
    if torch.is_tensor(value):
        return value.detach().clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | dict | set):
        return value.copy()
    return value


def _written(torch: ModuleType, part: Any, before: dict[str, _Attribute]) -> Iterator[str]:
    """The attributes that hold something else than before."""
    now = vars(part)
    for name in dict.fromkeys([*now, *before]):
        if name in _FOLLOWS or name in _computed_by_hooks(part):
            continue
        if name not in now or name not in before or not _kept(torch, before[name], now[name]):
            yield name


def _computed_by_hooks(part: Any) -> set[str]:
    """The weights that `torch.nn.utils` computes before each call: normalised by their norm, or pruned."""
    hooks = [
        hook for hook in part._forward_pre_hooks.values() if type(hook).__module__.startswith("torch.nn.")
    ]
    return {getattr(hook, "name", getattr(hook, "_tensor_name", "")) for hook in hooks}


def _kept(torch: ModuleType, before: _Attribute, now: Any) -> bool:
    if torch.is_tensor(now) or isinstance(now, np.ndarray | list | dict | set):
        return now is before.value and _equal(torch, now, before.content)
    return now is before.value or _equal(torch, now, before.value)


def _equal(torch: ModuleType, one: Any, other: Any) -> bool:
    """Whether two values of a kind hold the same; what is in a container is told by its identity."""
    if type(one) is not type(other):
        return False
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(one[key] is other[key] for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(x is y for x, y in zip(one, other, strict=True))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_equal(torch, x, y) for x, y in zip(one, other, strict=True))
    return one is other or (isinstance(one, bool | int | float | str | set) and one == other)


def _restore(torch: ModuleType, part: Any, before: dict[str, _Attribute]) -> None:
    now = vars(part)
    for name in now.keys() - before.keys():
        del now[name]
    for name, (value, content) in before.items():
        now[name] = value
        if torch.is_tensor(value) or isinstance(value, np.ndarray):
            if not _equal(torch, value, content):
                with torch.no_grad():
                    value[...] = content
        elif isinstance(value, list):
            value[:] = content
        elif isinstance(value, dict | set):
            value.clear()
            value.update(content)
