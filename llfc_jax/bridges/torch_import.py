"""PyTorch and torchax, imported together even where their releases differ, with torch left as it was."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax

from llfc_jax.errors import UserError, first_line

TORCH, TORCHAX = (2, 6), (0, 0, 13)
"""The oldest that are admitted; the newest tried are 2.14 and 0.0.13. What a release computes otherwise,
every reading finds by comparing with PyTorch itself."""

INSTALL = "pip install 'llfc_jax[torch]'"


def import_torch() -> tuple[ModuleType, ModuleType]:
    """PyTorch and torchax.

    torchax lists operators of the PyTorch that it was written for, and fails where one is gone, or one of its
    overloads: what no longer exists can't be called, so a placeholder stands for it. Importing torchax also
    switches a fast path of attention off for the whole process, and registers an accelerator: both are undone
    (see `device_of_torchax`). That torch calls its spare backend `jax` from then on can't be.

    Raises:
        UserError: one of them is missing, older than those tested, or they don't go together.
    """
    torch = _import("torch", TORCH)
    if "torchax" in sys.modules:
        return torch, _import("torchax", TORCHAX)
    with _placeholders_for_lost_operators(torch), _global_state_kept(torch):
        return torch, _import("torchax", TORCHAX)


@contextlib.contextmanager
def device_of_torchax() -> Iterator[None]:
    """Within it torch knows a device called `jax`, which it would else take for an accelerator to move to."""
    torch, torchax = import_torch()
    if hasattr(torch, "jax"):  # someone else has imported torchax
        yield
        return
    torch._register_device_module("jax", torchax.device_module)
    try:
        yield
    finally:
        del torch.jax, sys.modules["torch.jax"]


def _import(name: str, oldest: tuple[int, ...]) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise UserError(f"from_torch: {name} can't be imported: {first_line(error)}") from error
        raise UserError(f"from_torch: expected PyTorch and torchax ({INSTALL}); found no {name}") from error
    except Exception as error:
        raise UserError(f"from_torch: {name} can't be imported: {first_line(error)}") from error
    numbers = module.__version__.partition("+")[0].split(".")
    found = tuple(int(number) for number in numbers if number.isdigit())
    if found < oldest:
        expected = ".".join(map(str, oldest))
        raise UserError(f"from_torch: expected {name} {expected} or newer; found {module.__version__}")
    return module


class _Lost:
    """Stands for an operator, or an overload of one, that PyTorch no longer has."""

    def __getattr__(self, name: str) -> "_Lost":
        return _Lost()


@contextlib.contextmanager
def _placeholders_for_lost_operators(torch: ModuleType) -> Iterator[None]:
    """Within it, and for torchax's own lines alone, any operator and any overload can be named."""
    named = (torch._ops._OpNamespace, torch._ops.OpOverloadPacket)
    lookups = [kind.__getattr__ for kind in named]
    for kind, lookup in zip(named, lookups, strict=True):
        kind.__getattr__ = _lenient(lookup)
    try:
        yield
        importlib.import_module("torchax.tensor").Environment()  # torchax loads its operators with the first
    finally:
        for kind, lookup in zip(named, lookups, strict=True):
            kind.__getattr__ = lookup


def _lenient(lookup: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def lenient(self: Any, name: str) -> Any:
        try:
            return lookup(self, name)
        except AttributeError:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.partition(".")[0] != "torchax":
                raise
            return _Lost()

    return lenient


@contextlib.contextmanager
def _global_state_kept(torch: ModuleType) -> Iterator[None]:
    """Within it, importing torchax may set what it likes for the whole process."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    environment, had_device = dict(os.environ), hasattr(torch, "jax")
    options = getattr(jax.config, "jax_pjrt_client_create_options", None)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        if not had_device and hasattr(torch, "jax"):
            del torch.jax, sys.modules["torch.jax"]
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        if options is not None:
            jax.config.update("jax_pjrt_client_create_options", options)
