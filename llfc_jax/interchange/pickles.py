"""Pickles as data: names are looked up in a short list, and nothing that isn't on it is ever called.

Beside its weights a training script saves what it likes: arguments, paths, callbacks, classes of its own. An
object that is no array and no dictionary becomes an empty `LeftOut`, whatever it was; what the standard
library would do, rather than hold, is refused. A dtype is made by NumPy, not by the pickle, which could make
pointers of an array's bytes. A module in the manner of `pickle`, for `torch.load`.
"""

import builtins
import collections
import io
import pickle
import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # names of Python 2, which protocols below 3 use
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from llfc_jax.errors import UserError

__all__ = ["LeftOut", "Unpickler", "load"]


class LeftOut(dict):
    """What stands for an object of a class that isn't on the list; its items are kept, if it has any."""

    title: ClassVar[str]
    """The class's name."""
    dump_patches: ClassVar[bool] = False
    """What PyTorch's releases before 1.6 ask modules."""

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        del args, kwargs

    def __repr__(self) -> str:
        return self.title

    def __setstate__(self, state: Any) -> None:
        del state

    def append(self, item: Any) -> None:
        """As pickles fill what is a list, or a set."""
        del item

    extend = add = append


class Unpickler(pickle.Unpickler):
    """Makes arrays, dictionaries, and what stands for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """What is called for a name in the pickle, or stands for it.

        Raises:
            UserError: it would do something.
        """
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if (found := _KNOWN.get(full) or _of_torch(module, name)) is not None:
            return found
        if _acts(module, name):
            raise UserError(
                "expected tensors alone, as torch.save(model.state_dict(), ...) writes them; "
                f"found {full}, which was not run"
            )
        return type("LeftOut", (LeftOut,), {"title": full})


def load(file: Any, **options: Any) -> Any:
    """One object from a file."""
    return Unpickler(file, **options).load()


_INERT = (
    *("argparse", "array", "collections", "copyreg", "dataclasses", "datetime", "decimal", "enum"),
    *("fractions", "functools", "inspect", "ipaddress", "itertools", "logging", "numbers", "operator"),
    *("pathlib", "random", "re", "string", "time", "types", "typing", "uuid", "zoneinfo"),
)
"""Modules of the standard library whose objects are saved beside weights."""

_TORCH = frozenset(
    {f"torch._utils._rebuild_{what}" for what in ("tensor", "tensor_v2", "tensor_v3", "parameter", "qtensor")}
    | {f"torch._utils._rebuild_{what}tensor" for what in ("sparse_", "sparse_csr_")}
    | {f"torch._utils._rebuild_{what}" for what in ("meta_tensor_no_storage", "device_tensor_from_numpy")}
    | {"torch._utils._rebuild_device_tensor_from_cpu_tensor", "torch.serialization._get_layout"}
    | {"torch.Size", "torch.device", "torch.Tensor", "torch.nn.parameter.Parameter"}
    | {"torch.storage.UntypedStorage", "torch.storage.TypedStorage"}
)
"""What PyTorch makes tensors of, which its own `weights_only` calls, too; in `torch` itself: types."""


def _of_torch(module: str, name: str) -> Any:
    """One of those, or a type of numbers, in the PyTorch that is imported."""
    if f"{module}.{name}" in _TORCH:
        return getattr(sys.modules.get(module), name, None)
    if module != "torch" or module not in sys.modules:
        return None
    torch = sys.modules[module]
    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype | torch.layout | torch.qscheme) else None


class _Kind(LeftOut):
    """A dtype as a pickle describes it. NumPy makes it, and checks it, when an array is made of it."""

    title = "numpy.dtype"

    def __init__(self, code: Any = "", *others: Any) -> None:
        super().__init__()
        del others
        self.code = code
        self.state: Any = 3, "|", None, None, None, -1, -1, 0

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def made(self) -> np.dtype:
        """The dtype, anew each time: what a later opcode does to this one changes no array.

        Raises:
            ValueError: there is none.
            TypeError: there is none, or it isn't one of numbers.
        """
        _, order, part, names, fields, size, *others = self.state
        if part is not None:
            return np.dtype((part[0].made(), part[1]))
        if names is not None:
            kinds, offsets = zip(*(fields[name][:2] for name in names), strict=True)
            formats = [kind.made() for kind in kinds]
            described = {"names": list(names), "formats": formats, "offsets": list(offsets), "itemsize": size}
            return np.dtype(described)  # type: ignore[call-overload]
        if isinstance(self.code, type) and issubclass(self.code, LeftOut):
            return np.dtype(_number(self.code.title))
        if not re.fullmatch(r"[<>|=]?\w+", self.code):
            raise ValueError(f"no dtype is called {self.code!r}")
        unit, number = others[2][1][:2] if len(others) > 2 else (b"", 0)  # of times
        name = f"{self.code}[{number}{unit.decode()}]" if unit else self.code
        return np.dtype(name).newbyteorder("=" if order == "|" else order)


def _number(full: str) -> type[np.generic]:
    module, _, name = full.rpartition(".")
    found = getattr({"numpy": np, "ml_dtypes": ml_dtypes}.get(module), name, None)
    if isinstance(found, type) and issubclass(found, np.generic):
        return found
    raise ValueError(f"{full} is no type of numbers")


class _Array(np.ndarray):
    """An array to be filled."""

    def __setstate__(self, state: Any) -> None:
        *before, kind, is_fortran, content = state
        super().__setstate__((*before, kind.made(), is_fortran, content))


def _acts(module: str, name: str) -> bool:
    top = module.partition(".")[0]
    if top == "builtins":
        return (
            isinstance(getattr(builtins, name, None), BuiltinFunctionType | FunctionType)
            and name != "getattr"
        )
    return top in sys.stdlib_module_names and top not in _INERT


def _encoded(text: str, encoding: str) -> bytes:
    """`codecs.encode`, by which protocols below 3 write bytes."""
    del encoding
    return text.encode("latin1")


def _typed(function: Callable[..., Any], kind: type, arguments: tuple[Any, ...], state: Any) -> Any:
    """`torch._tensor._rebuild_from_type_v2`: a tensor with attributes, which are dropped."""
    del kind, state
    return function(*arguments)


def _parameter(tensor: Any, *others: Any) -> Any:
    """`torch._utils._rebuild_parameter_with_state`, of which the tensor counts."""
    del others
    return tensor


def _storage(content: bytes) -> Any:
    """`torch.storage._load_from_bytes`, by which pickle itself writes tensors."""
    import torch

    this = sys.modules[__name__]
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False, pickle_module=this)


def _dictionary(*factory: Any) -> dict:
    del factory
    return {}


def _array(*others: Any) -> _Array:
    """`_reconstruct`: an empty array, of whatever subclass, to be filled by its state."""
    del others
    return _Array(0)


def _scalar(kind: _Kind, content: Any) -> Any:
    """`scalar`; NumPy would make as many zeros as the dtype has bytes where the content is empty."""
    dtype = kind.made()
    if not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise ValueError(f"a number of {dtype.itemsize} bytes without its bytes")
    return _SCALAR(dtype, content)


def _from_buffer(buffer: Any, kind: _Kind, *others: Any) -> Any:
    return _FROM_BUFFER(buffer, kind.made(), *others)


def _of_jax(function: Callable[..., Any], arguments: tuple[Any, ...], state: Any, aval: Any) -> np.ndarray:
    """`jax._src.array._reconstruct_array`, as NumPy's."""
    del aval
    array = function(*arguments)
    array.__setstate__(state)
    return array


def _old_object(kind: type, *others: Any) -> Any:
    """`copyreg._reconstructor`, by which protocols below 2 make objects."""
    del others
    return kind()


_SCALAR: Any = np.float64(0).__reduce__()[0]
_FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
_MULTIARRAY = {
    f"numpy.{core}.{name}": function
    for core in ("core.multiarray", "_core.multiarray", "core.numeric", "_core.numeric")
    for name, function in (("scalar", _scalar), ("_reconstruct", _array), ("_frombuffer", _from_buffer))
}

_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.Counter": collections.Counter,
    "collections.defaultdict": _dictionary,
    "copyreg._reconstructor": _old_object,
    "_codecs.encode": _encoded,
    "jax._src.array._reconstruct_array": _of_jax,
    "numpy.dtype": _Kind,
    "torch.storage._load_from_bytes": _storage,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    **_MULTIARRAY,
}
"""Name in a pickle -> what is called for it."""
