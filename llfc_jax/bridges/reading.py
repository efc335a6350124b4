"""One call of a PyTorch module, by PyTorch or through torchax, that leaves the module and torch as found."""

import contextlib
import itertools
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llfc_jax import bridges
from llfc_jax.bridges.entries import entries
from llfc_jax.bridges.restoring import unchanged
from llfc_jax.bridges.torch_import import device_of_torchax, import_torch
from llfc_jax.bridges.translation import DrawsNumbersError, drawing_from, environment, without_dropout
from llfc_jax.errors import UserError, first_line
from llfc_jax.types import PRNGKey


class Call(NamedTuple):
    """What a module is called with."""

    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


class Run(NamedTuple):
    """What a module did: arrays by name."""

    outputs: dict[str, Any]
    features: dict[str, Any]
    """Submodule -> what it returned, in the order of computation."""
    tensors: dict[str, Any]
    """Parameters and buffers afterwards."""


def run_in_torch(module: Any, tensors: dict[str, Any], call: Call, *, training: bool) -> Run:
    """Call a module with other tensors in the place of its own.

    Args:
        module: left as it is found.
        tensors: name -> tensor, for all names of its parameters and buffers; they may be written.
        call: with tensors.
        training: training mode, but for dropout, which is off.

    Returns:
        Tensors.

    Raises:
        UserError: the module fails, draws random numbers, or writes its attributes.
    """
    return _run(module, tensors, call, training, lambda tensor: tensor.detach().clone(), without_dropout)


def run_in_jax(
    module: Any, tensors: dict[str, Any], call: Call, *, training: bool, key: PRNGKey | None = None
) -> Run:
    """The same with arrays of JAX, traced ones among them. See `run_in_torch`.

    With a key, dropout is on, and drawn from it.

    Raises:
        UserError: besides, the module asks for values that are only known when it is run, or for an operator
            that JAX doesn't have.
    """
    torch, _ = import_torch()
    env = environment()
    wrapped = {id(array): env.j2t_iso(array) for array in tensors.values()}  # one tensor for all its names
    named = {name: wrapped[id(array)] for name, array in tensors.items()}

    @contextlib.contextmanager
    def translated() -> Iterator[None]:
        with device_of_torchax(), env, torch.device("jax"):
            yield

    quiet = without_dropout if key is None else lambda *_: drawing_from(key)
    return _run(module, named, Call(*env.j2t_iso(tuple(call))), training, env.t2j_iso, quiet, translated)


def _run(
    module: Any,
    tensors: dict[str, Any],
    call: Call,
    training: bool,
    take: Callable[[Any], Any],
    dropping: Callable[[Any, Any], contextlib.AbstractContextManager[None]],
    where: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Run:
    torch, _ = import_torch()
    with warnings.catch_warnings(), _watched(module, take) as watch, _one_line(watch):
        warnings.simplefilter("ignore")  # of integers of 64 bits that become 32, and the module's own
        with unchanged(torch, module):
            module.train(training)
            in_mode = dropping(torch, module) if training else contextlib.nullcontext()
            with where(), in_mode, torch.compiler.set_stance("force_eager"):
                outputs = torch.func.functional_call(
                    module, tensors, call.arguments, call.keywords, tie_weights=False
                )
    found = entries(outputs, torch.is_tensor)
    return Run(
        outputs={name: take(tensor) for name, tensor in found.items()},
        features=_features(watch.returned),
        tensors={name: take(tensor) for name, tensor in tensors.items()},
    )


class _Watch(NamedTuple):
    """What is seen of the submodules of a module while it runs."""

    within: list[str]
    """The submodules that have been entered and not left."""
    returned: list[tuple[str, dict[str, Any]]]
    """A submodule and the arrays that a call of it returned, in order."""


@contextlib.contextmanager
def _watched(module: Any, take: Callable[[Any], Any]) -> Iterator[_Watch]:
    """Note what submodules return, when they return it: what is written in place later is not seen."""
    torch, _ = import_torch()
    watch = _Watch([], [])
    hooks = []

    def leave(path: str, outputs: Any) -> None:
        watch.within.pop()
        found = entries(outputs, torch.is_tensor)
        watch.returned.append((path, {name: take(tensor) for name, tensor in found.items()}))

    try:
        for path, part in module.named_modules():
            hooks += [
                part.register_forward_pre_hook(lambda *_, path=path: watch.within.append(path)),
                part.register_forward_hook(lambda _, __, outputs, path=path: leave(path, outputs)),
            ]
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _features(returned: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """By path, with `/0`, `/1` for the calls of a submodule, and `[entry]` for several arrays of one."""
    calls = Counter(path for path, _ in returned)
    seen: Counter[str] = Counter()
    features = {}
    for path, arrays in returned:
        call = f"/{seen[path]}" if calls[path] > 1 else ""
        seen[path] += 1
        for entry, array in arrays.items():
            features[f"{path}{call}[{entry}]" if len(arrays) > 1 else f"{path}{call}"] = array
    features.pop("", None)
    return {name: array for name, array in features.items() if not name.startswith("[")}


@contextlib.contextmanager
def _one_line(watch: _Watch) -> Iterator[None]:
    """Turn whatever a module's call raises into one line with its place."""
    _, torchax = import_torch()
    try:
        yield
    except UserError as error:
        raise UserError(f"from_torch: the module {error}") from error
    except DrawsNumbersError as error:
        raise UserError(f"from_torch: {_place(watch, error)} draws random numbers") from error
    except torchax.tensor.OperatorNotFound as error:
        operator = str(error).removeprefix("Operator with name ").removesuffix(" has no lowering")
        raise UserError(
            f"from_torch: {_place(watch, error)}: torchax {torchax.__version__} has no {operator} in JAX"
        ) from error
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise UserError(
            f"from_torch: {_place(watch, error)} branches on data, or has shapes that depend on it; "
            "expected the same operations for all inputs"
        ) from error
    except Exception as error:
        raise UserError(
            f"from_torch: {_place(watch, error)} fails: {type(error).__name__}: {first_line(error)}"
        ) from error


def _place(watch: _Watch, error: BaseException) -> str:
    """The submodule, and the line of the user's file: the last before an operator of torchax."""
    inner = watch.within[-1] if watch.within else ""
    torch, torchax = import_torch()
    *ours, operators = (Path(str(library.__file__)).parent for library in (torch, jax, bridges, torchax))
    frames = [(Path(frame.filename), frame) for frame in traceback.extract_tb(error.__traceback__)]
    before = itertools.takewhile(lambda found: not found[0].is_relative_to(operators), frames)
    lines = [
        frame
        for path, frame in before
        if path != Path(contextlib.__file__) and not any(map(path.is_relative_to, ours))
    ]
    line = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}: {lines[-1].line}" if lines else ""
    named = f"the module's {inner}" if inner else "the module"
    return f"{named} ({line})" if line else named
